"""What is asked and what came back: Item, Task, Reply, Verdict, for the corpus's own sets and benchmarks
alike.

A Task is a suite at one number of shots. An Item is one question of it with everything that a scorer needs,
so that a saved reply can be scored again without a model and without the corpus.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal, get_args

from doitune.ability import Form, chance
from doitune.data.example import Message
from doitune.errors import UsageError

Way = Literal["letters", "write", "rank"]
"""How an item is asked: options by their scores, a written reply, or candidates by their losses."""
WAYS: tuple[Way, ...] = get_args(Way)

Count = Callable[[str], int]
"""A text's length in tokens as a tokenizer's plain call gives it, any token added around it included."""

Released = Callable[[Count], tuple[tuple[Message, ...], int]]
"""From a count of tokens to the question as the released code asks it, and the shots left in it."""


@dataclass(frozen=True)
class Item:
    """One question.

    `set` is the ability or subject in whose line of the report it counts. `way` says how it is asked;
    `max_new_tokens` caps a written reply. `label`, `options`, `choices` are as in Example. `cluster` names
    what several questions share (a passage); "" shares nothing. `shots`: solved examples in `question`;
    `fewer(n)` is the question with n of them, for contexts that are too short, or None. `stem` is the bare
    question for people to read; "" stands for the last turn. `bare`: protocol `paper` scores the letters as
    the vocabulary spells them (`A`, not the token that an answer starts with), in the question that
    `released` gives (None: the same one). `answer`: of a free answer the row's own last turn, with its
    thoughts and calls, where it says more than `label`.
    """

    id: str
    set: str
    form: Form
    way: Way
    question: tuple[Message, ...]
    label: str
    options: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    max_new_tokens: int = 0
    cluster: str = ""
    shots: int = 0
    fewer: Callable[[int], tuple[Message, ...]] | None = field(default=None, compare=False, repr=False)
    stem: str = ""
    bare: bool = False
    released: Released | None = field(default=None, compare=False, repr=False)
    answer: Message | None = field(default=None, compare=False, repr=False)

    @property
    def chance(self) -> float:
        """What a uniform guess scores, in 0..1."""
        return chance(self.form, len(self.choices) if self.form == "ppl_rank" else len(self.options))

    @property
    def to_read(self) -> str:
        """The question as people read it."""
        return self.stem or self.question[-1].content

    @property
    def document(self) -> str:
        """Hash of everything that is asked and compared with: another one is another question."""
        turns = [[turn.role, turn.said, *([turn.tools] if turn.tools else [])] for turn in self.question]
        return digest(
            [self.form, self.way, turns, self.label, self.options, self.choices, self.max_new_tokens]
        )


@dataclass(frozen=True)
class Task:
    """A suite at one number of shots. `headline`: the sets whose mean is the suite's first number (all, where
    empty).

    `groups`: sets by the name of a group with a mean of its own; a set may be in several. `titles`, and
    `chances` in 0..1: of sets whose own recipe declares them.
    """

    suite: str
    items: tuple[Item, ...]
    headline: tuple[str, ...] = ()
    shots: int = 0
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    chances: Mapping[str, float] = field(default_factory=dict)

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets, in the order of the report."""
        return tuple(dict.fromkeys(item.set for item in self.items))

    @property
    def document(self) -> str:
        """Hash of all questions, whatever their order."""
        return digest(sorted([item.id, item.document] for item in self.items))

    def limited(self, limit: float | None, seed: int = 0) -> Task:
        """At most `limit` items of each set (below 1: that share, rounded up), in the task's order.

        Which ones depends on seed and ids only, and they are nested: those of a limit of 50 are among those
        of 100. Errors: UsageError.
        """
        if limit is None:
            return self
        refuse_limit(limit)
        kept: set[str] = set()
        for name in self.sets:
            ids = [item.id for item in self.items if item.set == name]
            count = int(limit) if limit >= 1 else math.ceil(limit * len(ids))
            kept.update(sorted(ids, key=lambda one: sha256(f"{seed}\x1f{one}".encode()).digest())[:count])
        return replace(self, items=tuple(item for item in self.items if item.id in kept))


def refuse_limit(limit: float) -> None:
    """UsageError for a limit that is neither a whole number of questions nor a share below 1."""
    if not 0 < limit < math.inf or (limit >= 1 and limit != int(limit)):
        raise UsageError(
            f"a limit of {limit:g} questions is none", "give a whole number for each set, or a share below 1"
        )


