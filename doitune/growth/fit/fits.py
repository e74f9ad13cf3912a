"""Every ability's curve in every setting of a growth, as far as its runs say anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from zlib import crc32

import numpy as np

from doitune.growth.fit.noise import worth
from doitune.growth.fit.posterior import Posterior, Seen, fit
from doitune.growth.measured import Construction, Growth, Measured, Score, Split

FEWEST_BUDGETS = 3
"""Different numbers of own rows above 0 that a curve needs."""


@dataclass(frozen=True)
class Setting:
    """What a curve is drawn within: runs of one model on data of one construction."""

    model: str
    construction: Construction


@dataclass(frozen=True)
class Fit:
    """One set's curve in one setting.

    `posterior` is None, and `thin` says why, where the runs are too few for a curve. `floor`: the score
    expected without rows; `reach`: the smallest and the largest equal budget measured, in rows of each
    ability; `most`: the most own rows measured.
    """

    setting: Setting
    name: str
    posterior: Posterior | None
    thin: str
    floor: float
    reach: tuple[float, float]
    most: int

    @property
    def known(self) -> Posterior:
        """The posterior, where there is one."""
        assert self.posterior is not None
        return self.posterior

    def equal(self, rows: np.ndarray, abilities: int) -> np.ndarray:
        """[draws, budgets]: expected scores at `rows` of each of so many abilities."""
        return self.known.draws.scores(rows, rows * (abilities - 1))


def settings(growth: Growth) -> tuple[Setting, ...]:
    """Those that the growth has runs of, in the order that they come in."""
    return tuple(
        dict.fromkeys(Setting(run.member.model, run.member.construction) for run in plain_runs(growth))
    )


def plain_runs(growth: Growth) -> tuple[Measured, ...]:
    """The runs that differ by budget and seed alone: neither other hyper-parameters nor budgets that
    conclusions led to."""
    return tuple(run for run in growth.members if run.member.design not in ("settings", "advised"))


def runs_of(growth: Growth, setting: Setting) -> tuple[Measured, ...]:
    """The plain runs of one setting."""
    return tuple(
        run for run in plain_runs(growth) if Setting(run.member.model, run.member.construction) == setting
    )


def total(run: Measured) -> int:
    """Rows that a run learnt from, synthetic ones included."""
    return sum(run.rows.values()) + run.member.synthetic


def own_rows(growth: Growth, run: Measured, name: str) -> float:
    """Rows of a set that a run learnt from. Rows that belong to no ability (synthetic ones), and all rows for
    a set out of the domain, count as shared equally: so every axis has one unit."""
    if name not in growth.abilities:
        return total(run) / len(growth.abilities)
    return run.rows.get(name, 0) + run.member.synthetic / len(growth.abilities)


def floor_of(growth: Growth, model: str, split: Split, name: str) -> tuple[float, float]:
    """The score expected of a set without rows, and the deviation with which that is known.

    That is chance, or what the untrained model knows where it is beyond doubt above chance. A model that lies
    below chance lacks the form of the answers, which the first rows teach.
    """
    scores = [run.scores[split][name] for run in growth.members if name in run.scores.get(split, {})]
    chance = sum(score.chance for score in scores) / len(scores) if scores else 0.0
    base = growth.base.get(model, {}).get(split, {}).get(name)
    if base is None or not base.items:
        return chance, 0.0
    rate = (base.right + 0.5) / (base.items + 1)
    deviation = sqrt(rate * (1 - rate) / worth(base.items))
    return (rate, deviation) if rate - 2 * deviation > chance else (chance, 0.0)


def fit_all(growth: Growth, split: Split, *, only: Sequence[Setting] = ()) -> tuple[Fit, ...]:
    """By setting (a mixture has no curve: two kinds of rows move at once), by ability, then by set out of the
    domain."""
    chosen = [one for one in only or settings(growth) if one.construction != "mix"]
    names = (*growth.abilities, *growth.out_of_domain)
    return tuple(fit_one(growth, setting, name, split) for setting in chosen for name in names)


def fit_one(growth: Growth, setting: Setting, name: str, split: Split) -> Fit:
    """The curve of one set in one setting."""
    runs = runs_of(growth, setting)
    floor, spread = floor_of(growth, setting.model, split, name)
    in_domain = name in growth.abilities
    seen, budgets = [], set()
    for run in runs:
        score = run.scores.get(split, {}).get(name)
        own = own_rows(growth, run, name)
        if score is None or not score.items or not total(run):
            continue
        if run.member.design != "equal" and not in_domain:
            continue  # who is taught matters to it, and only equal budgets leave that alone
        if run.member.design == "single_source" and not own:
            continue  # one partner's rows are not worth what rows of all others are
        others = max(0.0, total(run) - own)
        seen.append(Seen(own, others, min(score.right, score.items), score.items))
        budgets.add(own)
    thin = _too_thin(budgets - {0.0})
    posterior = None if thin else fit(tuple(seen), floor, spread, crc32(name.encode()))
    if posterior is not None and not posterior.is_enough:
        thin = f"the curve is worth {posterior.effective:.0f} draws, fewer than 100: no curve agrees well"
        posterior = None
    return Fit(
        setting, name, posterior, thin, floor, reach(growth, runs, budgets), int(max(budgets, default=0))
    )


def _too_thin(budgets: set[float]) -> str:
    if len(budgets) >= FEWEST_BUDGETS:
        return ""
    counts = ", ".join(f"{count:g}" for count in sorted(budgets)) or "none"
    return f"a curve needs {FEWEST_BUDGETS} different budgets above 0, measured are {counts}"


def reach(growth: Growth, runs: Sequence[Measured], budgets: set[float]) -> tuple[float, float]:
    """The smallest and the largest equal budget, or without such runs the own rows measured above 0."""
    equal = {total(run) / len(growth.abilities) for run in runs if run.member.design == "equal"}
    known = sorted(count for count in (equal if len(equal) > 1 else budgets) if count > 0)
    return (known[0], known[-1]) if known else (0.0, 0.0)


def scores_of(run: Measured, split: Split) -> Mapping[str, Score]:
    """A run's scores on a split, by set."""
    return run.scores.get(split, {})
