"""Two traits of an ability, defined here (the paper's own formulas are not public).

Complexity: log2 of the own rows at half of the attainable gain, from the curve. Transference: the share of
the gain that comes without own rows, from runs that left the ability out, held against runs that had its
rows; counted from chance and cut to 0..1. The curve's own idea of transfer is not used where there are such
runs: its intervals covered as little as 58 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from doitune.growth.fit.curve import HALF
from doitune.growth.fit.curves import DRAWS, floor_level
from doitune.growth.fit.fits import Fit, runs_of, scores_of, total
from doitune.growth.fit.interval import Interval
from doitune.growth.fit.noise import expected
from doitune.growth.measured import Growth, Measured, Split

LEAST_GAIN = 0.05
"""A gain below this share of questions is too small to have a share."""

Source = Literal["left out", "zero rows", "none"]


@dataclass(frozen=True)
class Traits:
    """Of one ability with one model.

    `complexity`: log2 rows, or None without a curve; `is_beyond`: half of the gain lies (median) beyond twice
    the most rows measured, so that it is a guess of the prior's. `transference`: 0..1 or None; `source`: from
    leave-one-out runs at `rows` of each other ability; from runs that happened to have none of its rows,
    against its curve at `rows`; or from nothing.
    """

    name: str
    model: str
    complexity: Interval | None
    is_beyond: bool
    transference: Interval | None
    source: Source
    rows: float


def traits(growth: Growth, fits: Sequence[Fit], split: Split) -> tuple[Traits, ...]:
    """Of each ability and model, on curated rows."""
    return tuple(
        _traits(growth, fit, split)
        for fit in fits
        if fit.setting.construction == "curated" and fit.name in growth.abilities
    )


def _traits(growth: Growth, fit: Fit, split: Split) -> Traits:
    complexity, is_beyond = None, False
    if fit.posterior:
        complexity = Interval.of(fit.known.draws.parameters[:, HALF] / np.log(2))
        is_beyond = bool(2**complexity.value > 2 * fit.most)
    shares, source, rows = transference(growth, fit, split)
    found = Interval.of(shares) if shares is not None else None
    return Traits(fit.name, fit.setting.model, complexity, is_beyond, found, source, rows)


def transference(growth: Growth, fit: Fit, split: Split) -> tuple[np.ndarray | None, Source, float]:
    """[draws] of an ability's transference, where they are from, and at how many rows of each ability."""
    runs = runs_of(growth, fit.setting)
    left_out = [
        run for run in runs if run.member.design == "leave_one_out" and fit.name in scores_of(run, split)
    ]
    without = [run for run in left_out if not run.rows.get(fit.name)]
    dice = np.random.default_rng(0)
    floor = floor_level(growth, fit.setting.model, split, fit.name)
    if without:
        rows = max(_others(growth, run, fit.name) for run in without)
        zero = [run for run in without if _near(_others(growth, run, fit.name), rows)]
        full = [run for run in left_out if _near(run.rows.get(fit.name, 0), rows)]
        full += [
            run
            for run in runs
            if run.member.design == "equal"
            and _near(run.rows.get(fit.name, 0), rows)
            and fit.name in scores_of(run, split)
        ]
        if full:
            whole = expected(dice, [scores_of(run, split)[fit.name] for run in full], DRAWS)
            return _shares(_expected(dice, zero, fit.name, split), whole, floor, dice), "left out", rows
    zero = [
        run
        for run in runs
        if run.member.design == "latin" and not run.rows.get(fit.name) and fit.name in scores_of(run, split)
    ]
    if not zero or not fit.posterior:
        return None, "none", 0.0
    rows = sum(total(run) for run in zero) / len(zero) / len(growth.abilities)
    whole = fit.equal(np.array([rows]), len(growth.abilities))[:, 0]
    part = expected(dice, [scores_of(run, split)[fit.name] for run in zero], len(whole))
    return _shares(part, whole, floor, dice), "zero rows", rows


def _expected(dice: np.random.Generator, runs: Sequence[Measured], name: str, split: Split) -> np.ndarray:
    return expected(dice, [scores_of(run, split)[name] for run in runs], DRAWS)


def _shares(part: np.ndarray, whole: np.ndarray, floor: float, dice: np.random.Generator) -> np.ndarray:
    """[draws]: the part's share of the gain, 0..1; anything at all where the whole has no gain."""
    gain = whole - floor
    shares = np.clip((part - floor) / np.maximum(gain, LEAST_GAIN), 0, 1)
    return np.where(gain < LEAST_GAIN, dice.random(len(gain)), shares)


def _others(growth: Growth, run: Measured, name: str) -> float:
    """Rows of each other ability, on average."""
    rows = sum(count for other, count in run.rows.items() if other != name)
    return rows / max(1, len(growth.abilities) - 1)


def _near(count: float, rows: float) -> bool:
    """Whether it is the same budget, but for a few rows that were dropped."""
    return abs(count - rows) <= 0.1 * rows
