"""One safetensors file written from front to back: tensors are appended as they are made, and the header
takes the room kept for it at the end."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from doitune.base.headers import ITEM_BYTES

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

ALIGNED = 8
"""Bytes that a tensor's start is a multiple of, or of its own numbers' size, so that it can be mapped."""

_ENTRY_BYTES = 160
"""Room for one header entry beside its name: type, shape and two offsets of up to 20 digits each."""


class ShardWriter:
    """Writes beside `path`; leaving the block without an error flushes the file and gives it its name.
    OSError where the disk cannot."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        """`names`: of all tensors that will be added."""
        self.path = path
        self.beside = path.with_name(path.name + ".part")
        room = 64 + sum(len(json.dumps(name)) + _ENTRY_BYTES for name in names)
        self.header_bytes = room + -room % ALIGNED
        self.entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self.place = 0

    def __enter__(self) -> Self:
        self.stream = self.beside.open("wb")
        self.stream.seek(8 + self.header_bytes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                header = json.dumps(self.entries, separators=(",", ":")).encode().ljust(self.header_bytes)
                assert len(header) == self.header_bytes
                self.stream.seek(0)
                self.stream.write(struct.pack("<Q", self.header_bytes) + header)
                self.stream.flush()
                os.fsync(self.stream.fileno())
        finally:
            self.stream.close()
        if kind is None:
            self.beside.rename(self.path)

    def add(self, name: str, dtype: str, shape: Sequence[int], pieces: Iterable[torch.Tensor]) -> None:
        """Append a tensor that comes in pieces, in order; `dtype` is the format's name (BF16). Their bytes
        must fill the shape."""
        import torch

        assert self.place % ITEM_BYTES[dtype] == 0, f"{name} would start inside a number"
        start, wanted = self.place, ITEM_BYTES[dtype]
        for count in shape:
            wanted *= count
        for piece in pieces:
            data: Any = piece.contiguous().reshape(-1).view(torch.uint8).numpy()
            self.stream.write(data)
            self.place += data.nbytes
        assert self.place - start == wanted, (
            f"{name} came with {self.place - start} bytes instead of {wanted}"
        )
        self.entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, self.place]}
