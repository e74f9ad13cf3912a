"""Headers of safetensors files, read and checked before anything maps them: a damaged or hostile file is
one clear message."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from doitune.errors import ModelError

MOST_HEADER_BYTES = 100_000_000
"""A longer header is refused unread. Source: the safetensors format."""

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of one number by the format's name of its type."""

AGAIN = "copy or download the file again"


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: its type as the format names it, its shape, and its bytes' bounds behind the
    header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file, in the order of their bytes.

    ModelError where the header is too long or unreadable, or where the tensors do not fill the file one
    behind the other.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise _bad(path, "it is no file")
        size = path.stat().st_size
        with path.open("rb") as stream:
            first = stream.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            if not 2 <= length <= min(size - 8, MOST_HEADER_BYTES):
                raise _bad(path, f"a header of {length:,} bytes in a file of {size:,}")
            text = stream.read(length)
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror or error}", "check its rights", place=str(path)
        ) from error
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not readable: {error}") from None
    if not isinstance(document, dict):
        raise _bad(path, "its header is not a list of tensors")
    document.pop("__metadata__", None)
    found = {name: _stored(path, name, entry) for name, entry in document.items()}
    return _filling(path, found, size - 8 - length)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _stored(path: Path, name: str, entry: Any) -> Stored:
    """One entry of a header. ModelError."""
    if not isinstance(entry, dict):
        raise _bad(path, f"the entry of {name} is not an object")
    dtype, shape, bounds = entry.get("dtype"), _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if (
        shape is None
        or bounds is None
        or len(bounds) != 2
        or not isinstance(dtype, str)
        or dtype not in ITEM_BYTES
    ):
        raise _bad(path, f"{name} has no known type, shape and place")
    size, needed = bounds[1] - bounds[0], prod(shape) * ITEM_BYTES[dtype]
    if size != needed:
        raise _bad(path, f"{name} has {size:,} bytes, its shape {list(shape)} of {dtype} needs {needed:,}")
    return Stored(dtype, shape, bounds[0], bounds[1])


def _counts(value: Any) -> tuple[int, ...] | None:
    """A list of a few whole numbers from 0 on; None for anything else."""
    if (
        isinstance(value, list)
        and len(value) <= 8
        and all(type(one) is int and 0 <= one < 2**62 for one in value)
    ):
        return tuple(value)
    return None


def _filling(path: Path, found: dict[str, Stored], size: int) -> dict[str, Stored]:
    """The entries by place; they lie one behind the other from 0 to `size`."""
    ordered = sorted(found.items(), key=lambda pair: (pair[1].start, pair[1].end))
    place = 0
    for name, stored in ordered:
        if stored.start != place:
            raise _bad(path, f"{name} starts at byte {stored.start:,} instead of {place:,}")
        place = stored.end
    if place != size:
        raise _bad(path, f"{size:,} bytes behind its header, its tensors take {place:,}")
    return dict(ordered)


def _bad(path: Path, problem: str) -> ModelError:
    return ModelError(f"not a whole safetensors file: {problem}", AGAIN, place=str(path))
