"""Two evaluations side by side, question by question: what differs, how surely, and what this many questions
could have shown at all.

McNemar's exact test on the questions that only one side answers; a paired bootstrap, stratified by set, that
draws whole clusters of questions with a shared passage; Holm's correction over the sets; and for "no worse
than" the two one-sided tests (TOST).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.errors import CheckpointError, DataError, UsageError
from doitune.evals import saved
from doitune.evals.evaluate import outcomes
from doitune.evals.report import Outcome

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05
RESAMPLES = 10_000
MEAN = "mean"
"""The name of the row that compares the means over sets."""


@dataclass(frozen=True)
class Side:
    """One evaluation as the comparison needs it: outcomes and the questions' hashes by id; `headline` sets
    make the mean."""

    name: str
    suite: str
    shots: int
    outcomes: Mapping[str, Outcome]
    documents: Mapping[str, str]
    headline: tuple[str, ...]
    order: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """One set (or the mean over sets) on both sides. Scores and differences in 0..1; `difference` is b minus
    a.

    `low, high`: 95 % bootstrap interval of the difference. `mcnemar_p`: exact, two-sided, over the questions
    of the row. `holm_p`: corrected over the sets (the mean's is its own). `flips_up`: wrong at a, right at b.
    `smallest_detectable`: the least difference that this many disagreements could have shown at 5 %.
    `no_worse, equivalent`: within `margin` by one-sided bounds at 5 %; None without a margin.
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


@dataclass(frozen=True)
class Comparison:
    """The mean and every set of two evaluations. `unpaired`: questions that only one of them holds, left
    out."""

    a: str
    b: str
    suite: str
    shots: int
    protocol: str
    mean: Pair
    sets: tuple[Pair, ...]
    unpaired: int
    margin: float | None

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
    return Side(
        name or folder.name, manifest.suite, manifest.shots, found, documents, manifest.headline, order
    )


def compare(
    a: Side,
    b: Side,
    *,
    protocol: str = "fixed",
    margin: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
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
    by_set: dict[str, list[str]] = {}
    for key in sorted(ids):
        by_set.setdefault(a.outcomes[key].set, []).append(key)
    names = [name for name in a.order if name in by_set] + sorted(set(by_set) - set(a.order))
    draws = {name: _draws(a, b, by_set[name], resamples, _seed(seed, name)) for name in names}
    rough = [_pair(a, b, name, by_set[name], draws[name], margin) for name in names]
    adjusted = holm([pair.mcnemar_p for pair in rough])
    sets = tuple(_judged(pair, p) for pair, p in zip(rough, adjusted, strict=True))
    chief = [pair for pair in sets if pair.set in a.headline] or list(sets)
    unpaired = len(a.outcomes) + len(b.outcomes) - 2 * len(ids)
    return Comparison(
        a.name, b.name, a.suite, a.shots, protocol, _mean(chief, draws, margin), sets, unpaired, margin
    )


def _seed(seed: int, name: str) -> list[int]:
    """A seed of its own for each set, so that a set's interval does not depend on which others are there."""
    return [seed, *name.encode()]


def _draws(a: Side, b: Side, ids: Sequence[str], resamples: int, seed: Sequence[int]) -> np.ndarray:
    """[resamples] differences of the set's score, clusters drawn with replacement.

    Clusters with the same sum of differences and the same size are alike, so drawing them is one multinomial
    draw of their kinds.
    """
    import numpy as np

    sums: dict[str, list[float]] = {}
    for key in ids:
        first, second = a.outcomes[key], b.outcomes[key]
        total = sums.setdefault(first.cluster or key, [0.0, 0.0])
        total[0] += second.correct - first.correct
        total[1] += 1
    kinds = Counter((round(total, 9), size) for total, size in sums.values())
    values = np.array(sorted(kinds))
    shares = np.array([kinds[kind] for kind in sorted(kinds)]) / len(sums)
    counts = np.random.default_rng(list(seed)).multinomial(len(sums), shares, size=resamples)
    return np.asarray((counts @ values[:, 0]) / (counts @ values[:, 1]))


def _pair(a: Side, b: Side, name: str, ids: Sequence[str], draws: np.ndarray, margin: float | None) -> Pair:
    """One set's row, before Holm's correction."""
    first, second = [a.outcomes[key] for key in ids], [b.outcomes[key] for key in ids]
    up = sum(y.correct > x.correct for x, y in zip(first, second, strict=True))
    down = sum(y.correct < x.correct for x, y in zip(first, second, strict=True))
    n = len(ids)
    scores = sum(one.correct for one in first) / n, sum(one.correct for one in second) / n
    p = mcnemar(up, down)
    shared = any(one.cluster for one in first)
    return Pair(
        a.name,
        b.name,
        name,
        n,
        *scores,
        scores[1] - scores[0],
        *_interval(draws, LEVEL),
        p,
        p,
        up,
        down,
        smallest_detectable(up + down, n),
        shared,
        "",
        *_within(draws, margin),
    )


def _interval(draws: np.ndarray, level: float) -> tuple[float, float]:
    """The percentile interval that leaves out `level` in all."""
    import numpy as np

    low, high = np.quantile(draws, [level / 2, 1 - level / 2])
    return float(low), float(high)


def _within(draws: np.ndarray, margin: float | None) -> tuple[bool | None, bool | None]:
    """(no worse than the margin, equivalent within it), each one-sided bound at 5 %."""
    if margin is None:
        return None, None
    low, high = _interval(draws, 2 * LEVEL)
    return low > -margin, low > -margin and high < margin


def _judged(pair: Pair, holm_p: float) -> Pair:
    """The row with its corrected p and its verdict in words."""
    verdict = _verdict(holm_p < LEVEL, pair.difference, pair.flips_up + pair.flips_down)
    return replace(pair, holm_p=holm_p, verdict=verdict)


def _verdict(sure: bool, difference: float, flips: int) -> str:
    if sure:
        return "better" if difference > 0 else "worse"
    return "no difference shown" if flips else "no difference"


def _mean(sets: Sequence[Pair], draws: Mapping[str, np.ndarray], margin: float | None) -> Pair:
    """The unweighted mean over sets. McNemar's p pools their questions; a verdict needs it and the
    interval, for few flips make that too short."""
    import numpy as np

    together = np.mean([draws[pair.set] for pair in sets], axis=0)
    low, high = _interval(together, LEVEL)
    up, down = sum(pair.flips_up for pair in sets), sum(pair.flips_down for pair in sets)
    scores = [sum(getattr(pair, side) for pair in sets) / len(sets) for side in ("score_a", "score_b")]
    p = mcnemar(up, down)
    n = sum(pair.n for pair in sets)
    sure = (low > 0 or high < 0) and p < LEVEL
    return Pair(
        sets[0].a,
        sets[0].b,
        MEAN,
        n,
        scores[0],
        scores[1],
        scores[1] - scores[0],
        low,
        high,
        p,
        p,
        up,
        down,
        smallest_detectable(up + down, n),
        any(pair.clustered for pair in sets),
        _verdict(sure, scores[1] - scores[0], up + down),
        *_within(together, margin),
    )


def mcnemar(up: int, down: int) -> float:
    """Exact two-sided p of `up` against `down` disagreements under equal chances: twice the smaller
    binomial tail, at most 1."""
    n, term, tail = up + down, 1, 0
    for k in range(min(up, down) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def smallest_detectable(disagreements: int, n: int) -> float:
    """The least difference in scores that so many disagreements among `n` questions could have shown at 5
    % (6 to none at the very least)."""
    count = max(disagreements, 6)
    for up in range((count + 1) // 2, count + 1):
        if mcnemar(up, count - up) < LEVEL:
            return min(1.0, (2 * up - count) / n)
    return min(1.0, count / n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p values in the order given, each at most 1 and none under a
    smaller one's."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted
