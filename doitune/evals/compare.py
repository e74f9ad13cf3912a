"""Two evaluations side by side, question by question: what differs, how surely, and what this many questions
could have shown at all.

One quantity in each row, its interval and its test: the set's difference in credit, or the mean of these
differences over sets. Questions that share a passage change together (`intervals`, `paired`); Holm's
correction over the sets; and for "no worse than" the two one-sided tests (TOST).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from doitune.errors import CheckpointError, DataError, UsageError
from doitune.evals import saved
from doitune.evals.evaluate import outcomes
from doitune.evals.intervals import LEVEL, Estimate, combined, difference
from doitune.evals.paired import holm, paired_test
from doitune.evals.report import Outcome, held_in
from doitune.system.doing import doing

MEAN = "mean"
"""The name of the row that compares the means over sets."""


@dataclass(frozen=True)
class Side:
    """One evaluation as the comparison needs it: outcomes and the questions' hashes by id; `headline` sets
    make the mean. `held`: see `held_in`."""

    name: str
    suite: str
    shots: int
    outcomes: Mapping[str, Outcome]
    documents: Mapping[str, str]
    headline: tuple[str, ...]
    order: tuple[str, ...]
    folder: Path = Path()
    held: str = ""


@dataclass(frozen=True)
class Pair:
    """One set (or the mean over sets) on both sides. Scores and differences in 0..1; `difference` is b minus
    a.

    `low, high`: 95 % interval of the difference; 0 lies inside unless `mcnemar_p` is below 5 %. `mcnemar_p`:
    two-sided, of this difference, exact under flips of the signs of whole passages' changes; for questions
    on their own with whole credits that is McNemar's test, for the mean each change counts as in the mean.
    `holm_p`: corrected over the sets (the mean's is its own). `flips_up, flips_down`: questions with more
    credit at b, at a. `smallest_detectable`: the least difference that these changes could have shown at 5
    %. `verdict`: better or worse where p (a set's: `holm_p`) is below 5 % and 0 outside the interval.
    `no_worse, equivalent`: within `margin` by one-sided bounds at 5 %; None without a margin. `free`:
    questions with a free answer, whose credit is chrF.
    """

    a: str
    b: str
    set: str
    n: int
    score_a: float
    score_b: float
    difference: float
    low: float
    high: float
    mcnemar_p: float
    holm_p: float
    flips_up: int
    flips_down: int
    smallest_detectable: float
    clustered: bool
    verdict: str
    no_worse: bool | None = None
    equivalent: bool | None = None
    free: int = 0


@dataclass(frozen=True)
class Comparison:
    """The mean and every set of two evaluations. `unpaired`: questions that only one of them holds, left
    out. `held_a`, `held_b`: see `held_in`."""

    a: str
    b: str
    suite: str
    shots: int
    protocol: str
    mean: Pair
    sets: tuple[Pair, ...]
    unpaired: int
    margin: float | None
    held_a: str = ""
    held_b: str = ""

    @property
    def other_values(self) -> str:
        """A sentence where the two bases were held in other values; "" where they were not, or it is not
        known."""
        if not self.held_a or not self.held_b or self.held_a == self.held_b:
            return ""
        return f"A: {self.held_a}; B: {self.held_b}: some answers differ for that alone"

    def against_margin(self, pair: Pair) -> str:
        """What the margin says of a row, in words; "" without one."""
        if self.margin is None:
            return ""
        return "equivalent" if pair.equivalent else "no worse" if pair.no_worse else "not shown"

    def rows(self) -> list[dict[str, Any]]:
        """The entries of `doitune compare --json`, the mean first."""
        shared = {
            "suite": self.suite,
            "shots": self.shots,
            "protocol": self.protocol,
            "unpaired": self.unpaired,
            "held_a": self.held_a,
            "held_b": self.held_b,
        }
        return [{**asdict(pair), **shared} for pair in (self.mean, *self.sets)]


def read_side(folder: Path, name: str = "", protocol: str = "fixed") -> Side:
    """One evaluation's saved outcomes under one protocol. CheckpointError where the folder holds none."""
    manifest = saved.read_manifest(folder)
    lines = saved.read_lines(folder) if manifest else {}
    if manifest is None or not lines:
        raise CheckpointError(f"{folder} holds no evaluation", "run `doitune eval` first")
    found = {one.id: one for one in outcomes(lines.values(), protocol)}
    documents = {key: line.document for key, line in lines.items()}
    order = tuple(manifest.totals)
    head = manifest.headline
    held, plain = held_in(manifest.identity), name or folder.name
    return Side(plain, manifest.suite, manifest.shots, found, documents, head, order, folder, held)


def compare(
    a: Side,
    b: Side,
    *,
    protocol: str = "fixed",
    margin: float | None = None,
) -> Comparison:
    """Every set that both sides answered, and the mean over them. `margin` in 0..1.

    Errors: DataError where the two were not asked the same suite, or share no question; UsageError for a
    margin that is none.
    """
    if margin is not None and not 0 <= margin < 1:
        raise UsageError(
            f"a margin of {100 * margin:g} points is none", "points in %, from 0 to below 100: --margin 2"
        )
    if (a.suite, a.shots) != (b.suite, b.shots):
        raise DataError(
            f"{a.name} answered {a.suite} with {a.shots} shots, {b.name} {b.suite} with {b.shots}",
            "compare evaluations of one suite",
        )
    ids = [key for key in a.outcomes if key in b.outcomes and a.documents[key] == b.documents[key]]
    if not ids:
        raise DataError(
            f"{a.name} and {b.name} share no question", "evaluate both with the same corpus, limit and seed"
        )
    doing(f"comparing {len(ids):,} questions of {a.name} and {b.name}")
    by_set: dict[str, list[str]] = {}
    for key in sorted(ids):
        by_set.setdefault(a.outcomes[key].set, []).append(key)
    names = [name for name in a.order if name in by_set] + sorted(set(by_set) - set(a.order))
    found = {name: _Changes.of(a, b, by_set[name]) for name in names}
    rough = [_pair((a.name, b.name, name), [found[name]], margin) for name in names]
    adjusted = holm([pair.mcnemar_p for pair in rough])
    sets = tuple(_judged(pair, p) for pair, p in zip(rough, adjusted, strict=True))
    chief = [found[name] for name in names if name in a.headline] or list(found.values())
    mean = _pair((a.name, b.name, MEAN), chief, margin)
    unpaired = len(a.outcomes) + len(b.outcomes) - 2 * len(ids)
    whole = _judged(mean, mean.mcnemar_p)
    return Comparison(
        a.name, b.name, a.suite, a.shots, protocol, whole, sets, unpaired, margin, a.held, b.held
    )


@dataclass(frozen=True)
class _Changes:
    """One set's credits on both sides, and what each question belongs to (its passage, or itself)."""

    before: Sequence[float]
    after: Sequence[float]
    labels: Sequence[str]
    clustered: bool
    free: int

    @classmethod
    def of(cls, a: Side, b: Side, ids: Sequence[str]) -> _Changes:
        first = [a.outcomes[key] for key in ids]
        labels = [one.cluster or one.id for one in first]
        after = [b.outcomes[key].correct for key in ids]
        clustered, free = any(one.cluster for one in first), sum(one.free for one in first)
        return cls([one.correct for one in first], after, labels, clustered, free)

    @property
    def changes(self) -> list[float]:
        return [after - before for before, after in zip(self.before, self.after, strict=True)]

    @property
    def sums(self) -> list[float]:
        """What each cluster adds to the set's difference."""
        found: dict[str, float] = {}
        for label, change in zip(self.labels, self.changes, strict=True):
            found[label] = found.get(label, 0.0) + change
        return [one / len(self.labels) for one in found.values()]


def _pair(names: tuple[str, str, str], sets: Sequence[_Changes], margin: float | None) -> Pair:
    """The row of a set, or of the unweighted mean over sets, before Holm's correction and the verdict."""
    changes = [change for one in sets for change in one.changes]
    share, n = 1 / len(sets), len(changes)
    p, least = paired_test([share * one for found in sets for one in found.sums], 1 / n)
    before, after = (
        sum(share * sum(getattr(one, side)) / len(one.labels) for one in sets) for side in ("before", "after")
    )
    up, down = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    return Pair(
        *names,
        n,
        before,
        after,
        after - before,
        *_interval(sets, p, LEVEL),
        p,
        p,
        up,
        down,
        min(1.0, least),
        any(one.clustered for one in sets),
        "",
        *_within(sets, p, margin),
        free=sum(one.free for one in sets),
    )


def _interval(sets: Sequence[_Changes], p: float, level: float) -> tuple[float, float]:
    """The interval of the mean of the sets' differences; what the test does not exclude is inside."""
    parts: list[Estimate] = [difference(one.changes, one.labels, level) for one in sets]
    found = combined(parts, [1 / len(parts)] * len(parts), level)
    low, high = max(-1.0, found.low), min(1.0, found.high)
    return (min(low, 0.0), max(high, 0.0)) if p >= level else (low, high)


def _within(sets: Sequence[_Changes], p: float, margin: float | None) -> tuple[bool | None, bool | None]:
    """(no worse than the margin, equivalent within it), each one-sided bound at 5 %."""
    if margin is None:
        return None, None
    low, high = _interval(sets, p, 2 * LEVEL)
    return low > -margin, low > -margin and high < margin


def _judged(pair: Pair, holm_p: float) -> Pair:
    """The row with its corrected p and its verdict in words."""
    if holm_p < LEVEL and not pair.low <= 0 <= pair.high:
        verdict = "better" if pair.difference > 0 else "worse"
    else:
        verdict = "no difference shown" if pair.flips_up or pair.flips_down else "no difference"
    return replace(pair, holm_p=holm_p, verdict=verdict)
