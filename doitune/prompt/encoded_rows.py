"""EncodedRows: any number of encoded conversations on the disk, a few numbers of each in memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, overload

from doitune.prompt.encoded import IGNORED, Encoded
from doitune.system.scratch import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

Run = tuple[int, int]
"""Where a run of trained tokens starts, and where it is over."""

DIGEST_BYTES = 16
ID_BYTES = 4


@dataclass(frozen=True, eq=False)
class EncodedRows(Sequence[Encoded]):
    """Rows as a Sequence of Encoded.

    `ids`: of all rows, end to end, as 32-bit numbers; row i starts at `starts[i]` and has `lengths[i]` of
    them. Its trained runs are `runs[run_starts[i]:run_starts[i] + run_counts[i]]`, [n, 2]. `trained`: trained
    tokens of each. `digests`: equal for equal rows.
    """

    ids: Scratch
    starts: Numbers
    lengths: Numbers
    runs: Numbers
    run_starts: Numbers
    run_counts: Numbers
    trained: Numbers
    digests: Any

    def at(self, places: Any) -> EncodedRows:
        """The rows at these places, in this order."""
        import numpy as np

        chosen = np.asarray(places, dtype=np.int64)
        names = ("starts", "lengths", "run_starts", "run_counts", "trained", "digests")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def ranked(self) -> EncodedRows:
        """The different rows, short ones first, of equal length in an order that is theirs alone."""
        import numpy as np

        _, first = np.unique(self.digests, return_index=True)
        return self.at(first[np.argsort(self.lengths[first], kind="stable")])

    @property
    def different(self) -> int:
        """How many rows are left where of equal ones one is."""
        import numpy as np

        return len(np.unique(self.digests))

    def digest(self) -> str:
        """A digest of all rows in order."""
        return blake2b(self.digests.tobytes()).hexdigest()

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

    data = rows.ids.read(ID_BYTES * int(rows.starts[place]), ID_BYTES * int(rows.lengths[place]))
    ids = np.frombuffer(data, dtype=np.uint32).tolist()
    labels = [IGNORED] * len(ids)
    first = int(rows.run_starts[place])
    for start, end in rows.runs[first : first + int(rows.run_counts[place])].tolist():
        labels[start:end] = ids[start:end]
    return Encoded(tuple(ids), tuple(labels))


class EncodedWriter:
    """Rows on their way to the disk, one after another."""

    def __init__(self) -> None:
        self.ids = Scratch()
        self.lengths, self.runs, self.run_counts = array("q"), array("q"), array("q")
        self.digests = bytearray()

    def __len__(self) -> int:
        return len(self.lengths)

    def add(self, ids: Any, runs: Sequence[Run]) -> None:
        """One more row; `ids`: an array of numbers."""
        import numpy as np

        data = np.asarray(ids, dtype=np.uint32).tobytes()
        flat = [one for run in runs for one in run]
        self.ids.add(data)
        self.lengths.append(len(data) // ID_BYTES)
        self.runs.extend(flat)
        self.run_counts.append(len(runs))
        self.digests += blake2b(data + repr(flat).encode(), digest_size=DIGEST_BYTES).digest()

    def add_encoded(self, row: Encoded) -> None:
        """One more row."""
        self.add(row.ids, runs_of(row))

    def rows(self) -> EncodedRows:
        """All that was added."""
        import numpy as np

        lengths, counts = (np.array(one, dtype=np.int64) for one in (self.lengths, self.run_counts))
        runs = np.array(self.runs, dtype=np.int64).reshape(-1, 2)
        sums = np.concatenate(([0], np.cumsum(runs[:, 1] - runs[:, 0])))
        over = np.cumsum(counts)
        return EncodedRows(
            ids=self.ids,
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            runs=runs,
            run_starts=over - counts,
            run_counts=counts,
            trained=sums[over] - sums[over - counts],
            digests=np.frombuffer(bytes(self.digests), dtype=f"S{DIGEST_BYTES}"),
        )


def runs_of(row: Encoded) -> list[Run]:
    """The runs of a row's trained tokens."""
    runs: list[Run] = []
    start = -1
    for at, label in enumerate((*row.labels, IGNORED)):
        if label != IGNORED and start < 0:
            start = at
        elif label == IGNORED and start >= 0:
            runs.append((start, at))
            start = -1
    return runs


def rows_of(encoded: Sequence[Encoded]) -> EncodedRows:
    """The same rows, as EncodedRows."""
    if isinstance(encoded, EncodedRows):
        return encoded
    found = EncodedWriter()
    for one in encoded:
        found.add_encoded(one)
    return found.rows()
