"""Shingles: which texts hold most of the character runs of which others.

Shingles are looked up by 64-bit digests in an index of the judged side; a judged text is only compared with
train texts that share one of its rarest shingles (with n shingles, any text that covers 80 % of them shares
one of the n - ceil(0.8 n) + 1 rarest).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

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

    found: list[Places] = []
    for start, part in _chunks(train):
        doing("looking for judged rows: rows", start, count)
        digests, rows = _digests(part, start)
        likely = index.sieve[_sieve_place(digests)]
        digests, rows = digests[likely], rows[likely]
        places = np.minimum(np.searchsorted(index.words, digests), len(index.words) - 1)
        hit = index.words[places] == digests
        found.append(_distinct(places[hit] * count + rows[hit]))
    keys = _distinct(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
    count = max(count, 1)
    return _Postings(keys % count, np.searchsorted(keys // count, np.arange(len(index.words) + 1)))


def _counts(shingles: Places, probes: Places, needed: int, postings: _Postings) -> Iterator[tuple[int, int]]:
    """(train text, how many of `shingles` it holds) of the texts that hold `needed` of them; `shingles` come
    rarest first.

    Where a text that all rows share makes candidates of more than _MAX_CANDIDATES, only those that hold the
    most probes are counted.
    """
    import numpy as np

    rows, counts = _candidates(probes, postings)
    for step, shingle in enumerate(shingles[len(probes) :], len(probes) + 1):
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


def _digests(texts: Sequence[str], first: int) -> tuple[Words, Places]:
    """The digest of every shingle of the texts, and the place of its text (counted from `first`)."""
    import numpy as np

    characters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(
        np.uint64
    )
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    count = max(len(characters) - SHINGLE_CHARACTERS + 1, 0)
    digests = np.zeros(count, dtype=np.uint64)
    for step in range(SHINGLE_CHARACTERS if count else 0):
        digests *= np.uint64(_MULTIPLIER)
        digests += characters[step : step + count]
    digests ^= digests >> np.uint64(32)
    digests *= np.uint64(_MULTIPLIER)
    owners = np.repeat(np.arange(len(texts)), lengths)
    inside = owners[:count] == owners[SHINGLE_CHARACTERS - 1 :][:count]
    return digests[inside], owners[:count][inside] + first


def _sieve_place(digests: Words) -> Words:
    import numpy as np

    return digests >> np.uint64(64 - _SIEVE_BITS)
