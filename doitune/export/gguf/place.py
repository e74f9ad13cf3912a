"""The folder of GGUF files while they are made: a file is written under a hidden name, then whole under
another, and takes its own once it is proved. What a killed process left is gone on with, or swept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.base.folder import RECORD, REPORT
from doitune.base.make import ROOM
from doitune.errors import DiskError, DoituneError
from doitune.export.out import read_export, taken
from doitune.system.disk import file_sha256, make_folder, rename, sync_file, sync_folder
from doitune.system.lock import hold

Prove = Callable[[Path], dict[str, Any]]
"""Says what is known of a file; DoituneError where it must not take its name."""


@dataclass(frozen=True)
class Place:
    """`made_of`: hash of all that the files' bytes depend on; what is whole under another one is swept."""

    folder: Path
    made_of: str

    @property
    def mark(self) -> str:
        """How the hidden names of its whole files end."""
        return f".{self.made_of[:16]}.whole"

    def written(self, name: str, write: Callable[[Path], None]) -> Path:
        """The whole file under its hidden name: written, or as an earlier process left it."""
        whole, part = self.folder / f".{name}{self.mark}", self.folder / f".{name}.part"
        if not whole.is_file():
            try:
                write(part)
                self._named(part, whole)
            finally:
                part.unlink(missing_ok=True)
        return whole

    def proved(self, name: str, write: Callable[[Path], None], prove: Prove) -> dict[str, Any]:
        """Write a file, let it be proved, and give it its name. What is refused is deleted."""
        whole = self.written(name, write)
        try:
            found = prove(whole)
        except DoituneError:
            whole.unlink(missing_ok=True)
            raise
        said = {"bytes": whole.stat().st_size, "sha256": file_sha256(whole)}
        self._named(whole, self.folder / name)
        return {**said, **found}

    def _named(self, path: Path, name: Path) -> None:
        try:
            sync_file(path)
            rename(path, name)
            sync_folder(self.folder)
        except OSError as error:
            raise DiskError(f"cannot write {name}: {error.strerror or error}", ROOM) from error

    def finished(self, trial: str) -> dict[str, Any]:
        """What export.json says of files that are as they were, and were measured by the same `trial`."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            said = json.loads((self.folder / REPORT).read_text("utf-8"))
            if said["trial"] == trial and said["made_of"] == self.made_of:
                return {
                    name: one
                    for name, one in said["files"].items()
                    if (self.folder / name).is_file() and file_sha256(self.folder / name) == one["sha256"]
                }
        return {}

    def close(self) -> None:
        """Delete what was written only to be read again."""
        for left in self.folder.glob(".*.whole"):
            left.unlink(missing_ok=True)


def refuse_foreign(folder: Path, to: str) -> None:
    """UsageError for a folder with something else in it than what doitune exported in the format `to`."""
    if folder.exists() and any(folder.iterdir()) and not _is_of(folder, to):
        raise taken(folder, to)


def _is_of(folder: Path, to: str) -> bool:
    """Whether export.json says so, or nothing yet; a merged folder has a record, too."""
    said = read_export(folder)
    return said is not None and said.get("to", to) == to and not (folder / RECORD).is_file()


@contextmanager
def held(folder: Path, made_of: str, to: str) -> Iterator[Place]:
    """The folder, made where it is not there, for this process alone. Errors: as `refuse_foreign`, DiskError,
    LockedError."""
    refuse_foreign(folder, to)
    place = Place(folder, made_of)
    with hold(folder.with_name(f".{folder.name}.export.lock"), str(folder), remove=True):
        make_folder(folder)
        for left in [*folder.glob(".*.part"), *folder.glob(".*.whole")]:
            if not left.name.endswith(place.mark):
                left.unlink(missing_ok=True)
        yield place
