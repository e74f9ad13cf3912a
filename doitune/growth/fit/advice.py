"""The budget that a growth suggests for a total of rows, held against equal shares of the same total.

Dynamic programming on posterior mean curves: at a fixed total the rows of all others are what an ability's
own leave, so every ability's score depends on its own rows alone and their best sum is found exactly. Advice
is given only where it is worth it: no earlier way of mixing beat equal shares everywhere, so a small or
doubtful gain is answered by equal shares, and thin measurements by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from doitune.errors import DataError, UsageError
from doitune.growth.fit.curve import HALF
from doitune.growth.fit.curves import BEYOND
from doitune.growth.fit.fits import Fit, Setting, fit_one, settings
from doitune.growth.fit.interval import Interval
from doitune.growth.fit.shares import best_sum, best_worst
from doitune.growth.measured import Growth, Split
from doitune.recipe.budget import share_out

Verdict = Literal["advised", "equal", "thin"]

WORTH_IT, DOUBT = 0.5, 0.05
"""Advice must bring so many points, and be worse than equal shares with no more than this chance."""

STEPS, DRAWS = 400, 400
"""Into how many parts the total is cut; draws behind a mean curve."""


@dataclass(frozen=True)
class Goal:
    """What to maximise: the mean score of `names` (all abilities if empty), or the worst of theirs."""

    names: tuple[str, ...] = ()
    worst: bool = False


@dataclass(frozen=True)
class Share:
    """One ability's rows, advised and at equal shares (the stock respected by both), the scores (0..1)
    expected of either, and why; `reason` is a sentence without a dot. Scores are None without a curve."""

    name: str
    rows: int
    equal_rows: int
    score: Interval | None
    equal_score: Interval | None
    reason: str


@dataclass(frozen=True)
class Advice:
    """What to do with `total` rows.

    `verdict`: "advised": use `shares`; "equal": no reason to leave equal shares, which `shares` then are;
    "thin": too thin to advise, for `reasons`, and `shares` is empty. `gain`: points over equal shares by the
    goal of the best budget found, whether it is advised or not; `worse`: the chance that it is less than 0.
    Seeds' and items' noise of a single run is in neither.
    """

    verdict: Verdict
    total: int
    model: str
    split: Split
    goal: Goal
    shares: tuple[Share, ...]
    gain: Interval | None
    worse: float | None
    reasons: tuple[str, ...]


def advise(
    growth: Growth,
    total: int,
    goal: Goal = Goal(),
    model: str = "",
    split: Split = "valid",
) -> Advice:
    """The advice of one model's runs on curated rows. `split`: whose scores it rests on; what is fitted on
    valid can be confirmed on test.

    Errors: UsageError for a model, an ability or a total that cannot be; DataError for more rows than there
    are.
    """
    setting = _setting(growth, model)
    _refuse(growth, total, goal)
    if not any(run.scores.get(split) for run in growth.members):
        other = "test" if split == "valid" else "valid"
        raise UsageError(f"no run of {growth.name} was asked on {split}", f"try --split {other}")
    names = goal.names or growth.abilities
    fits = {name: fit_one(growth, setting, name, split) for name in growth.abilities}
    equal, _ = share_out(total, {name: growth.stock.get(name, 0) for name in growth.abilities})
    ceilings = {name: min(growth.stock.get(name, 0), BEYOND * fit.most) for name, fit in fits.items()}
    reasons = _too_thin({name: fits[name] for name in names}, equal, ceilings)
    if not reasons and sum(ceilings.values()) < total:
        reasons = (
            f"{total:,} rows are beyond {BEYOND} times what was measured of each ability, "
            f"which with the stock makes {sum(ceilings.values()):,}",
        )
    if reasons:
        return Advice("thin", total, setting.model, split, goal, (), None, None, reasons)
    rows = _best(fits, ceilings, total, goal)
    gains = _gains({name: fits[name] for name in names}, rows, equal, total, goal.worst)
    gain, worse = Interval.of(gains), float((gains < 0).mean())
    verdict: Verdict = "advised" if gains.mean() >= WORTH_IT and worse <= DOUBT else "equal"
    chosen = rows if verdict == "advised" else equal
    shares = tuple(_share(fits[name], chosen[name], equal[name], total) for name in growth.abilities)
    return Advice(verdict, total, setting.model, split, goal, shares, gain, worse, ())


def _setting(growth: Growth, model: str) -> Setting:
    models = [one.model for one in settings(growth) if one.construction == "curated"]
    if model in models or (len(models) == 1 and not model):
        return Setting(model or models[0], "curated")
    if not models:
        raise DataError(
            f"{growth.name} has no finished run on curated rows", "`doitune grow PLAN` makes them"
        )
    listed = ", ".join(models)
    problem = f"no runs of {model} on curated rows" if model else "runs of several models"
    raise UsageError(f"{growth.name}: {problem}; its models are {listed}", "name one with --model")


def _refuse(growth: Growth, total: int, goal: Goal) -> None:
    unknown = [name for name in goal.names if name not in growth.abilities]
    if unknown:
        raise UsageError(
            f"{growth.name} has no ability {unknown[0]}", f"it has {', '.join(growth.abilities)}"
        )
    if total < 1:
        raise UsageError(f"--total {total}: advice needs at least one row", "give the rows to learn from")
    stock = sum(growth.stock.get(name, 0) for name in growth.abilities)
    if total > stock:
        raise DataError(f"--total {total:,}: the corpus has {stock:,} rows", f"ask for at most {stock:,}")


def _too_thin(
    fits: Mapping[str, Fit], equal: Mapping[str, int], ceilings: Mapping[str, int]
) -> tuple[str, ...]:
    """Why the abilities of the goal can't be advised on, a sentence each."""
    found = [f"{name}: {fit.thin}" for name, fit in fits.items() if fit.thin]
    for name, fit in fits.items():
        if not fit.thin and equal[name] > ceilings[name]:
            found.append(
                f"{name}: an equal share of {equal[name]:,} rows is beyond {BEYOND} times the most that was "
                f"measured, {fit.most:,}"
            )
    return tuple(found)


