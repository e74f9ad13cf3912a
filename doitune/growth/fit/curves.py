"""The growth of each set over equal budgets, as it is drawn and as it is put into numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from doitune.growth.fit.fits import Fit, Setting, floor_of, own_rows, runs_of, scores_of, total
from doitune.growth.fit.interval import Interval
from doitune.growth.fit.noise import expected
from doitune.growth.measured import Construction, Design, Growth, Score, Split

BEYOND = 2
"""A curve is drawn to this many times the largest budget measured, and no further."""

SURELY = 0.995
"""With this probability a fall is one."""

STEPS = 48
DRAWS = 2000


@dataclass(frozen=True)
class Point:
    """One run's score of a set, as it was: nothing is smoothed. `rows`: of each ability on average, the
    axis; `own`: of this set; `score`: 0..1, `low, high`: 90 % for items and seed."""

    run: str
    design: Design
    rows: float
    own: float
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class At:
    """The curve at an equal budget of `rows` of each ability. `extrapolated`: beyond what was measured."""

    rows: float
    score: Interval
    extrapolated: bool


@dataclass(frozen=True)
class Curve:
    """One set's growth in one setting; scores are 0..1, sensitivities points (hundredths) per doubling.

    `line` is empty and `thin` says why where the runs are too few. `reach`: smallest and largest equal budget
    measured, rows of each ability; `slope`: points per doubling on average over the reach; `last`: over its
    last doubling; `gained`: points over the floor at its end. `base`: the untrained model's score. `falls`:
    the score at the largest equal budget lies beyond doubt below that at a smaller one, which no line
    here can follow.
    """

    name: str
    title: str
    model: str
    construction: Construction
    in_domain: bool
    chance: float
    base: float | None
    points: tuple[Point, ...]
    line: tuple[At, ...]
    thin: str
    reach: tuple[float, float]
    slope: Interval | None
    last: Interval | None
    gained: Interval | None
    effective: float
    falls: bool = False


@dataclass(frozen=True)
class Size:
    """`slope`: points per doubling of the model's parameters, at equal budgets, on average over the budgets
    that all `models` have."""

    name: str
    models: tuple[str, ...]
    reach: tuple[float, float]
    slope: Interval


@dataclass(frozen=True)
class Versus:
    """Curated less synthetic data, in points, at the most `rows` of each ability that both have been measured
    at."""

    name: str
    model: str
    rows: float
    difference: Interval


def curve(growth: Growth, fit: Fit, split: Split) -> Curve:
    """A fit as it is drawn."""
    base = growth.base.get(fit.setting.model, {}).get(split, {}).get(fit.name)
    chances = [
        scores_of(run, split)[fit.name].chance for run in growth.members if fit.name in scores_of(run, split)
    ]
    known = fit.posterior is not None and fit.reach[1] > 0
    spans = known and fit.reach[1] > fit.reach[0]
    return Curve(
        name=fit.name,
        title=growth.titles.get(fit.name, fit.name),
        model=fit.setting.model,
        construction=fit.setting.construction,
        in_domain=fit.name in growth.abilities,
        chance=sum(chances) / len(chances) if chances else 0.0,
        base=base.right / base.items if base and base.items else None,
        points=points(growth, fit.setting, fit.name, split),
        line=_line(growth, fit) if known else (),
        thin=fit.thin,
        reach=fit.reach,
        slope=Interval.of(slopes(growth, fit)) if spans else None,
        last=Interval.of(last_slopes(growth, fit)) if known else None,
        gained=Interval.of(gains(growth, fit)) if known else None,
        effective=fit.posterior.effective if fit.posterior else 0.0,
        falls=_falls(growth, fit.setting, fit.name, split),
    )


def points(growth: Growth, setting: Setting, name: str, split: Split) -> tuple[Point, ...]:
    """Every plain run's score of a set."""
    dice = np.random.default_rng(0)
    found = []
    for run in runs_of(growth, setting):
        score = scores_of(run, split).get(name)
        if score is None or not score.items:
            continue
        around = Interval.of(expected(dice, [score], DRAWS))
        rows, own = total(run) / len(growth.abilities), own_rows(growth, run, name)
        rate = score.right / score.items
        found.append(Point(run.member.name, run.member.design, rows, own, rate, around.low, around.high))
    return tuple(found)


