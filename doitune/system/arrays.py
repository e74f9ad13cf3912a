"""Arrays of numbers and of bytes in plain files, with their form in a JSON file beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any


def save_arrays(folder: Path, name: str, arrays: Mapping[str, Any]) -> None:
    """Write each array into a file of its own. Errors: OSError."""
    for one, array in arrays.items():
        (folder / f"{name}.{one}").write_bytes(array.tobytes())
    forms = {one: [array.dtype.str, array.shape] for one, array in arrays.items()}
    (folder / f"{name}.arrays.json").write_text(json.dumps(forms), encoding="utf-8")


def open_arrays(folder: Path, name: str) -> dict[str, Any]:
    """The arrays that `save_arrays` wrote. Errors: OSError, ValueError."""
    import numpy as np

    forms = json.loads((folder / f"{name}.arrays.json").read_text(encoding="utf-8"))
    return {
        one: np.frombuffer((folder / f"{name}.{one}").read_bytes(), dtype=kind).reshape(shape)
        for one, (kind, shape) in forms.items()
    }


AT_ONCE = 65536


def each(array: Any) -> Iterator[Any]:
    """Every entry as Python's own number or bytes; no list of all is made."""
    for start in range(0, len(array), AT_ONCE):
        yield from array[start : start + AT_ONCE].tolist()


def digests(start: bytes, names: Iterable[bytes]) -> Any:
    """The sha256 of `start` and each name, as an array of 32 bytes each: an order that is theirs alone."""
    import numpy as np

    found = bytearray()
    for name in names:
        found += sha256(start + name).digest()
    return np.frombuffer(found, dtype="S32")
