"""Rows that say the same: leaks from what is learnt into what is judged, and duplicates.

Texts are compared normalised (NFKC, case folded, without spaces, punctuation and control characters). A row
leaks when one train row holds 80 % of its 13-character shingles; a text shorter than a shingle must be equal
as a whole. What is compared of a judged row is its question, and where the answer is long enough to be a text
of its own, question and answer together; few-shot demos are left out.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any
from unicodedata import category, combining, normalize

from doitune.ability import OUT_OF_DOMAIN
from doitune.data.example import Example
from doitune.data.message import Message
from doitune.data.rows import ROWS_AT_ONCE
from doitune.data.shingles import SHINGLE_CHARACTERS, covered
from doitune.system.doing import doing

MAX_LEAKS_A_ROW = 20

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

_PLAIN = (
    *((0, 0x2FF), (0x401, 0x45F), (0x2000, 0x206F), (0x2190, 0x22FF), (0x2460, 0x25FF)),
    *((0x3000, 0x3096), (0x30A1, 0x30FA), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xFF01, 0xFF5E)),
)
"""Characters, first and last, that no other one among them composes with: NFKC takes each by itself."""

_DROPPED, _NOT_PLAIN = 0xFFFFFFFE, 0xFFFFFFFF


def normalised(text: str) -> str:
    """The text as it is compared: "Ｗhat  is\\t1+1？" and "what is 1+1" are the same. Symbols such as +
    and = stay."""
    return normalize("NFKC", text).casefold().translate(_KEPT)


def normalised_all(texts: Sequence[str]) -> list[str]:
    """`normalised` of each text; those of plain characters alone together, by a table."""
    import numpy as np

    table = _table()
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = table[codes]
    ends = np.cumsum([0, *map(len, texts)])
    kept = np.concatenate(([0], np.cumsum(codes < _DROPPED)))[ends].tolist()
    other = np.concatenate(([0], np.cumsum(codes == _NOT_PLAIN)))[ends]
    together = codes[codes < _DROPPED].tobytes().decode("utf-32-le")
    return [
        normalised(text) if odd else together[start:end]
        for text, odd, start, end in zip(texts, np.diff(other), kept, kept[1:])
    ]


@cache
def _table() -> Any:
    """What each character of a plain text becomes; _DROPPED, or _NOT_PLAIN where that is more than one, or
    may depend on what stands beside it."""
    import numpy as np

    table = np.full(sys.maxunicode + 1, _NOT_PLAIN, dtype=np.uint32)
    for code in chain.from_iterable(range(first, last + 1) for first, last in _PLAIN):
        found = normalised(chr(code))
        if len(found) < 2 and not any(map(combining, normalize("NFKC", chr(code)))):
            table[code] = ord(found) if found else _DROPPED
    return table


def whole_text(example: Example) -> str:
    """All turns of a row, normalised; but for its system text, a frame that many rows share."""
    return normalised(said_by(example.messages))


def said_by(messages: Iterable[Message]) -> str:
    """What turns say, each on lines of its own, but for a system text."""
    return "\n".join(turn.said for turn in messages if turn.role != "system")


def duplicates(examples: Iterable[Example]) -> Iterator[tuple[Example, Example, bool]]:
    """(a row, the first row before it that says the same, whether to the letter), for rows alike once
    normalised."""
    first: dict[str, Example] = {}
    for example in examples:
        frame = example.messages[0]
        system = normalised(frame.content) if frame.role == "system" else ""
        twin = first.setdefault(f"{system}\n{whole_text(example)}", example)
        if twin is not example:
            yield example, twin, example.messages == twin.messages


def whole_texts(rows: Sequence[Example]) -> Iterator[str]:
    """`whole_text` of each row."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        yield from normalised_all([said_by(row.messages) for row in part])


def leaks_of(
    chosen: Iterable[Example],
    judged_on: Mapping[str, Iterable[Example]],
    texts_of: Callable[[Sequence[Example]], Iterable[str]] = whole_texts,
) -> list[Leak]:
    """Every pair of a chosen train row and a judged row that it gives away, by judged row, the fullest
    coverage first.

    `judged_on`: rows by suite. `texts_of` gives what `whole_texts` gives. Of one judged row at most
    MAX_LEAKS_A_ROW pairs are reported. Memory: about 50 bytes a character of the judged side.
    """
    train = chosen if isinstance(chosen, Sequence) else list(chosen)
    doing(f"looking for judged rows in {len(train):,} rows")
    others = [(suite, example) for suite, examples in judged_on.items() for example in examples]
    best: dict[tuple[int, int], float] = {}
    texts, owners = _judged_texts([example for _, example in others])
    for text, row, coverage in _pairs(texts_of(train), len(train), texts):
        key = (owners[text], row)
        best[key] = max(coverage, best.get(key, 0.0))
    found: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for (other, row), coverage in best.items():
        found[other].append((-coverage, row))
    kept = ((other, pair) for other in sorted(found) for pair in sorted(found[other])[:MAX_LEAKS_A_ROW])
    return [_leak(train[row], *others[other], -negative) for other, (negative, row) in kept]


def _leak(train: Example, suite: str, other: Example, coverage: float) -> Leak:
    return Leak(train.id, other.id, suite, round(coverage, 4), train.place, other.place)


def _judged_texts(others: Sequence[Example]) -> tuple[list[str], list[int]]:
    """The normalised texts that stand for the judged rows, one or two each, and whose row each is."""
    texts: list[str] = []
    owners: list[int] = []
    for row, example in enumerate(others):
        turns = example.messages[-2:] if example.ability in _FEW_SHOT else example.messages
        question = normalised(said_by(turns[:-1]))
        answer = normalised(turns[-1].said)
        long_question, long_answer = len(question) >= SHINGLE_CHARACTERS, len(answer) >= SHINGLE_CHARACTERS
        mine = ([question] if long_question else []) + (
            [question + answer] if long_answer or not long_question else []
        )
        texts += mine
        owners += [row] * len(mine)
    return texts, owners


def _pairs(train: Iterable[str], count: int, others: Sequence[str]) -> Iterator[tuple[int, int, float]]:
    """(place in `others`, place in `train`, coverage) of every pair that says the same; `train` gives `count`
    texts, once."""
    short = defaultdict(list)
    for place, text in enumerate(others):
        if text and len(text) < SHINGLE_CHARACTERS:
            short[text].append(place)
    equal: list[tuple[int, int]] = []

    def passing() -> Iterator[str]:
        for row, text in enumerate(train):
            if text in short:
                equal.extend((place, row) for place in short[text])
            yield text

    if any(len(text) >= SHINGLE_CHARACTERS for text in others):
        yield from covered(others, passing(), count)
    elif short:
        deque(passing(), maxlen=0)
    yield from ((place, row, 1.0) for place, row in equal)