def _falls(growth: Growth, setting: Setting, name: str, split: Split) -> bool:
    """Whether the largest equal budget scored worse than a smaller one, beyond items and seeds."""
    scores: dict[int, list[Score]] = {}
    for run in runs_of(growth, setting):
        score = scores_of(run, split).get(name)
        if run.member.design == "equal" and score is not None and score.items:
            scores.setdefault(total(run), []).append(score)
    if len(scores) < 2:
        return False
    dice = np.random.default_rng(3)
    *before, last = (expected(dice, scores[rows], DRAWS) for rows in sorted(scores))
    best = max(before, key=lambda drawn: float(drawn.mean()))
    return bool((last < best).mean() > SURELY)


def _line(growth: Growth, fit: Fit) -> tuple[At, ...]:
    first, last = fit.reach
    steps = np.unique(np.append(np.geomspace(first, last * BEYOND, STEPS), last))
    scores = fit.equal(steps, len(growth.abilities))
    return tuple(
        At(float(rows), Interval.of(drawn), bool(rows > last * (1 + 1e-9)))
        for rows, drawn in zip(steps, scores.T, strict=True)
    )


def slopes(growth: Growth, fit: Fit) -> np.ndarray:
    """[draws]: points per doubling of an equal budget, on average over the reach."""
    first, last = fit.equal(np.array(fit.reach), len(growth.abilities)).T
    return 100 * (last - first) / log2(fit.reach[1] / fit.reach[0])


def last_slopes(growth: Growth, fit: Fit) -> np.ndarray:
    """[draws]: points that the last doubling within the reach brought."""
    before, last = fit.equal(np.array([fit.reach[1] / 2, fit.reach[1]]), len(growth.abilities)).T
    return 100 * (last - before)


def gains(growth: Growth, fit: Fit) -> np.ndarray:
    """[draws]: points over the floor at the end of the reach."""
    return 100 * (fit.equal(np.array(fit.reach[1:]), len(growth.abilities))[:, 0] - fit.known.draws.floors())


def size_slopes(growth: Growth, fits: Sequence[Fit], parameters: Mapping[str, float]) -> np.ndarray:
    """[draws]: points per doubling of parameters by least squares over one ability's fits, one a model."""
    budgets = np.geomspace(*shared_reach(fits), 9)
    means = np.array([fit.equal(budgets, len(growth.abilities)).mean(1) for fit in fits])
    sizes = np.log2([parameters[fit.setting.model] for fit in fits])
    apart = sizes - sizes.mean()
    return 100 * apart @ means / (apart @ apart)


def shared_reach(fits: Sequence[Fit]) -> tuple[float, float]:
    """The budgets that all of them have measured."""
    first, last = max(fit.reach[0] for fit in fits), min(fit.reach[1] for fit in fits)
    return (first, max(first, last))


def sized(fits: Sequence[Fit], name: str, parameters: Mapping[str, float]) -> tuple[Fit, ...]:
    """An ability's curves on curated rows of models whose parameters are known, if they are of several
    sizes."""
    among = [
        fit
        for fit in fits
        if fit.name == name
        and fit.setting.construction == "curated"
        and fit.posterior
        and fit.setting.model in parameters
    ]
    return tuple(among) if len({parameters[fit.setting.model] for fit in among}) > 1 else ()


def sizes(growth: Growth, fits: Sequence[Fit], parameters: Mapping[str, float]) -> tuple[Size, ...]:
    """Of each ability whose curves were measured with models of several sizes (`parameters`, by model)."""
    found = []
    for name in growth.abilities:
        if among := sized(fits, name, parameters):
            models = tuple(fit.setting.model for fit in among)
            slope = Interval.of(size_slopes(growth, among, parameters))
            found.append(Size(name, models, shared_reach(among), slope))
    return tuple(found)


def versus(growth: Growth, fits: Sequence[Fit]) -> tuple[Versus, ...]:
    """Of each set and model that has both curves."""
    known = {(fit.name, fit.setting.model, fit.setting.construction): fit for fit in fits if fit.posterior}
    found = []
    for (name, model, construction), fit in known.items():
        other = known.get((name, model, "synthetic"))
        if construction != "curated" or other is None:
            continue
        rows = shared_reach((fit, other))[1]
        curated, synthetic = (
            one.equal(np.array([rows]), len(growth.abilities))[:, 0] for one in (fit, other)
        )
        found.append(Versus(name, model, rows, Interval.of(100 * (curated - synthetic))))
    return tuple(found)


def floor_level(growth: Growth, model: str, split: Split, name: str) -> float:
    """The score that gains are counted from."""
    return floor_of(growth, model, split, name)[0]
