"""Intervals of scores and of paired differences for questions that share passages: pure functions over
arrays.

Each interval is an adjusted Wald interval: draws of both kinds are added to the sample before its mean and
variance are taken, so that no sample, not even one without a wrong answer, looks certain. Questions that
share a passage are worth fewer draws, n / (1 + (m - 1) icc) of them. Few passages say little about their
intraclass correlation, so it is not estimated but averaged over: its posterior under a beta-binomial model
with a uniform prior, which for few passages keeps the chance that a passage is worth no more than one
question. Where the plain variance between clusters, which needs no model, gives the wider interval, that
one holds.

Sources: Agresti and Coull 1998 (scores); Bonett and Price 2012 (paired differences); Kish 1965, Korn and
Graubard 1998 (effective samples); Liang and Zeger 1986 (variance between clusters); Zou and Donner 2008, Fay
and Feuer 1997 (means over sets). Coverage: tests/test_evals_coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05
ADDED = 1.96**2
"""Draws that are added to a score, half of them right."""

POINTS = 32
"""Values of the intraclass correlation that stand for 0 to 1, denser near 0."""

SPREAD, PAIRED_SPREAD = 1.5, 2.5
"""Taken from the number of draws where it divides a variance: the least by which no sample of up to 1,000
questions has an interval that covers less than 93 %."""


@dataclass(frozen=True)
class Estimate:
    """A mean over questions: `low, high` at the level asked for, `variance` of the mean between clusters.

    One cluster alone shows no variance between clusters: that of a single draw stands in.
    """

    value: float
    low: float
    high: float
    variance: float


@dataclass(frozen=True)
class Clusters:
    """By cluster, [clusters] each: the number of questions, and the sums of gains and of losses in credit."""

    sizes: np.ndarray
    gains: np.ndarray
    losses: np.ndarray

    @classmethod
    def of(cls, changes: Sequence[float], labels: Sequence[str]) -> Clusters:
        """From one change in -1..1 for each question and the label of its cluster (at least one question)."""
        import numpy as np

        places: dict[str, int] = {}
        at = np.array([places.setdefault(label, len(places)) for label in labels])
        values = np.asarray(changes, dtype=float)
        return cls(
            np.bincount(at).astype(float),
            np.bincount(at, np.maximum(values, 0)),
            np.bincount(at, np.maximum(-values, 0)),
        )

    @property
    def n(self) -> float:
        """Questions."""
        return float(self.sizes.sum())

    @property
    def partners(self) -> float:
        """How many others share a question's cluster, on average over the questions."""
        return float((self.sizes**2).sum() / self.n - 1)

    def variance(self, value: float) -> float:
        """Of the mean of changes, `value`, between clusters; 0 with a single one."""
        count = len(self.sizes)
        apart = self.gains - self.losses - value * self.sizes
        return float(count / max(1, count - 1) * (apart**2).sum() / self.n**2)


def rate(credits: Sequence[float], labels: Sequence[str], level: float = LEVEL) -> Estimate:
    """The mean credit of questions (each in 0..1) with clusters named by `labels`, and its interval."""
    found = Clusters.of(credits, labels)
    value = float(found.gains.sum() / found.n)
    icc, weights = _correlations(found)
    draws = found.n / (1 + found.partners * icc)
    centres = (value * draws + ADDED / 2) / (draws + ADDED)
    spreads = centres * (1 - centres)
    variances = spreads / (draws + ADDED - SPREAD)
    plain = float(spreads[-1]) if len(found.sizes) == 1 else found.variance(value)
    return _estimate(value, (weights, centres, variances), plain, level)


def difference(changes: Sequence[float], labels: Sequence[str], level: float = LEVEL) -> Estimate:
    """The mean change in credit of paired questions (each in -1..1) with clusters named by `labels`, and its
    interval: a question that was gained and one that was lost are added, of each nearly two with passages."""
    found = Clusters.of(changes, labels)
    value = float((found.gains.sum() - found.losses.sum()) / found.n)
    square = float(sum(change * change for change in changes)) / found.n
    icc, weights = _paired_correlations(found)
    draws = found.n / (1 + found.partners * icc)
    added = 2.0 if found.partners == 0 else ADDED
    centres = value * draws / (draws + added)
    spreads = (square * draws + added) / (draws + added) - centres**2
    variances = spreads / (draws + added - PAIRED_SPREAD)
    plain = float(spreads[-1]) if len(found.sizes) == 1 else found.variance(value)
    return _estimate(value, (weights, centres, variances), plain, level)


def combined(parts: Sequence[Estimate], weights: Sequence[float], level: float = LEVEL) -> Estimate:
    """The weighted sum of independent sets' means, with intervals at `level`.

    Variances are summed; of the set whose own interval stands out most from its variance, the interval counts
    instead (a small set with every answer right has no variance and may still be far off, but many such sets
    are not all far off on the same side).
    """
    value = sum(weight * part.value for weight, part in zip(weights, parts, strict=True))
    variance = sum(weight**2 * part.variance for weight, part in zip(weights, parts, strict=True))
    z = _z(level)

    def reach(ends: Sequence[float]) -> float:
        beyond = [
            weight**2 * ((end - part.value) ** 2 - z * z * part.variance)
            for weight, part, end in zip(weights, parts, ends, strict=True)
        ]
        return math.sqrt(max(0.0, z * z * variance + max(beyond)))

    below, above = reach([part.low for part in parts]), reach([part.high for part in parts])
    return Estimate(value, value - below, value + above, variance)


def _z(level: float) -> float:
    return NormalDist().inv_cdf(1 - level / 2)


def _grid() -> np.ndarray:
    """Correlations from 0 to 1."""
    import numpy as np

    return (np.arange(POINTS) / (POINTS - 1)) ** 2


def _prior(agreeing: bool) -> np.ndarray:
    """Weights of the grid's correlations beforehand: uniform; of directions Beta(1, 1/2), for passages whose
    changes all go one way say nothing against a common cause."""
    import numpy as np

    middles = ((np.arange(POINTS - 1) + 0.5) / (POINTS - 1)) ** 2
    edges = np.array([0.0, *middles, 1.0])
    return np.diff(1 - np.sqrt(1 - edges) if agreeing else edges)


def _correlations(found: Clusters) -> tuple[np.ndarray, np.ndarray]:
    """Correlations within clusters and their posterior weights. Clusters that are worth fewer than three
    equal ones can't show theirs: the worst is taken."""
    import numpy as np

    if found.partners == 0:
        return np.zeros(1), np.ones(1)
    if found.n / (1 + found.partners) < 3 - 1e-9:
        return np.ones(1), np.ones(1)
    return _grid(), _posterior(found.gains, found.sizes, _prior(False))


def _paired_correlations(found: Clusters) -> tuple[np.ndarray, np.ndarray]:
    """As `_correlations`, for changes: whether a question changes and which way are each beta-binomial.

    Two questions of a cluster both change with probability t^2 + r t (1 - t) and then agree as the
    directions' own correlation says; that makes the correlation of their changes.
    """
    import numpy as np

    flips = found.gains + found.losses
    worth = min(found.n / (1 + found.partners), flips.sum() ** 2 / max(1e-9, (flips**2).sum()))
    if found.partners == 0:
        return np.zeros(1), np.ones(1)
    if worth < 3 - 1e-9:
        return np.ones(1), np.ones(1)
    grid = _grid()
    share = float((flips.sum() + 1) / (found.n + 2))
    lean = float((found.gains.sum() - found.losses.sum()) / (flips.sum() + 2))
    changing, agreeing = np.meshgrid(grid, grid, indexing="ij")
    together = (share**2 + changing * share * (1 - share)) * (lean**2 + agreeing * (1 - lean**2))
    icc = np.clip((together - (share * lean) ** 2) / (share - (share * lean) ** 2), 0, 1)
    changed = flips > 0
    directions = _posterior(found.gains[changed], flips[changed], _prior(True))
    weights = np.outer(_posterior(flips, found.sizes, _prior(False)), directions)
    bins = np.minimum((np.sqrt(icc) * POINTS).astype(int), POINTS - 1).ravel()
    mass = np.bincount(bins, weights.ravel(), POINTS)
    total = np.bincount(bins, (weights * icc).ravel(), POINTS)
    return total[mass > 0] / mass[mass > 0], mass[mass > 0]


def _posterior(counts: np.ndarray, sizes: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights of the grid's correlations when `counts` of `sizes` came up in each cluster, the rate
    integrated out.

    The likelihood of a count is a product of rising factorials; for shares of a credit their logarithms are
    interpolated. The rate is integrated on the arc sine's scale (Jeffreys' prior), five deviations each way.
    """
    import numpy as np

    n, icc = sizes.sum(), _grid()[:, None]
    if sizes.max() <= 1:
        return prior
    width = np.sqrt((1 + ((sizes**2).sum() / n - 1) * icc) / n)
    angle = math.asin(math.sqrt((counts.sum() + 0.5) / (n + 1))) + np.linspace(-2.5, 2.5, 31) * width
    inside = (angle > 0) & (angle < math.pi / 2)
    rates = np.clip(np.sin(angle) ** 2, 1e-9, 1 - 1e-9)
    logs = np.log(width) + np.zeros(rates.shape)
    icc = np.minimum(icc, 1 - 1e-4)  # at 1 a cluster with both outcomes is impossible, for no digit's sake
    for shares, part in ((rates, counts), (1 - rates, sizes - counts)):
        for k, many in enumerate(_above(part)):
            logs += many * np.log(shares * (1 - icc) + k * icc)
    for k, many in enumerate(_above(sizes)):
        logs -= many * np.log1p((k - 1) * icc)
    likelihood = np.where(inside, np.exp(logs - logs[inside].max()), 0).sum(axis=1)
    weights = np.asarray(likelihood * prior)
    return weights / weights.sum()


def _above(counts: np.ndarray) -> np.ndarray:
    """How many counts exceed 0, 1, 2, ... (a count of 2.5 exceeds 2 by half)."""
    import numpy as np

    whole = np.floor(counts + 1e-9).astype(int)
    length = int(whole.max(initial=0)) + 1
    over = len(counts) - np.cumsum(np.bincount(whole, minlength=length))
    return over + np.bincount(whole, np.maximum(counts - whole, 0), length)


def _estimate(
    value: float, normals: tuple[np.ndarray, np.ndarray, np.ndarray], plain: float, level: float
) -> Estimate:
    """The interval of a mixture of normals (weights, centres, variances); with more than one, that is with
    passages, or of the plain variance where that is wider."""
    heaviest = float(normals[0].max())
    curves = [
        (float(weight), NormalDist(float(centre), math.sqrt(variance)))
        for weight, centre, variance in zip(*normals, strict=True)
        if weight > 1e-6 * heaviest
    ]
    low, high = (_quantile(curves, share) for share in (level / 2, 1 - level / 2))
    if len(normals[0]) == 1:
        return Estimate(value, low, high, plain)
    half = _z(level) * math.sqrt(plain)
    return Estimate(value, min(low, value - half), max(high, value + half), plain)


def _quantile(curves: Sequence[tuple[float, NormalDist]], share: float) -> float:
    """Where a mixture of normals leaves `share` below."""
    total = sum(weight for weight, _ in curves)
    ends = [curve.inv_cdf(share) for _, curve in curves]
    low, high = min(ends), max(ends)
    while high - low > 1e-6:
        middle = (low + high) / 2
        below = sum(weight * curve.cdf(middle) for weight, curve in curves)
        low, high = (middle, high) if below < share * total else (low, middle)
    return (low + high) / 2
