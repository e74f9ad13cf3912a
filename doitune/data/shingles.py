"""Shingles: which texts hold most of the character runs of which others.

Shingles are looked up by 64-bit digests in an index of the judged side; a judged text is only compared with
train texts that share one of its rarest shingles (with n shingles, any text that covers 80 % of them shares
one of the n - ceil(0.8 n) + 1 rarest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from doitune.system.arrays import AT_ONCE, Column
from doitune.system.doing import doing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]
    Places = NDArray[np.int64]

SHINGLE_CHARACTERS = 13
COVERAGE = 0.8

_CHUNK_CHARACTERS = 4_000_000
_MAX_CANDIDATES = 1000
_MULTIPLIER = 0x9E3779B97F4A7C15
_SIEVE_BITS = 24
_BLOCK = 1 << 15
_FEW_HOLDERS = 1 << 14


def covered(texts: Sequence[str], train: Iterable[str], count: int) -> Iterator[tuple[int, int, float]]:
    """(place in `texts`, place in `train`, coverage) of every pair at COVERAGE or above; texts shorter than a
    shingle have none. `train` gives `count` texts, once. Memory: about 50 bytes a character of `texts`."""
    import numpy as np

    index = _Index(texts)
    postings = _postings(index, train, count)
    frequency = np.diff(postings.starts)
    owner = np.repeat(np.arange(len(texts)), np.diff(index.starts))
    rare_first = index.owned[np.lexsort((frequency[index.owned], owner))]
    for text in range(len(texts)):
        shingles = rare_first[index.starts[text] : index.starts[text + 1]]
        needed = ceil(COVERAGE * len(shingles) - 1e-9)
        probes = shingles[: len(shingles) - needed + 1]
        if len(shingles) and frequency[probes[-1]]:
            for row, count in _counts(shingles, probes, needed, postings):
                yield text, row, count / len(shingles)


class _Index:
    """The shingles of the judged texts: `words` are all different digests in order; text t has the places
    `owned[starts[t]:starts[t+1]]`; `sieve` says quickly which digests cannot be among them."""

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np

        pairs = [_digests(part, start) for start, part in _chunks(texts)]
        digests, owners = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        self.words, places = np.unique(digests, return_inverse=True)
        keys = _distinct(owners * len(self.words) + places)
        self.owned = keys % len(self.words)
        self.starts = np.searchsorted(keys // len(self.words), np.arange(len(texts) + 1))
        self.sieve = np.zeros(1 << _SIEVE_BITS, dtype=bool)
        self.sieve[_sieve_place(self.words)] = True


class _Postings(NamedTuple):
    """Which train texts hold which shingle: those of shingle s are `rows[starts[s]:starts[s + 1]]`."""

    rows: Places
    starts: Places


def _postings(index: _Index, train: Iterable[str], count: int) -> _Postings:
    import numpy as np

    found = Column("i8")
    for start, part in _chunks(train):
        doing("looking for judged rows: rows", start, count)
        digests, rows = _digests(part, start, lambda digests: index.sieve[_sieve_place(digests)])
        places = np.minimum(np.searchsorted(index.words, digests), len(index.words) - 1)
        hit = index.words[places] == digests
        found.add(_distinct(places[hit] * count + rows[hit]).tobytes())  # a row is in one part
    keys = found.as_array(changed=True)
    keys.sort()
    count = max(count, 1)
    starts = np.searchsorted(keys, np.arange(len(index.words) + 1) * count)
    for at in range(0, len(keys), AT_ONCE):
        keys[at : at + AT_ONCE] %= count
    return _Postings(keys, starts)


def _counts(shingles: Places, probes: Places, needed: int, postings: _Postings) -> Iterator[tuple[int, int]]:
    """(train text, how many of `shingles` it holds) of the texts that hold `needed` of them; `shingles` come
    rarest first.

    Where a text that all rows share makes candidates of more than _MAX_CANDIDATES, only those that hold the
    most probes are counted.
    """
    import numpy as np

    rows, counts = _candidates(probes, postings)
    rest = shingles[len(probes) :]
    starts, ends = postings.starts[rest], postings.starts[rest + 1]
    if len(rows) and int((ends - starts).sum()) <= _FEW_HOLDERS:
        spans = zip(starts.tolist(), ends.tolist(), strict=True)
        holders = np.concatenate([rows[:0], *(postings.rows[start:end] for start, end in spans)])
        places = np.minimum(np.searchsorted(rows, holders), len(rows) - 1)
        counts = counts + np.bincount(places[rows[places] == holders], minlength=len(rows))
        rest = rest[:0]
    for step, shingle in enumerate(rest, len(probes) + 1):
        possible = counts >= needed - (len(shingles) - step + 1)
        rows, counts = rows[possible], counts[possible]
        if not len(rows):
            return
        holders = postings.rows[postings.starts[shingle] : postings.starts[shingle + 1]]
        if len(holders):
            counts = counts + (holders[np.minimum(np.searchsorted(holders, rows), len(holders) - 1)] == rows)
    yield from ((int(row), int(count)) for row, count in zip(rows, counts, strict=True) if count >= needed)


def _distinct(keys: Places) -> Places:
    """The different keys in order (by sorting: for tens of millions of keys numpy's own `unique` hashes,
    which is ten times slower)."""
    import numpy as np

    keys = np.sort(keys)
    return keys[np.concatenate((np.ones(min(len(keys), 1), dtype=bool), keys[1:] != keys[:-1]))]


def _candidates(probes: Places, postings: _Postings) -> tuple[Places, Places]:
    """The train rows that hold any of the probes, in order, and how many of them each holds."""
    import numpy as np

    holders = np.concatenate(
        [postings.rows[postings.starts[probe] : postings.starts[probe + 1]] for probe in probes]
    )
    if len(holders) <= _MAX_CANDIDATES:
        return np.unique(holders, return_counts=True)
    held = np.bincount(holders)
    rows = np.flatnonzero(held)
    if len(rows) > _MAX_CANDIDATES:
        rows = np.sort(rows[np.argsort(-held[rows], kind="stable")[:_MAX_CANDIDATES]])
    return rows, held[rows]


def _chunks(texts: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Runs of texts, each of about _CHUNK_CHARACTERS, with the place of the first."""
    part: list[str] = []
    start, size = 0, 0
    for text in texts:
        part.append(text)
        size += len(text)
        if size >= _CHUNK_CHARACTERS:
            yield start, part
            start, part, size = start + len(part), [], 0
    if part:
        yield start, part


