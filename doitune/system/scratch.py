"""Scratch: bytes that do not fit into memory, in a file without a name, which is gone with the process,
however that ends."""

from __future__ import annotations

import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from doitune.errors import DiskError
from doitune.system.disk import disk_error, make_folder
from doitune.system.units import MIB

CACHE_CURE = "make room, or set XDG_CACHE_HOME to a folder elsewhere"
"""What helps where the cache cannot be written."""


def cache_folder() -> Path:
    """doitune's folder in the user's cache ($XDG_CACHE_HOME, or ~/.cache)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "doitune"


def _cured(error: OSError | DiskError) -> DiskError:
    """What the disk says, with what helps."""
    said = error if isinstance(error, DiskError) else disk_error(cache_folder(), error)
    return DiskError(said.problem, CACHE_CURE)


class Scratch:
    """Bytes that are added at the end and read anywhere, by a call or as an array that is mapped, so that
    they take no memory of this process. Errors: DiskError."""

    def __init__(self) -> None:
        self.size = 0
        self._flushed = True

    @classmethod
    def of(cls, path: Path) -> Scratch:
        """The bytes of a file that is there, to be read."""
        found = cls()
        found.__dict__["_file"] = path.open("rb", buffering=0)
        found.size = path.stat().st_size
        return found

    @cached_property
    def _file(self) -> IO[bytes]:
        """Opened by the first byte."""
        try:
            make_folder(cache_folder())
            return tempfile.TemporaryFile(dir=cache_folder(), buffering=MIB)
        except (OSError, DiskError) as error:
            raise _cured(error) from error

    def add(self, data: bytes) -> None:
        """Add bytes at the end."""
        try:
            self._file.write(data)  # a full buffer writes
        except OSError as error:
            raise _cured(error) from error
        self.size += len(data)
        self._flushed = False

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`."""
        try:
            if not self._flushed:
                self._file.flush()
                self._flushed = True
            found = os.pread(self._file.fileno(), size, start)
        except OSError as error:
            raise _cured(error) from error
        if len(found) < size:
            raise RuntimeError(f"{len(found)} of {size} bytes at {start} of {self.size}")
        return found

    def mapped(self, kind: Any, *, changed: bool = False) -> Any:
        """All bytes as a numpy array; nothing is added afterwards. `changed`: it will be written to."""
        import numpy as np

        if not self.size:
            return np.zeros(0, kind)
        self.read(0, 0)  # what is still in the buffer goes to the disk
        return np.memmap(self._file, kind, "r+" if changed else "r").view(np.ndarray)
