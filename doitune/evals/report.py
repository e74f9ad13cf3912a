"""Scores with their uncertainty: a line for each set, named means, and the protocol beside every number.

The intervals are those of `intervals`: questions that share a passage count as one draw as far as they go
together, no set is taken as certain, and a mean's interval comes from the variances of its sets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from doitune.ability import title_of
from doitune.evals.intervals import Estimate, combined, rate

SCHEMA = "doitune.report/1"
UNREAD_MARK = 0.02
"""Share of unread replies above which a score is marked (reliability: a parser that misses answers looks
like a weak model)."""


DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def held_in(identity: Mapping[str, str]) -> str:
    """In which values a base was held and computed when it was asked, in words; "" where it is not known."""
    dtype = identity.get("compute_dtype", "")
    values = DTYPES.get(dtype, dtype)
    if identity.get("quantise") == "nf4":
        return f"the base in NF4, computing in {values}" if values else "the base in NF4"
    return f"the base in {values}, not quantised" if identity.get("quantise") == "none" and values else ""


@dataclass(frozen=True)
class Outcome:
    """One scored question under one protocol. `correct` and `chance` in 0..1 (`correct` is a share where
    options tie, and of a free answer); `read`: whether an answer, or a tie of answers, was found; `chosen`:
    that answer. `measures`: of a free answer, beside its credit."""

    id: str
    set: str
    correct: float
    chance: float
    read: bool = True
    too_long: bool = False
    fallback: bool = False
    cluster: str = ""
    label: str = ""
    chosen: str = ""
    fewer_shots: bool = False
    free: bool = False
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SetScore:
    """One set. `score, low, high, chance` in 0..1; `unread` replies had no answer to read; `fallback`: read
    by option scores instead.

    `unread_marked`: more than UNREAD_MARK of the replies were unread, so the score may measure the reading.

    `low, high`: 95 %. `standard_error`: between clusters of questions that share a passage.
    `within_chance`: guessing lies inside the interval. `effective_n`: what `n` is worth as far as questions
    that share a passage go together. `chosen` and `gold` count letters where the set offers letters.
    `fewer_shots`: questions whose prompt had no room for all of its examples. `free`: questions with a free
    answer, whose credit is chrF. `own_title`: that of a user's own ability, where the recipe declares one.
    `measures`: means over the free answers of what is measured beside chrF (`exact` and `rouge_l` in 0..1,
    `loss` of the rows' own answers in nats a token).
    """

    name: str
    n: int
    score: float
    low: float
    high: float
    chance: float
    standard_error: float
    unread: int = 0
    within_chance: bool = False
    too_long: int = 0
    fallback: int = 0
    effective_n: float = 0.0
    total: int = 0
    chosen: Mapping[str, int] = field(default_factory=dict)
    gold: Mapping[str, int] = field(default_factory=dict)
    fewer_shots: int = 0
    unread_marked: bool = False
    free: int = 0
    own_title: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The ability's title, and where free answers are scored, by what."""
        title = self.own_title or title_of(self.name)
        some = "" if self.free == self.n else f"{self.free} of {self.n} by "
        return f"{title} ({some}chrF)" if self.free else title

    @property
    def measured(self) -> str:
        """The measures of its free answers, in words."""
        shares = (("exact", "exactly the row's answer"), ("rouge_l", "ROUGE-L"))
        said = [
            f"{words} {100 * self.measures[name]:.1f} %" for name, words in shares if name in self.measures
        ]
        if "loss" in self.measures:
            said.append(f"loss of the row's answer {self.measures['loss']:.3f} nats a token")
        return ", ".join(said)


@dataclass(frozen=True)
class Mean:
    """A mean over sets (macro) or over questions (micro): what it covers is in its name."""

    score: float
    low: float
    high: float
    chance: float
    standard_error: float
    sets: int
    n: int
    within_chance: bool = False


@dataclass(frozen=True)
class Table:
    """One protocol's scores. `mean`: macro over the headline sets; `mean_all`: macro over all; `micro`: over
    all questions.

    `mean_as_released` is half of `mean_all` under `paper`, as the released scorer of the ten abilities prints
    it; None elsewhere. `groups`: macro means over some of the sets, by name.
    """

    protocol: str
    sets: tuple[SetScore, ...]
    mean: Mean
    mean_all: Mean
    micro: Mean
    mean_as_released: float | None = None
    groups: Mapping[str, Mean] = field(default_factory=dict)

    def titled(self, titles: Mapping[str, str]) -> Table:
        """The same table, its sets with titles of their own where `titles` names one."""
        sets = tuple(replace(one, own_title=titles.get(one.name, "")) for one in self.sets)
        return replace(self, sets=sets)

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Table:
        """One of `tables` in report.json. KeyError or TypeError where it is something else."""
        return cls(
            protocol=read["protocol"],
            sets=tuple(SetScore(**one) for one in read["sets"]),
            mean=Mean(**read["mean"]),
            mean_all=Mean(**read["mean_all"]),
            micro=Mean(**read["micro"]),
            mean_as_released=read["mean_as_released"],
            groups={name: Mean(**one) for name, one in read.get("groups", {}).items()},
        )


@dataclass(frozen=True)
class Report:
    """One evaluation: suite, shots, who was asked, and a table for each protocol, `fixed` first.

    `partial`: not every question of the suite was asked. `folder` is where the replies lie. `fingerprint` is
    the prompt encoder's, `document` the hash of all questions; `batching` says where replies depend on what
    was asked beside them, "" where they don't.
    """

    suite: str
    shots: int
    identity: Mapping[str, str]
    tables: tuple[Table, ...]
    n: int
    total: int
    headline: tuple[str, ...]
    folder: str = ""
    fingerprint: str = ""
    document: str = ""
    batching: str = ""

    @property
    def asked(self) -> tuple[object, ...]:
        """What was asked: two reports with equal values may stand in one table."""
        return self.suite, self.shots, self.document, tuple((one.name, one.n) for one in self.sets)

    @property
    def partial(self) -> bool:
        """Whether questions of the suite are missing."""
        return self.n < self.total

    def table(self, protocol: str = "fixed") -> Table:
        """The scores under one protocol. KeyError where it was not scored."""
        for table in self.tables:
            if table.protocol == protocol:
                return table
        raise KeyError(protocol)

    @property
    def mean(self) -> Mean:
        """The first number: the mean over the headline sets, read by `fixed`."""
        return self.table("fixed").mean

    @property
    def sets(self) -> tuple[SetScore, ...]:
        """The sets, read by `fixed`."""
        return self.table("fixed").sets

    def to_json(self) -> dict[str, Any]:
        """The document that report.json holds."""
        return {"schema": SCHEMA, "partial": self.partial, **asdict(self), "identity": dict(self.identity)}

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> Report:
        """What `to_json` made. KeyError or TypeError where it is something else."""
        plain = {name: read[name] for name in ("suite", "shots", "identity", "n", "total", "folder")}
        later = {name: read.get(name, "") for name in ("fingerprint", "document", "batching")}
        tables = tuple(Table.from_json(one) for one in read["tables"])
        return cls(**plain, **later, tables=tables, headline=tuple(read["headline"]))


def effective_n(outcomes: Sequence[Outcome]) -> float:
    """How many independent questions these are worth: n over the design effect of their clusters, n where
    nothing is shared.

    The design effect is the variance of the mean with clusters as draws over that with questions as draws,
    never under 1.
    """
    n, score = len(outcomes), sum(one.correct for one in outcomes) / max(1, len(outcomes))
    sums: dict[str, float] = {}
    for one in outcomes:
        key = one.cluster or one.id
        sums[key] = sums.get(key, 0.0) + one.correct - score
    alone = sum((one.correct - score) ** 2 for one in outcomes)
    if len(sums) == n or alone == 0:
        return float(len(sums))
    return n / max(1.0, sum(value**2 for value in sums.values()) / alone)


def score_set(name: str, outcomes: Sequence[Outcome], total: int = 0) -> SetScore:
    """One set's line from its outcomes (at least one)."""
    n = len(outcomes)
    score = sum(one.correct for one in outcomes) / n
    chance = sum(one.chance for one in outcomes) / n
    found = rate([one.correct for one in outcomes], [one.cluster or one.id for one in outcomes])
    low, high = max(0.0, found.low), min(1.0, found.high)
    letters = [one for one in outcomes if len(one.label) == 1 and one.label.isalpha()]
    return SetScore(
        name=name,
        n=n,
        score=score,
        low=low,
        high=high,
        chance=chance,
        standard_error=math.sqrt(found.variance),
        unread=sum(not one.read for one in outcomes),
        within_chance=low <= chance <= high and (chance > 0 or not all(one.free for one in outcomes)),
        too_long=sum(one.too_long for one in outcomes),
        fallback=sum(one.fallback for one in outcomes),
        effective_n=effective_n(outcomes),
        total=max(total, n),
        chosen=dict(sorted(Counter(one.chosen for one in letters if one.chosen).items())),
        gold=dict(sorted(Counter(one.label for one in letters).items())),
        fewer_shots=sum(one.fewer_shots for one in outcomes),
        unread_marked=sum(not one.read for one in outcomes) > UNREAD_MARK * n,
        free=sum(one.free for one in outcomes),
        measures=_measures([one.measures for one in outcomes]),
    )


def _measures(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over those that have it."""
    values: dict[str, list[float]] = {}
    for one in found:
        for name, value in one.items():
            values.setdefault(name, []).append(value)
    return {name: math.fsum(each) / len(each) for name, each in values.items()}


def macro(sets: Sequence[SetScore]) -> Mean:
    """The unweighted mean over sets (at least one)."""
    return _mean(sets, [1 / len(sets)] * len(sets))


def micro(sets: Sequence[SetScore]) -> Mean:
    """The mean over all questions, whatever their set; the sets are strata, each with its own variance."""
    n = sum(one.n for one in sets)
    return _mean(sets, [one.n / n for one in sets])


def _mean(sets: Sequence[SetScore], weights: Sequence[float]) -> Mean:
    """A weighted mean of sets, with the standard error sqrt(sum (weight se)^2)."""
    parts = [Estimate(one.score, one.low, one.high, one.standard_error**2) for one in sets]
    found = combined(parts, weights)
    low, high = max(0.0, found.low), min(1.0, found.high)
    chance = sum(weight * one.chance for weight, one in zip(weights, sets, strict=True))
    n, error = sum(one.n for one in sets), math.sqrt(found.variance)
    guessed = chance > 0 or any(one.free < one.n for one in sets)  # chrF has no guess worth the name
    return Mean(found.value, low, high, chance, error, len(sets), n, low <= chance <= high and guessed)


def tabulate(
    protocol: str,
    outcomes: Sequence[Outcome],
    *,
    order: Sequence[str],
    headline: Sequence[str] = (),
    totals: Mapping[str, int] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    halved: bool = True,
) -> Table:
    """One protocol's table from its outcomes (at least one), sets in `order`, whatever the order of the
    outcomes.

    `halved`: whether the released scorer of this suite prints half of the mean.
    """
    by_set: dict[str, list[Outcome]] = {}
    for one in sorted(outcomes, key=lambda outcome: outcome.id):
        by_set.setdefault(one.set, []).append(one)
    names = [name for name in order if name in by_set] + sorted(set(by_set) - set(order))
    sets = tuple(score_set(name, by_set[name], (totals or {}).get(name, 0)) for name in names)
    chief = [one for one in sets if one.name in headline] or list(sets)
    overall = macro(sets)
    members = {name: [one for one in sets if one.name in wanted] for name, wanted in (groups or {}).items()}
    means = {name: macro(found) for name, found in members.items() if found}
    return Table(
        protocol,
        sets,
        macro(chief),
        overall,
        micro(sets),
        overall.score / 2 if halved and protocol == "paper" else None,
        means,
    )
