"""How often intervals hold the truth and tests call equals unequal, by simulation: 93 to 97 % and at most 6 %.

Every cell of the tables is a world: so many passages of such sizes, a rate, and how far questions of a passage
go together (an intraclass correlation of 0 to 1). No cell may be under 93 %, or above 6 %: a cell fails where
its count would be rarer than one in a thousand at these limits, a row (all rates and correlations) where its
mean is beyond them. `pytest -s` prints least and mean of each row.

Above 97 %, by nature: up to ten passages (how far their questions go together can't be seen, so more is allowed
for than there is); rates near 0 and 1 and few changes (few different samples; what is added to them counts for
much); uncorrelated passages up to some thirty; few passages of very different sizes; means over sets in which
one of five questions counts like one of 1,000. Elsewhere, that is rates of 0.3 to 0.7 in 30 or more passages
or 40 or more single questions, it is 93 to 98 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from soon import soon

from doitune.evals.compare import Side, compare
from doitune.evals.intervals import Estimate, difference, rate
from doitune.evals.paired import paired_test
from doitune.evals.report import Outcome, macro, micro, score_set

Dice = np.random.Generator
LEAST, MOST = 0.93, 0.06


def sizes(kind: str, passages: int, dice: Dice) -> np.ndarray:
    """Questions of each passage: all alike, uneven, or two thirds of them questions on their own."""
    if kind == "uneven":
        return 1 + dice.geometric(0.25, passages)
    if kind == "mixed":
        return np.where(np.arange(passages) < passages - passages // 3, 1, 8)
    return np.full(passages, int(kind))


def shares(mean: float, icc: float, passages: int, dice: Dice) -> np.ndarray:
    """A rate for each passage, of this mean and correlation."""
    if icc == 0 or mean in (0, 1):
        return np.full(passages, mean)
    if icc == 1:
        return (dice.random(passages) < mean).astype(float)
    return dice.beta(mean * (1 - icc) / icc, (1 - mean) * (1 - icc) / icc, passages)


@lru_cache(maxsize=100_000)
def estimate(of: Callable[..., Estimate], kinds: tuple[tuple[int, int, int], ...]) -> tuple[Estimate, float]:
    """The estimate from (gained, lost, size) of each passage, and the test's p."""
    values = [
        x for up, down, size in kinds for x in (1.0,) * up + (-1.0,) * down + (0.0,) * (size - up - down)
    ]
    labels = [str(n) for n, (_, _, size) in enumerate(kinds) for _ in range(size)]
    p = paired_test([float(up - down) for up, down, _ in kinds], 1.0)[0] if of is difference else 0.0
    return of(values, labels), p


def score(kind: str, passages: int, mean: float, icc: float, dice: Dice) -> bool:
    """Whether a simulated score's interval holds its mean."""
    asked = sizes(kind, passages, dice)
    right = dice.binomial(asked, shares(mean, icc, passages, dice))
    found, _ = estimate(rate, tuple(sorted((int(s), 0, int(m)) for s, m in zip(right, asked, strict=True))))
    return found.low <= mean <= found.high


def change(kind: str, passages: int, flips: float, gained: float, icc: tuple[float, float], dice: Dice):
    """Whether a simulated difference's interval, as it is shown, holds its mean; whether 0 is excluded."""
    asked = sizes(kind, passages, dice)
    changed = dice.binomial(asked, shares(flips, icc[0], passages, dice))
    up = dice.binomial(changed, shares(gained, icc[1], passages, dice))
    kinds = sorted((int(u), int(c - u), int(m)) for u, c, m in zip(up, changed, asked, strict=True))
    found, p = estimate(difference, tuple(kinds))
    low, high = (found.low, found.high) if p < 0.05 else (min(0, found.low), max(0, found.high))
    mean = flips * (2 * gained - 1)
    return low <= mean + 1e-12 and mean - 1e-12 <= high, not low <= 0 <= high


def rows(most: int) -> Iterator[tuple[str, int]]:
    """Kinds of passages and their numbers, up to so many questions."""
    for kind, size in (("1", 1), ("5", 5), ("20", 20), ("mixed", 4), ("uneven", 5)):
        yield from ((kind, count) for count in (3, 5, 10, 30, 100, 200) if count * size <= most)


def beyond(hits: int, rounds: int, limit: float) -> bool:
    """Whether so few hits, or fewer, are rarer than one in a thousand where `limit` is the chance of one."""
    logs = [
        math.lgamma(rounds + 1) - math.lgamma(k + 1) - math.lgamma(rounds - k + 1)
        + k * math.log(limit) + (rounds - k) * math.log1p(-limit)
        for k in range(hits + 1)
    ]  # fmt: skip
    return sum(map(math.exp, logs)) < 0.001


def judge(name: object, cells: dict[object, list[bool]], limit: float = LEAST) -> None:
    """One row of the table; raises where a cell or the row's mean falls short of the limit."""
    shown = {cell: sum(hits) / len(hits) for cell, hits in cells.items()}
    mean = sum(shown.values()) / len(shown)
    worst = min(shown, key=lambda cell: shown[cell])
    print(f"{name}: least {100 * shown[worst]:.1f} at {worst}, mean {100 * mean:.1f}, {len(cells)} cells")
    for cell, hits in cells.items():
        assert not beyond(sum(hits), len(hits), limit), (name, cell, shown[cell])
    assert mean >= limit, (name, mean)


def scores(rounds: int, most: int, rates: tuple[float, ...], dice: Dice) -> None:
    for kind, passages in rows(most):
        together = (0.0,) if kind == "1" else (0.0, 0.1, 0.4, 1.0)
        judge(
            ("score", kind, passages),
            {
                (mean, icc): [score(kind, passages, mean, icc, dice) for _ in range(rounds)]
                for mean in rates
                for icc in together
            },
        )


