"""The paper's claim, held against what was measured: do complexity and transference explain how sensitive
abilities are to data and to size, and does a pilot tell what larger budgets bring?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from doitune.growth.fit.curves import Curve, Size
from doitune.growth.fit.fits import Setting, fit_one, runs_of, scores_of, total
from doitune.growth.fit.interval import Interval
from doitune.growth.fit.noise import PRECISIONS
from doitune.growth.fit.traits import Traits
from doitune.growth.measured import Growth, Split

PERMUTATIONS = 2000
FEWEST_ABILITIES = 6
"""A regression on two traits needs more abilities than it has numbers to choose."""


@dataclass(frozen=True)
class Explained:
    """A sensitivity (points per doubling of rows, or of parameters) by least squares on both traits.

    `r2`: the share of its variance over the `abilities` that they explain; `p`: how often traits dealt to
    abilities at random explain as much; `error` and `error_of_mean`: points by which an ability left out is
    missed, by the regression and by the others' mean; `weights`: points per unit of complexity (a doubling of
    rows) and of transference.
    """

    sensitivity: Literal["data", "size"]
    model: str
    abilities: tuple[str, ...]
    r2: float
    p: float
    error: float
    error_of_mean: float
    weights: tuple[float, float]


@dataclass(frozen=True)
class Foretold:
    """An ability's score at the largest equal budget (`rows` of each), left out of the fit: as predicted from
    budgets up to `known_to` rows (with items' and seeds' noise), as measured, and as it was at the largest
    smaller budget."""

    name: str
    model: str
    rows: float
    known_to: float
    predicted: Interval
    measured: float
    before: float


@dataclass(frozen=True)
class Claim:
    """`explained`: by sensitivity and model; `foretold`: by ability, what a pilot of the smaller budgets says
    of the largest."""

    explained: tuple[Explained, ...]
    foretold: tuple[Foretold, ...]

    @property
    def error(self) -> float | None:
        """Points by which the pilot's predictions are off, on average."""
        return _mean([100 * abs(one.predicted.value - one.measured) for one in self.foretold])

    @property
    def error_of_no_growth(self) -> float | None:
        """Points by which "it stays as it is at the pilot's largest budget" is off, on average."""
        return _mean([100 * abs(one.before - one.measured) for one in self.foretold])

    @property
    def covered(self) -> float | None:
        """The share of measured scores that lie in the predictions' 90 % intervals."""
        return _mean(
            [float(one.predicted.low <= one.measured <= one.predicted.high) for one in self.foretold]
        )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def explained(
    curves: Sequence[Curve], sizes: Sequence[Size], traits: Sequence[Traits]
) -> tuple[Explained, ...]:
    """Data sensitivity by model on curated rows, and size sensitivity on the first model's traits."""
    found = []
    models = tuple(dict.fromkeys(one.model for one in traits))
    for model in models:
        slopes = {
            one.name: one.slope.value
            for one in curves
            if one.model == model and one.construction == "curated" and one.in_domain and one.slope
        }
        found.append(_explained("data", model, slopes, traits))
    if sizes and models:
        found.append(_explained("size", models[0], {one.name: one.slope.value for one in sizes}, traits))
    return tuple(one for one in found if one)


def _explained(
    sensitivity: Literal["data", "size"], model: str, slopes: dict[str, float], traits: Sequence[Traits]
) -> Explained | None:
    among = [
        one
        for one in traits
        if one.model == model and one.name in slopes and one.complexity and one.transference
    ]
    if len(among) < FEWEST_ABILITIES:
        return None
    known = np.array([(one.complexity.value, one.transference.value) for one in among])  # type: ignore[union-attr]
    slope = np.array([slopes[one.name] for one in among])
    dice = np.random.default_rng(0)
    r2, weights = _regressed(known, slope)
    chance = [_regressed(known[dice.permutation(len(known))], slope)[0] for _ in range(PERMUTATIONS)]
    missed, missed_by_mean = [], []
    for place in range(len(known)):
        kept = np.arange(len(known)) != place
        fitted = _regressed(known[kept], slope[kept])[1]
        missed.append(slope[place] - fitted[0] - known[place] @ fitted[1:])
        missed_by_mean.append(slope[place] - slope[kept].mean())
    return Explained(
        sensitivity,
        model,
        tuple(one.name for one in among),
        r2,
        (1 + sum(value >= r2 - 1e-12 for value in chance)) / (1 + PERMUTATIONS),
        float(np.sqrt(np.mean(np.square(missed)))),
        float(np.sqrt(np.mean(np.square(missed_by_mean)))),
        (float(weights[1]), float(weights[2])),
    )


def _regressed(known: np.ndarray, slope: np.ndarray) -> tuple[float, np.ndarray]:
    """R2, and the constant and the weights."""
    columns = np.column_stack([np.ones(len(known)), known])
    weights = np.linalg.lstsq(columns, slope, rcond=None)[0]
    left = slope - columns @ weights
    spread = slope - slope.mean()
    return float(1 - left @ left / max(spread @ spread, 1e-12)), weights


def foretold(growth: Growth, setting: Setting, split: Split) -> tuple[Foretold, ...]:
    """Of each ability in one setting: the largest equal budget from all runs without more rows of an ability
    than the largest smaller one has. Empty where fewer than four equal budgets were measured."""
    runs = runs_of(growth, setting)
    equal = [run for run in runs if run.member.design == "equal"]
    budgets = sorted({total(run) for run in equal})
    if len(budgets) < 4:
        return ()
    largest, before = ([run for run in equal if total(run) == budgets[place]] for place in (-1, -2))
    most = max(max(run.rows.values(), default=0) for run in before)
    pilot = tuple(run for run in runs if run not in largest and max(run.rows.values(), default=0) <= most)
    smaller = replace(growth, members=pilot)
    rows, known_to = (count / len(growth.abilities) for count in (budgets[-1], budgets[-2]))
    found = []
    for name in growth.abilities:
        asked = [scores_of(run, split)[name] for run in largest if name in scores_of(run, split)]
        earlier = [scores_of(run, split)[name] for run in before if name in scores_of(run, split)]
        fit = fit_one(smaller, setting, name, split)
        if not asked or not earlier or fit.posterior is None:
            continue
        draws = fit.equal(np.array([rows]), len(growth.abilities))[:, 0]
        items = asked[0].items
        noisy = _rerun(draws, PRECISIONS[fit.known.draws.precisions], items, len(asked))
        measured = sum(one.right for one in asked) / sum(one.items for one in asked)
        stayed = sum(one.right for one in earlier) / sum(one.items for one in earlier)
        found.append(Foretold(name, setting.model, rows, known_to, Interval.of(noisy), measured, stayed))
    return tuple(found)


def _rerun(scores: np.ndarray, precisions: np.ndarray, items: int, runs: int) -> np.ndarray:
    """[draws]: what so many runs would measure of these expected scores, on average."""
    dice = np.random.default_rng(2)
    found = np.zeros(len(scores))
    for _ in range(runs):
        seeded = dice.beta(scores * precisions, (1 - scores) * precisions)
        found += dice.binomial(items, seeded) / items
    return found / runs
