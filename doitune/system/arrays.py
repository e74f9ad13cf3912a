"""Arrays of numbers and of bytes: long ones lie in files and are mapped, so that they take no memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from doitune.system.scratch import Scratch

AT_ONCE = 65536
"""Entries that are worked on at a time; an array of no more stays in memory."""

_NUMBERS = {"i4": "i", "i8": "q"}


class Column:
    """An array on its way to the disk, entry by entry: `i4`, `i8`, or bytes of one size (`S16`)."""

    def __init__(self, form: str) -> None:
        self._form, self._some = form, array(_NUMBERS.get(form, "B"))
        self._most = AT_ONCE if form in _NUMBERS else AT_ONCE * int(form[1:])
        self._store: Scratch | None = None

    def append(self, number: int) -> None:
        """One more number."""
        self._some.append(number)
        if len(self._some) >= self._most:
            self._spill()

    def extend(self, numbers: Iterable[int]) -> None:
        """More numbers."""
        self._some.extend(numbers)
        if len(self._some) >= self._most:
            self._spill()

    def add(self, data: bytes) -> None:
        """More entries as they lie in memory."""
        self._some.frombytes(data)
        if len(self._some) >= self._most:
            self._spill()

    def _spill(self) -> None:
        self._store = self._store or Scratch()
        self._store.add(self._some.tobytes())
        del self._some[:]

    def as_array(self, *, changed: bool = False) -> Any:
        """All entries; nothing is added afterwards. `changed`: the array will be written to."""
        import numpy as np

        if self._store is None:
            return np.array(np.frombuffer(self._some.tobytes(), dtype=self._form))
        if self._some:
            self._spill()
        return self._store.mapped(self._form, changed=changed)


def save_arrays(folder: Path, name: str, arrays: Mapping[str, Any]) -> None:
    """Write each array into a file of its own. Errors: OSError."""
    for one, array_ in arrays.items():
        with (folder / f"{name}.{one}").open("wb") as file:
            for start in range(0, len(array_), AT_ONCE):
                file.write(array_[start : start + AT_ONCE].tobytes())
    forms = {one: [array_.dtype.str, array_.shape] for one, array_ in arrays.items()}
    (folder / f"{name}.arrays.json").write_text(json.dumps(forms), encoding="utf-8")


def open_arrays(folder: Path, name: str) -> dict[str, Any]:
    """The arrays that `save_arrays` wrote. Errors: OSError, ValueError."""
    forms = json.loads((folder / f"{name}.arrays.json").read_text(encoding="utf-8"))
    return {
        one: Scratch.of(folder / f"{name}.{one}").mapped(kind).reshape(shape)
        for one, (kind, shape) in forms.items()
    }


def each(values: Any) -> Iterator[Any]:
    """Every entry as Python's own number or bytes; no list of all is made."""
    for start in range(0, len(values), AT_ONCE):
        yield from values[start : start + AT_ONCE].tolist()


def settled(values: Any) -> Any:
    """The same array, on the disk where it is long."""
    if len(values) <= AT_ONCE:
        return values
    return _on_disk(values.dtype, (values[at : at + AT_ONCE] for at in range(0, len(values), AT_ONCE)))


def gathered(values: Any, places: Any) -> Any:
    """`values[places]`, on the disk where it is long."""
    if len(places) <= AT_ONCE:
        return values[places]
    return _on_disk(
        values.dtype, (values[places[at : at + AT_ONCE]] for at in range(0, len(places), AT_ONCE))
    )


def joined(parts: Iterable[Any]) -> Any:
    """Arrays one after another, on the disk where they are long; bytes are as long as the longest."""
    import numpy as np

    found = list(parts)
    kind = np.result_type(*(one.dtype for one in found))
    if sum(map(len, found)) <= AT_ONCE:
        return np.concatenate(found)
    pieces = (one[at : at + AT_ONCE] for one in found for at in range(0, len(one), AT_ONCE))
    return _on_disk(kind, (piece.astype(kind) for piece in pieces))


def _on_disk(kind: Any, pieces: Iterable[Any]) -> Any:
    store = Scratch()
    for piece in pieces:
        store.add(piece.tobytes())
    return store.mapped(kind)


def digests(start: bytes, names: Iterable[bytes]) -> Any:
    """The sha256 of `start` and each name, as an array of 32 bytes each: an order that is theirs alone."""
    found = Column("S32")
    for name in names:
        found.add(sha256(start + name).digest())
    return found.as_array()


def in_order(values: Any) -> tuple[Any, Any]:
    """The places of all values in order, equal ones as they stand, and which of these is the first of its
    equals."""
    import numpy as np

    order = np.argsort(values, kind="stable")
    first = np.ones(len(order), dtype=bool)
    for at in range(1, len(order), AT_ONCE):
        end = min(at + AT_ONCE, len(order))
        first[at:end] = values[order[at:end]] != values[order[at - 1 : end - 1]]
    return order, first


def repeated(values: Any) -> Any:
    """Whether another entry is equal, for each."""
    import numpy as np

    order, first = in_order(values)
    alone = first.copy()
    alone[:-1] &= first[1:]
    found = np.empty(len(order), dtype=bool)
    found[order] = ~alone
    return found
