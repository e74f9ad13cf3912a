"""Rows that say the same: leaks from what is learnt into what is judged, and duplicates.

Texts are compared normalised (NFKC, case folded, without spaces, punctuation and control characters). A row
leaks when one train row holds 80 % of its 13-character shingles; a text shorter than a shingle must be equal
as a whole. What is compared of a judged row is its question, and where the answer is long enough to be a text
of its own, question and answer together; few-shot demos are left out. Shingles are looked up by 64-bit
digests in an index of the judged side; a judged row is only held against train rows that share one of its
rarest shingles (with n shingles, any row that covers 80 % of them shares one of the n - ceil(0.8 n) + 1
rarest).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, NamedTuple
from unicodedata import category, normalize

from doitune.ability import OUT_OF_DOMAIN
from doitune.data.example import Example

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]
    Places = NDArray[np.int64]

SHINGLE_CHARACTERS = 13
COVERAGE = 0.8

MAX_LEAKS_A_ROW = 20

_CHUNK_CHARACTERS = 4_000_000
_MAX_CANDIDATES = 1000
_MULTIPLIER = 0x9E3779B97F4A7C15
_SIEVE_BITS = 24
_FEW_SHOT = frozenset(ability.name for ability in OUT_OF_DOMAIN)


@dataclass(frozen=True)
class Leak:
    """A judged row that one train row gives away: `coverage` in 0.8..1 is the share of its shingles that
    the train row holds."""

    train_id: str
    other_id: str
    suite: str
    coverage: float
    train_place: str = ""
    other_place: str = ""


class _Kept(dict[int, "int | None"]):
    """For str.translate: each code point to itself, or to None where it is a space, punctuation, a mark of
    control or unassigned."""

    def __missing__(self, code: int) -> int | None:
        self[code] = None if category(chr(code))[0] in "ZPC" else code
        return self[code]


_KEPT = _Kept()


def normalised(text: str) -> str:
    """The text as it is compared: "Ｗhat  is\\t1+1？" and "what is 1+1" are the same. Symbols such as +
    and = stay."""
    return normalize("NFKC", text).casefold().translate(_KEPT)


def whole_text(example: Example) -> str:
    """All turns of a row, normalised."""
    return normalised("\n".join(turn.content for turn in example.messages))


def duplicates(examples: Iterable[Example]) -> Iterator[tuple[Example, Example, bool]]:
    """(a row, the first row before it that says the same, whether to the letter), for rows alike once
    normalised."""
    first: dict[str, Example] = {}
    for example in examples:
        twin = first.setdefault(whole_text(example), example)
        if twin is not example:
            yield example, twin, example.messages == twin.messages


def leaks_of(
    chosen: Iterable[Example],
    judged_on: Iterable[Example] | Mapping[str, Iterable[Example]],
    *,
    suite: str = "",
) -> list[Leak]:
    """Every pair of a chosen train row and a judged row that it gives away, by judged row, the fullest
    coverage first.

    `judged_on`: rows, all of `suite`, or rows by suite. Of one judged row at most MAX_LEAKS_A_ROW pairs are
    told. Memory: about 50 bytes a character of the judged side.
    """
    train = list(chosen)
    suites = judged_on if isinstance(judged_on, Mapping) else {suite: judged_on}
    others = [(name, example) for name, examples in suites.items() for example in examples]
    train_texts = [whole_text(example) for example in train]
    best: dict[tuple[int, int], float] = {}
    texts, owners = _judged_texts([example for _, example in others])
    for text, row, coverage in _pairs(train_texts, texts):
        key = (owners[text], row)
        best[key] = max(coverage, best.get(key, 0.0))
    found: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for (other, row), coverage in best.items():
        found[other].append((-coverage, row))
    told = ((other, pair) for other in sorted(found) for pair in sorted(found[other])[:MAX_LEAKS_A_ROW])
    return [_leak(train[row], *others[other], -negative) for other, (negative, row) in told]


def _leak(train: Example, suite: str, other: Example, coverage: float) -> Leak:
    return Leak(train.id, other.id, suite, round(coverage, 4), train.place, other.place)


def _judged_texts(others: Sequence[Example]) -> tuple[list[str], list[int]]:
    """The normalised texts that stand for the judged rows, one or two each, and whose row each is."""
    texts: list[str] = []
    owners: list[int] = []
    for row, example in enumerate(others):
        turns = example.messages[-2:] if example.ability in _FEW_SHOT else example.messages
        question = normalised("\n".join(turn.content for turn in turns[:-1]))
        answer = normalised(turns[-1].content)
        long_question, long_answer = len(question) >= SHINGLE_CHARACTERS, len(answer) >= SHINGLE_CHARACTERS
        mine = ([question] if long_question else []) + (
            [question + answer] if long_answer or not long_question else []
        )
        texts += mine
        owners += [row] * len(mine)
    return texts, owners


def _pairs(train: Sequence[str], others: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """(place in `others`, place in `train`, coverage) of every pair at COVERAGE or above."""
    short = defaultdict(list)
    for place, text in enumerate(others):
        if text and len(text) < SHINGLE_CHARACTERS:
            short[text].append(place)
    if short:
        yield from ((place, row, 1.0) for row, text in enumerate(train) for place in short.get(text, ()))
    if any(len(text) >= SHINGLE_CHARACTERS for text in others):
        yield from _Index(others).covered_by(train)


class _Postings(NamedTuple):
    """Which train rows hold which shingle: the rows of shingle s are `rows[starts[s]:starts[s + 1]]`."""

    rows: Places
    starts: Places


class _Index:
    """The shingles of the judged texts: `words` are all different digests in order; text t has the places
    `owned[starts[t]:starts[t+1]]`."""

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np

        self.texts = len(texts)
        pairs = [_digests(texts[start:stop], start) for start, stop in _chunks(texts)]
        digests, owners = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        self.words, places = np.unique(digests, return_inverse=True)
        keys = _distinct(owners * len(self.words) + places)
        self.owned = keys % len(self.words)
        self.starts = np.searchsorted(keys // len(self.words), np.arange(self.texts + 1))
        self.sieve = np.zeros(1 << _SIEVE_BITS, dtype=bool)
        self.sieve[_sieve_place(self.words)] = True

    def covered_by(self, train: Sequence[str]) -> Iterator[tuple[int, int, float]]:
        """As `_pairs`."""
        import numpy as np

        postings = self._postings(train)
        frequency = np.diff(postings.starts)
        owner = np.repeat(np.arange(self.texts), np.diff(self.starts))
        order = np.lexsort((frequency[self.owned], owner))
        rare_first = self.owned[order]
        for text in range(self.texts):
            shingles = rare_first[self.starts[text] : self.starts[text + 1]]
            needed = ceil(COVERAGE * len(shingles) - 1e-9)
            probes = shingles[: len(shingles) - needed + 1]
            if len(shingles) and frequency[probes[-1]]:
                for row, count in self._counts(shingles, probes, needed, postings):
                    yield text, row, count / len(shingles)

    def _counts(
        self, shingles: Places, probes: Places, needed: int, postings: _Postings
    ) -> Iterator[tuple[int, int]]:
        """(train row, how many of `shingles` it holds) of the rows that hold `needed` of them; `shingles`
        come rarest first.

        Where a text that all rows share makes candidates of more than _MAX_CANDIDATES, only those that hold
        the most probes are counted.
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
                counts = counts + (
                    holders[np.minimum(np.searchsorted(holders, rows), len(holders) - 1)] == rows
                )
        yield from (
            (int(row), int(count)) for row, count in zip(rows, counts, strict=True) if count >= needed
        )

    def _postings(self, train: Sequence[str]) -> _Postings:
        import numpy as np

        found: list[Places] = []
        for start, stop in _chunks(train):
            digests, rows = _digests(train[start:stop], start)
            likely = self.sieve[_sieve_place(digests)]
            digests, rows = digests[likely], rows[likely]
            places = np.minimum(np.searchsorted(self.words, digests), len(self.words) - 1)
            hit = self.words[places] == digests
            found.append(_distinct(places[hit] * len(train) + rows[hit]))
        keys = _distinct(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)
        return _Postings(
            keys % max(len(train), 1),
            np.searchsorted(keys // max(len(train), 1), np.arange(len(self.words) + 1)),
        )


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


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Runs of texts, each of about _CHUNK_CHARACTERS, as (start, stop)."""
    start, size = 0, 0
    for place, text in enumerate(texts):
        size += len(text)
        if size >= _CHUNK_CHARACTERS:
            yield start, place + 1
            start, size = place + 1, 0
    if start < len(texts):
        yield start, len(texts)


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