@dataclass(frozen=True)
class Candidate:
    """One candidate of a ranking: the sum of its token losses in nats, end token included, and how many
    tokens that are."""

    loss: float
    tokens: int

    @property
    def mean(self) -> float:
        """Loss a token, in nats; NaN without tokens."""
        return self.loss / self.tokens if self.tokens else math.nan


@dataclass(frozen=True)
class Reply:
    """What came back for one item.

    `text` is the written reply, None where none was asked for; `stopped` says whether the model ended it
    itself. `option_scores` are scores of the options behind the question, in their order; within a question
    only their order counts. Where every option is one token they are the first step's: logits of the head's
    rows, log-probabilities of a written reply. Where one is several tokens, they are each option's sum of
    log-probabilities (nats) over all its tokens but the end token. `candidates` are those of a ranking.
    `prompt` is the hash of the prompt's ids. `too_long`: the prompt did not fit, nothing was asked.
    `released_scores`: those that protocol `paper` reads: of the bare letters, in the released code's question
    with `released_shots`, or of a written reply's last step (none there where an option is several tokens).
    """

    prompt: str
    prompt_tokens: int
    shots: int = 0
    text: str | None = None
    new_tokens: int = 0
    stopped: bool | None = None
    option_scores: tuple[float, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    too_long: bool = False
    released_scores: tuple[float, ...] = ()
    released_shots: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a line of outcomes.jsonl."""
        return {
            "prompt": self.prompt,
            "prompt_tokens": self.prompt_tokens,
            "shots": self.shots,
            "text": self.text,
            "new_tokens": self.new_tokens,
            "stopped": self.stopped,
            "option_scores": [_plain(score) for score in self.option_scores],
            "candidates": [[_plain(one.loss), one.tokens] for one in self.candidates],
            "too_long": self.too_long,
            "released_scores": [_plain(score) for score in self.released_scores],
            "released_shots": self.released_shots,
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Reply:
        """What `to_json` made. KeyError, TypeError or ValueError where it is something else."""
        return cls(
            prompt=str(read["prompt"]),
            prompt_tokens=int(read["prompt_tokens"]),
            shots=int(read["shots"]),
            text=None if read["text"] is None else _text(read["text"]),
            new_tokens=int(read["new_tokens"]),
            stopped=read["stopped"],
            option_scores=tuple(float(score) for score in read["option_scores"]),
            candidates=tuple(Candidate(float(loss), int(tokens)) for loss, tokens in read["candidates"]),
            too_long=bool(read["too_long"]),
            released_scores=tuple(float(score) for score in read.get("released_scores", ())),
            released_shots=read.get("released_shots"),
        )


TIE = "tie of "
"""How the note of a tie begins."""


@dataclass(frozen=True)
class Verdict:
    """How a reply was read and judged.

    `parsed` is the answer found (a letter, a list of letters, a text), None where none was found. `correct`
    is the credit: 1, 0, or a share of it (equals that tie, free answers), so it is summed and compared, never
    taken as true or false. `note` says how it was read where that is not plain.
    """

    parsed: str | list[str] | None
    correct: float
    note: str = ""

    @property
    def found(self) -> bool:
        """Whether an answer, or a tie of answers, was found."""
        return self.parsed is not None or self.note.startswith(TIE)

    @property
    def how(self) -> str:
        """The note, and the share of the credit where it is one."""
        return (
            self.note if self.correct in (0, 1) else f"{self.note}, {100 * self.correct:.0f} % of the credit"
        )


def _text(value: object) -> str:
    """TypeError unless it is a text."""
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:80]!r} is no text")
    return value


def _plain(value: float) -> float | str:
    """A number for strict JSON: "nan" and "inf" as text."""
    return value if math.isfinite(value) else str(value)


def digest(value: object) -> str:
    """The first 16 hex digits of the sha256 of a value's canonical JSON."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def ids_digest(ids: Iterable[int]) -> str:
    """The hash of a prompt's token ids."""
    return sha256(",".join(map(str, ids)).encode()).hexdigest()[:16]


def clusters(items: Sequence[Item]) -> dict[str, str]:
    """Each item's cluster by its id; an item that shares nothing is a cluster of its own."""
    return {item.id: item.cluster or item.id for item in items}