def changes(rounds: int, most: int, flips: tuple[float, ...], dice: Dice) -> None:
    for kind, passages in rows(most):
        together = ((0.0, 0.0),) if kind == "1" else ((0.0, 0.0), (0.2, 0.2), (0.0, 1.0), (1.0, 1.0))
        cells, calm = {}, {}
        for share in flips:
            for gained in (0.5, 0.75, 1.0):
                for icc in together:
                    drawn = [change(kind, passages, share, gained, icc, dice) for _ in range(rounds)]
                    cells[share, gained, icc] = [holds for holds, _ in drawn]
                    if gained == 0.5:
                        calm[share, icc] = [not called for _, called in drawn]
        judge(("difference", kind, passages), cells)
        judge(("no false verdict", kind, passages), calm, 1 - MOST)


def test_scores_and_differences_in_short():
    dice = np.random.default_rng(0)
    scores(30, 100, (0.1, 0.5), dice)
    changes(30, 60, (0.2,), dice)


@pytest.mark.slow
def test_scores_cover():
    scores(100, 1000, (0.02, 0.1, 0.3, 0.5, 0.95), np.random.default_rng(1))


@pytest.mark.slow
def test_differences_cover_and_equals_are_not_called_unequal():
    changes(40, 1000, (0.02, 0.1, 0.3, 1.0), np.random.default_rng(2))


WORLDS = {
    "sets that cluster differently": [("50", 10, 0.5, 0.5), ("1", 100, 0.6, 0), ("1", 100, 0.3, 0)],
    "a tiny set beside a large one": [("1", 600, 0.5, 0), ("1", 5, 0.9, 0)],
    "sets of one size": [("1", 60, 0.05 + 0.1 * k, 0) for k in range(10)],
    "sets of five": [("1", 5, 0.9, 0)] * 20,
    "three passages each": [("10", 3, 0.1 * k, 0.3) for k in range(2, 9)],
    "mixed": [("mixed", 30, 0.4, 0.5), ("uneven", 12, 0.8, 1), ("1", 50, 0.2, 0), ("20", 3, 0.5, 0.2)],
}
"""Sets as (sizes, passages, rate, correlation)."""


def outcomes(name: str, asked: np.ndarray, right: np.ndarray) -> list[Outcome]:
    """Questions of passages, so many right in each."""
    return [
        Outcome(
            f"{name}#{n:03d}/{k:03d}",
            name,
            float(k < right[n]),
            0.0,
            cluster=f"{name}/{n}" if size > 1 else "",
        )
        for n, size in enumerate(asked)
        for k in range(size)
    ]


def means(world: list[tuple[str, int, float, float]], dice: Dice) -> tuple[bool, bool]:
    """Whether the intervals of the macro and the micro mean hold theirs."""
    sets, truths = [], []
    for n, (kind, passages, mean, icc) in enumerate(world):
        asked = sizes(kind, passages, dice)
        right = dice.binomial(asked, shares(mean, icc, passages, dice))
        sets.append(score_set(str(n), outcomes(str(n), asked, right)))
        truths.append(mean)
    whole = sum(truth * one.n for truth, one in zip(truths, sets, strict=True)) / sum(one.n for one in sets)
    found = ((macro(sets), sum(truths) / len(truths)), (micro(sets), whole))
    over_sets, over_questions = (mean.low <= truth <= mean.high for mean, truth in found)
    return over_sets, over_questions


def compared(world: list[tuple[str, int, float, float]], gained: float, dice: Dice) -> tuple[bool, bool]:
    """Whether the shown interval of the mean difference holds it; whether the two are called unequal. 30 % of
    answers differ, in whole passages as far as the correlation says."""
    first, second = {}, {}
    for n, (kind, passages, _, icc) in enumerate(world):
        asked = sizes(kind, passages, dice)
        changed = dice.binomial(asked, shares(0.3, icc, passages, dice))
        up = dice.binomial(changed, shares(gained, icc, passages, dice))
        before, after = outcomes(str(n), asked, changed - up), outcomes(str(n), asked, changed)
        first |= {one.id: one for one in before}
        second |= {one.id: replace(one, correct=one.correct - first[one.id].correct) for one in after}
    names, documents = tuple(map(str, range(len(world)))), dict.fromkeys(first, "")
    a, b = (Side(name, "s", 0, side, documents, names, names) for name, side in (("a", first), ("b", second)))
    mean = compare(a, b).mean
    return mean.low <= 0.3 * (2 * gained - 1) <= mean.high, mean.verdict in ("better", "worse")


@pytest.mark.slow
def test_means_over_sets_cover_and_equals_are_not_called_unequal():
    dice = np.random.default_rng(3)
    for name, world in WORLDS.items():
        drawn = [means(world, dice) for _ in range(150)]
        judge(name, {"macro": [macro for macro, _ in drawn], "micro": [micro for _, micro in drawn]})
        calm = [compared(world, 0.5, dice) for _ in range(90)]
        apart = [compared(world, 0.8, dice)[0] for _ in range(60)]
        judge(("difference", name), {"equal": [holds for holds, _ in calm], "gain of 18 points": apart})
        judge(("no false verdict", name), {"mean": [not called for _, called in calm]}, 1 - MOST)


def test_twelve_thousand_questions_are_compared_at_once():
    """A whole CMMLU, some passages included, in a second or two."""
    dice = np.random.default_rng(4)
    world = [("1", 170, 0.5, 0.0)] * 60 + [("5", 60, 0.5, 0.3)] * 6
    soon(lambda: compared(world, 0.6, dice), 4)
