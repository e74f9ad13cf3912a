"""Which curves of an ability agree with its scores: Bayes by adaptive importance sampling.

Rounds of draws from a proposal (t distributions around the last round's, and the prior beside them, so that
no weight grows without bound) are weighted by prior times likelihood over proposal. A fit is refused below
100 effective draws. Everything is seeded: the same scores give the same curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import lgamma, log, pi

import numpy as np

from doitune.growth.fit.curve import CENTRES, DEVIATIONS, FLOOR, SHAPES, Draws
from doitune.growth.fit.noise import PRECISION_WEIGHTS, PRECISIONS, log_likelihoods

FEWEST_EFFECTIVE = 100
"""Draws that a posterior must be worth."""

FIRST, EACH, ROUNDS, ENOUGH, KEPT = 5000, 5000, 8, 450, 1000
"""Draws of the prior, and of each later round; rounds at most, and effective draws at which they end; draws
that are kept."""

KERNELS = 100
"""Draws of a round that the next one lies around."""

OFF = 0.08
"""The part of a proposal that is the prior."""

FREEDOM = 6
"""Degrees of freedom of the t distribution."""

GRID = 2001
"""Scores at which a cell's likelihood is kept."""


@dataclass(frozen=True)
class Seen:
    """One score of an ability: `own` rows of it and `others` rows in the run, `right` (fractions allowed) of
    `items` questions."""

    own: float
    others: float
    right: float
    items: int


@dataclass(frozen=True)
class Posterior:
    """`draws` of an ability's curve and how many independent ones they are worth. Below FEWEST_EFFECTIVE
    nothing may be concluded from them: `is_enough`."""

    draws: Draws
    effective: float

    @property
    def is_enough(self) -> bool:
        """Whether conclusions may be drawn."""
        return self.effective >= FEWEST_EFFECTIVE


@lru_cache(maxsize=512)
def fit(seen: tuple[Seen, ...], floor: float, spread: float = 0.0, seed: int = 0) -> Posterior:
    """The curves that agree with at least one score. `floor`: the score expected without rows, 0..1, known
    up to `spread` (a standard deviation, on top of the prior's)."""
    dice = np.random.default_rng(seed)
    widths = DEVIATIONS.copy()
    widths[FLOOR] = np.hypot(widths[FLOOR], spread)
    cells = _Cells.of(seen)
    target = _Target(cells, floor, widths)
    drawn = target.prior(dice, FIRST)
    weights, best = target.likelihood(drawn), None
    for turn in range(ROUNDS):
        proposal = _Proposal.around(dice, drawn, _tempered(weights, 150 if turn == 0 else 400), widths)
        drawn = proposal.draw(dice, EACH, floor)
        weights = target.likelihood(drawn) + target.log_prior(drawn) - proposal.log_density(drawn)
        worth = _effective(weights)
        if best is None or worth > best[0]:
            best = (worth, drawn, weights)
        if worth >= ENOUGH:
            break
    assert best is not None
    worth, drawn, weights = best
    shares = np.exp(weights - weights.max())
    at = (np.arange(KEPT) + dice.random()) / KEPT
    places = np.searchsorted(np.cumsum(shares) / shares.sum(), at).clip(0, len(shares) - 1)
    return Posterior(drawn.take(dice.permutation(places)), worth)


def _effective(weights: np.ndarray) -> float:
    shares = np.exp(weights - weights.max())
    return float(shares.sum() ** 2 / (shares**2).sum())


def _tempered(weights: np.ndarray, least: float) -> np.ndarray:
    """Shares by log `weights`, raised to the highest power up to 1 that leaves `least` effective draws."""
    low, high = 0.0, 1.0
    if _effective(weights) < least:
        for _ in range(25):
            middle = (low + high) / 2
            low, high = (middle, high) if _effective(weights * middle) >= least else (low, middle)
    else:
        low = 1.0
    shares = np.exp(low * (weights - weights.max()))
    return shares / shares.sum()


@dataclass(frozen=True)
class _Cells:
    """Distinct budgets, [cells], and the log likelihood of all scores at each, [precisions, cells, GRID], by
    the expected score in equal steps from 0 to 1."""

    own: np.ndarray
    others: np.ndarray
    table: np.ndarray

    @classmethod
    def of(cls, seen: Sequence[Seen]) -> _Cells:
        budgets = sorted({(one.own, one.others) for one in seen})
        expected = np.clip(np.linspace(0, 1, GRID), 0.003, 0.997)
        table = np.zeros((len(PRECISIONS), len(budgets), GRID))
        for one in seen:
            at = budgets.index((one.own, one.others))
            table[:, at] += log_likelihoods(one.right, one.items, expected)
        own, others = np.array(budgets, dtype=float).T
        return cls(own, others, table)