def _digests(
    texts: Sequence[str], first: int, likely: Callable[[Words], Any] | None = None
) -> tuple[Words, Places]:
    """The digest of every shingle of the texts, and the place of its text (counted from `first`); of those
    alone that are `likely`, where that is given."""
    import numpy as np

    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    count = max(len(characters) - SHINGLE_CHARACTERS + 1, 0)
    digests = np.empty(count, dtype=np.uint64)
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        digests[start:end] = _rolled(characters[start : end + SHINGLE_CHARACTERS - 1].astype(np.uint64))
    places = np.arange(count) if likely is None else np.flatnonzero(likely(digests))
    every = np.repeat(np.arange(len(texts)), np.diff(ends, prepend=0)) if likely is None else None
    owners = np.searchsorted(ends, places, side="right") if every is None else every[:count]
    inside = places + SHINGLE_CHARACTERS <= ends[owners]
    return digests[places[inside]], owners[inside] + first


def _rolled(characters: Words) -> Words:
    """The digest of every run of SHINGLE_CHARACTERS: a polynomial, from shorter runs, mixed."""

    import numpy as np

    def behind(first: Words, characters: int, second: Words, more: int) -> Words:
        """Of runs of `characters` and the runs of `more` behind each."""
        count = len(second) - characters
        found = first[:count] * np.uint64(pow(_MULTIPLIER, more, 1 << 64))
        found += second[characters:]
        return found

    two = behind(characters, 1, characters, 1)
    four = behind(two, 2, two, 2)
    eight = behind(four, 4, four, 4)
    digests = behind(behind(eight, 8, four, 4), 12, characters, 1)
    digests ^= digests >> np.uint64(32)
    digests *= np.uint64(_MULTIPLIER)
    return digests


def _sieve_place(digests: Words) -> Words:
    import numpy as np

    return digests >> np.uint64(64 - _SIEVE_BITS)