def _best(fits: Mapping[str, Fit], ceilings: Mapping[str, int], total: int, goal: Goal) -> dict[str, int]:
    """Rows by ability. Of abilities outside the goal, which only fill the total, the mean counts a little."""
    step = max(1, -(-total // STEPS))
    values = []
    for name, fit in fits.items():
        own = np.arange(0, ceilings[name] + 1, step)
        weight = 1.0 if not goal.names or name in goal.names else 1e-4
        values.append(weight * _mean(fit, own, total))
    if goal.worst:
        counted = [not goal.names or name in goal.names for name in fits]
        parts = best_worst(values, counted, total // step)
    else:
        parts = best_sum(values, total // step)
    rows = {name: int(part) * step for name, part in zip(fits, parts, strict=True)}
    left = total - sum(rows.values())
    for name in sorted(rows, key=lambda name: rows[name] - ceilings[name]):
        more = min(left, ceilings[name] - rows[name])
        rows[name] += more
        left -= more
    return rows


def _mean(fit: Fit, own: np.ndarray, total: int) -> np.ndarray:
    if fit.posterior is None:
        return np.zeros(len(own))
    return fit.known.draws.take(np.arange(DRAWS)).scores(own, total - own).mean(0)


def _gains(
    fits: Mapping[str, Fit], rows: Mapping[str, int], equal: Mapping[str, int], total: int, worst: bool
) -> np.ndarray:
    """[draws]: points of the goal over equal shares."""
    scores = np.array([_scores(fit, [rows[name], equal[name]], total) for name, fit in fits.items()])
    reached = scores.min(0) if worst else scores.mean(0)
    return 100 * (reached[:, 0] - reached[:, 1])


def _scores(fit: Fit, rows: Sequence[int], total: int) -> np.ndarray:
    """[draws, budgets]"""
    own = np.array(rows, dtype=float)
    return fit.known.draws.scores(own, total - own)


def _share(fit: Fit, rows: int, equal: int, total: int) -> Share:
    if fit.posterior is None:
        return Share(fit.name, rows, equal, None, None, f"it only fills the total: {fit.thin}")
    scores = _scores(fit, [rows, equal, min(2 * equal, total)], total)
    half = Interval.of(np.exp(fit.known.draws.parameters[:, HALF]))
    doubled = Interval.of(100 * (scores[:, 2] - scores[:, 1]))
    reason = (
        f"half of its gain takes {_rows(half.value)} ({_rows(half.low)} to {_rows(half.high)}) own rows; "
        f"twice its equal share would bring {doubled.value:.1f} points ({doubled.low:.1f} to "
        f"{doubled.high:.1f})"
    )
    return Share(fit.name, rows, equal, Interval.of(scores[:, 0]), Interval.of(scores[:, 1]), reason)


def _rows(count: float) -> str:
    """A guess at rows, with two digits that mean something."""
    return "over 100,000" if count > 1e5 else f"{float(f'{max(count, 1):.2g}'):,.0f}"