@dataclass(frozen=True)
class _Target:
    cells: _Cells
    floor: float
    widths: np.ndarray

    def prior(self, dice: np.random.Generator, count: int) -> Draws:
        parameters = CENTRES + self.widths * dice.standard_normal((count, len(CENTRES)))
        shapes = dice.integers(0, len(SHAPES), count)
        precisions = dice.choice(len(PRECISIONS), count, p=PRECISION_WEIGHTS)
        return Draws(parameters, shapes, precisions, self.floor)

    def log_prior(self, drawn: Draws) -> np.ndarray:
        weights = np.log(PRECISION_WEIGHTS / len(SHAPES))
        return _log_normal(drawn.parameters, self.widths) + weights[drawn.precisions]

    def likelihood(self, drawn: Draws) -> np.ndarray:
        """[draws]: the log likelihood of all scores, between the grid's points as a line."""
        at = drawn.scores(self.cells.own, self.cells.others) * (GRID - 1)
        below = np.clip(at.astype(int), 0, GRID - 2)
        rows = drawn.precisions[:, None] * len(self.cells.own) + np.arange(len(self.cells.own))
        flat, places = self.cells.table.reshape(-1), rows * GRID + below
        return (flat[places] + (at - below) * (flat[places + 1] - flat[places])).sum(1)


@dataclass(frozen=True)
class _Proposal:
    """Kernels around draws that were believed in, so that it bends where the posterior does.

    `centres`: [kernels, 7]; `factor`: the Cholesky factor of a kernel's spread; `shapes`: [kernels, shapes],
    the chances of each shape there; `precisions`: theirs everywhere.
    """

    centres: np.ndarray
    factor: np.ndarray
    widths: np.ndarray
    shapes: np.ndarray
    precisions: np.ndarray

    @classmethod
    def around(
        cls, dice: np.random.Generator, drawn: Draws, shares: np.ndarray, widths: np.ndarray
    ) -> _Proposal:
        """West's smoothing: kernels are drawn towards the mean as much as their own spread adds."""
        size = len(widths)
        mean = shares @ drawn.parameters
        apart = drawn.parameters - mean
        spread = (apart.T * shares) @ apart + np.diag((0.03 * widths) ** 2)
        narrow = (4 / (KERNELS * (size + 2))) ** (1 / (size + 4))
        places = dice.choice(len(shares), KERNELS, p=shares)
        centres = mean + np.sqrt(1 - narrow**2) * apart[places]
        everywhere = np.bincount(drawn.shapes, shares, len(SHAPES)) + 0.1
        shapes = 0.7 * np.eye(len(SHAPES))[drawn.shapes[places]] + 0.3 * everywhere / everywhere.sum()
        precisions = np.bincount(drawn.precisions, shares, len(PRECISIONS)) + 0.2 * PRECISION_WEIGHTS
        factor = narrow * np.linalg.cholesky(spread)
        return cls(centres, factor, widths, shapes, precisions / precisions.sum())

    def draw(self, dice: np.random.Generator, count: int, floor: float) -> Draws:
        size = len(self.widths)
        kernels = dice.integers(0, len(self.centres), count)
        scale = np.sqrt(dice.chisquare(FREEDOM, (count, 1)) / FREEDOM)
        parameters = self.centres[kernels] + dice.standard_normal((count, size)) / scale @ self.factor.T
        off = dice.random(count) < OFF
        parameters[off] = CENTRES + self.widths * dice.standard_normal((int(off.sum()), size))
        shapes = (dice.random((count, 1)) > np.cumsum(self.shapes[kernels], axis=1)[:, :-1]).sum(1)
        shapes[off] = dice.integers(0, len(SHAPES), int(off.sum()))
        precisions = dice.choice(len(PRECISIONS), count, p=self.precisions)
        return Draws(parameters, shapes, precisions, floor)

    def log_density(self, drawn: Draws) -> np.ndarray:
        size = len(self.widths)
        here = np.linalg.solve(self.factor, drawn.parameters.T).T
        there = np.linalg.solve(self.factor, self.centres.T).T
        squares = (here**2).sum(1)[:, None] + (there**2).sum(1) - 2 * here @ there.T
        near = (1 + np.maximum(squares, 0) / FREEDOM) ** (-(FREEDOM + size) / 2)
        whole = lgamma((FREEDOM + size) / 2) - lgamma(FREEDOM / 2) - size / 2 * log(FREEDOM * pi)
        whole -= np.log(np.diag(self.factor)).sum()
        mixed = (near * self.shapes[:, drawn.shapes].T).mean(1)
        off = _log_normal(drawn.parameters, self.widths) - log(len(SHAPES))
        found = np.logaddexp(log(1 - OFF) + whole + np.log(mixed + 1e-300), log(OFF) + off)
        return found + np.log(self.precisions[drawn.precisions])


def _log_normal(parameters: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """[draws]: the log density of the priors' normals."""
    whole = np.log(widths).sum() + len(widths) / 2 * log(2 * pi)
    return -0.5 * (((parameters - CENTRES) / widths) ** 2).sum(1) - whole
