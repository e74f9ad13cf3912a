"""EncodedRows: any number of encoded conversations on the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from doitune.prompt.encoded import IGNORED, Encoded
from doitune.system.arrays import Column, gathered, in_order, open_arrays, save_arrays, settled
from doitune.system.scratch import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.integer[Any]]

Run = tuple[int, int]
"""Where a run of trained tokens starts, and where it is over."""

DIGEST_BYTES = 16

_ARRAYS = ("lengths", "runs", "run_starts", "run_counts", "trained", "digests")


@dataclass(frozen=True, eq=False)
class EncodedRows(Sequence[Encoded]):
    """Rows as a Sequence of Encoded.

    `ids`: of all rows, end to end, `id_bytes` for each; row i starts at number `starts[i]` and has
    `lengths[i]` of them. Its trained runs are `runs[run_starts[i]:run_starts[i] + run_counts[i]]`, [n, 2].
    `trained`: trained tokens of each. `digests`: equal for equal rows.
    """

    ids: Scratch
    starts: Numbers
    lengths: Numbers
    runs: Numbers
    run_starts: Numbers
    run_counts: Numbers
    trained: Numbers
    digests: Any
    id_bytes: int = 4

    def at(self, places: Any) -> EncodedRows:
        """The rows at these places, in this order."""
        import numpy as np

        chosen = np.asarray(places, dtype=np.int64)
        names = ("starts", "lengths", "run_starts", "run_counts", "trained", "digests")
        return replace(self, **{name: gathered(getattr(self, name), chosen) for name in names})

    def ranked(self) -> EncodedRows:
        """The different rows, short ones first, of equal length in an order that is theirs alone."""
        import numpy as np

        order, is_first = in_order(self.digests)
        first = order[is_first]
        return self.at(first[np.argsort(self.lengths[first], kind="stable")])

    @property
    def different(self) -> int:
        """How many rows are left where of equal ones one is."""
        return int(in_order(self.digests)[1].sum())

    def digest(self) -> str:
        """A digest of all rows in order."""
        return blake2b(self.digests.data).hexdigest()

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, place: int) -> Encoded: ...
    @overload
    def __getitem__(self, place: slice) -> EncodedRows: ...
    def __getitem__(self, place: int | slice) -> Encoded | EncodedRows:
        if isinstance(place, slice):
            return self.at(range(len(self))[place])
        return _read(self, range(len(self))[place])


def _read(rows: EncodedRows, place: int) -> Encoded:
    import numpy as np

    ids = np.frombuffer(_data(rows, place), dtype=f"u{rows.id_bytes}").tolist()
    labels = [IGNORED] * len(ids)
    first = int(rows.run_starts[place])
    for start, end in rows.runs[first : first + int(rows.run_counts[place])].tolist():
        labels[start:end] = ids[start:end]
    return Encoded(tuple(ids), tuple(labels))


def _data(rows: EncodedRows, place: int) -> bytes:
    return rows.ids.read(rows.id_bytes * int(rows.starts[place]), rows.id_bytes * int(rows.lengths[place]))


def save_encoded(rows: EncodedRows, folder: Path, name: str) -> None:
    """Write rows into files of a folder that are called after `name`. Errors: OSError."""
    with (folder / f"{name}.tokens{8 * rows.id_bytes}").open("wb") as file:
        for place in range(len(rows)):
            file.write(_data(rows, place))
    save_arrays(folder, f"{name}.encoded", {one: getattr(rows, one) for one in _ARRAYS})


def open_encoded(folder: Path, name: str) -> EncodedRows:
    """The rows that `save_encoded` wrote. Errors: OSError, ValueError."""
    import numpy as np

    (path,) = folder.glob(f"{name}.tokens*")
    arrays = open_arrays(folder, f"{name}.encoded")
    starts = settled(np.cumsum(arrays["lengths"], dtype=np.int64) - arrays["lengths"])
    return EncodedRows(
        Scratch.of(path), starts, id_bytes=int(path.suffix.removeprefix(".tokens")) // 8, **arrays
    )


class EncodedWriter:
    """Rows on their way to the disk, one after another; no id is `most_ids` or more."""

    def __init__(self, most_ids: int = 1 << 32) -> None:
        self.ids, self.id_bytes = Scratch(), 2 if most_ids <= 1 << 16 else 4
        self.id_type = f"u{self.id_bytes}"
        self._tokens = self._rows = self._runs = 0
        self._columns = {name: Column("i4") for name in ("lengths", "runs", "run_counts", "trained")}
        self._columns |= {name: Column("i8") for name in ("starts", "run_starts")}
        self._digests = Column(f"S{DIGEST_BYTES}")

    def __len__(self) -> int:
        return self._rows

    def add(self, ids: Any, runs: Sequence[Run]) -> None:
        """One more row; `ids`: an array of numbers."""
        import numpy as np

        numbers = np.asarray(ids)
        if numbers.dtype != self.id_type:
            if len(numbers) and int(numbers.max()) >> 8 * self.id_bytes:
                raise RuntimeError(f"the id {numbers.max()} has more than {self.id_bytes} bytes")
            numbers = numbers.astype(self.id_type)
        data = numbers.tobytes()
        flat = [one for run in runs for one in run]
        self.ids.add(data)
        columns = self._columns
        columns["starts"].append(self._tokens)
        columns["lengths"].append(len(numbers))
        columns["runs"].extend(flat)
        columns["run_starts"].append(self._runs)
        columns["run_counts"].append(len(runs))
        columns["trained"].append(sum(flat[1::2]) - sum(flat[::2]))
        self._digests.add(blake2b(data + repr(flat).encode(), digest_size=DIGEST_BYTES).digest())
        self._tokens += len(numbers)
        self._runs += len(runs)
        self._rows += 1

    def add_encoded(self, row: Encoded) -> None:
        """One more row."""
        self.add(row.ids, runs_of(row))

    def rows(self) -> EncodedRows:
        """All that was added."""
        columns = {name: one.as_array() for name, one in self._columns.items()}
        columns["runs"] = columns["runs"].reshape(-1, 2)
        return EncodedRows(self.ids, **columns, digests=self._digests.as_array(), id_bytes=self.id_bytes)


def runs_of(row: Encoded) -> list[Run]:
    """The runs of a row's trained tokens."""
    trained = bytes(map(IGNORED.__ne__, (*row.labels, IGNORED)))
    runs: list[Run] = []
    start = trained.find(1)
    while start >= 0:
        end = trained.find(0, start)
        runs.append((start, end))
        start = trained.find(1, end)
    return runs


def answer_tokens(rows: EncodedRows) -> list[int]:
    """Tokens of each row's last trained run, its end token included."""
    last = rows.runs[rows.run_starts + rows.run_counts - 1]
    return [int(one) for one in last[:, 1] - last[:, 0]]


def rows_of(encoded: Sequence[Encoded]) -> EncodedRows:
    """The same rows, as EncodedRows."""
    if isinstance(encoded, EncodedRows):
        return encoded
    found = EncodedWriter()
    for one in encoded:
        found.add_encoded(one)
    return found.rows()
