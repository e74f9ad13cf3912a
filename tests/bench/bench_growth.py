"""How well a growth's conclusions hold, over simulated worlds whose truth is known (tests/growth_worlds.py).
    python tests/bench/bench_growth.py [--worlds 200] [--total 2400] [--kinds fitted,power,...]

The design is a pilot's: 4 equal budgets, a Latin square, each ability left out once; 100 questions an ability,
one seed a run. A line for each kind of world: the share of true scores within the curves' 90 % intervals
(inside what was measured, and at twice the largest budget), the same of Complexity and Transference, their
rank correlations with the truth, and what advice truly brings over equal shares (0 where it says "equal")
beside what an oracle's would, in points. known%: the share of the oracle's gain that the same runs would give
who knows the worlds' shape and how each of their numbers is drawn: more cannot be had from these runs.

Targets: curves 88-95 % in the fitted family, at least 85 % under power, log_linear and capped; Complexity
at least 90 %, Transference at least 85 %; gain at least 75 % of the oracle's, worse in at most 3 % of worlds;
equal needs get no advice.

Under log_linear the gain misses its target. Of the oracle's, in 40 worlds from 1000 (in brackets if every advice
were followed, also where the verdict is "equal"): as it is 63 % (67); with a fourth shape of just this form 67
(70); with this form alone 70 (72), and with the priors set to these worlds', too, no more. Who knows all gets 80.
With 5,000 questions and no seed's noise it is 84, though 8 worlds of 20 are then refused: no curve of the three
shapes is worth 100 draws. So most of what is missing is noise of the runs, not a shape.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[1]))

from growth_worlds import BUDGETS, ITEMS, NAMES, STOCK, World, designs, growth

from doitune.growth.fit.advice import advise
from doitune.growth.fit.fits import fit_all
from doitune.growth.fit.interval import Interval
from doitune.growth.fit.shares import best_sum
from doitune.growth.fit.traits import traits
from doitune.growth.measured import Growth

KINDS = {
    "fitted": {},
    "power": {"shape": "power"},
    "log_linear": {"shape": "log_linear"},
    "capped": {"sharing": "capped"},
    "partners": {"sharing": "partners"},
    "equal_needs": {"needs": (150, 150)},
}
KNOWABLE = "fitted", "power", "log_linear", "capped"
"""Kinds in which it does not matter whose the others' rows are, and needs differ."""

BEYOND = 2 * BUDGETS[-1]
STEP = 10
"""Rows in which budgets are searched."""


@dataclass
class Tally:
    """What was found in the worlds of one kind."""

    inside: list[bool] = field(default_factory=list)
    beyond: list[bool] = field(default_factory=list)
    complexity: list[bool] = field(default_factory=list)
    transference: list[bool] = field(default_factory=list)
    complexity_ranks: list[float] = field(default_factory=list)
    transference_ranks: list[float] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)
    promised: list[bool] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    effective: list[float] = field(default_factory=list)
    known: list[float] = field(default_factory=list)


def within(interval: Interval, truth: float, grain: float) -> bool:
    """Whether an interval holds the truth, known itself up to `grain`."""
    return interval.low - grain <= truth <= interval.high + grain


class Knower:
    """Who knows a kind's shape and how its worlds are drawn: the posterior over POPULATION drawn worlds."""

    POPULATION = 20000

    def __init__(self, kind: dict, total: int) -> None:
        worlds = [World(10**6 + number, **kind) for number in range(self.POPULATION)]
        self.drawn = World(0, **kind)
        for name in ("floor", "top", "need", "exponent", "tau", "cap"):
            setattr(self.drawn, name, np.stack([getattr(one, name) for one in worlds]))
        own = np.arange(0.0, STOCK + 1, STEP)
        self.worth = np.stack([self.drawn.at(rows, total - rows) for rows in own]).astype(np.float32)
        self.total, self.cells = total, {}

    def rows(self, measured: Growth) -> np.ndarray:
        """Rows by ability whose expected mean score is the greatest."""
        values = []
        for place, name in enumerate(NAMES):
            found = np.zeros(self.POPULATION)
            for run in measured.members:
                own = run.rows.get(name, 0)
                odds = self.odds(own, sum(run.rows.values()) - own)[:, place]
                found += likelihood(odds, self.drawn.seed_deviation, run.scores["test"][name].right)
            shares = np.exp(found - found.max())
            values.append(self.worth[:, :, place] @ (shares / shares.sum()))
        return best_sum(values, self.total // STEP) * STEP

    def odds(self, own: float, others: float) -> np.ndarray:
        """[worlds, abilities]: the log odds of a right answer at these rows."""
        if (own, others) not in self.cells:
            expected = np.clip(self.drawn.at(own, others), 0.002, 0.998)
            self.cells[own, others] = np.log(expected / (1 - expected)).astype(np.float32)
        return self.cells[own, others]


def likelihood(odds: np.ndarray, seed_deviation: float, right: float) -> np.ndarray:
    """[worlds]: the log likelihood of a run's score, its seed's part integrated over."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    moved = odds + seed_deviation * nodes[:, None].astype(np.float32)
    logs = right * moved - ITEMS * np.logaddexp(0, moved)
    most = logs.max()
    return most + np.log(weights @ np.exp(logs - most) + 1e-300)


def oracle(world: World, total: int) -> np.ndarray:
    """Rows by ability that who knows the truth would give (partners taken as all alike)."""
    own = np.arange(0, STOCK + 1, STEP)
    values = []
    for place in range(len(NAMES)):
        dealt = np.repeat(((total - own) / (len(NAMES) - 1))[:, None], len(NAMES), axis=1)
        dealt[:, place] = own
        values.append(np.array([world.scores(rows)[place] for rows in dealt]))
    return best_sum(values, total // STEP) * STEP


def ranks(found: np.ndarray, truth: np.ndarray) -> float:
    """The rank correlation over what was found."""
    known = np.isfinite(found)
    return float(spearmanr(found[known], truth[known])[0])


def visit(world: World, total: int, tally: Tally, knower: Knower | None = None) -> None:
    """One world: measured, concluded, held against the truth."""
    dice = np.random.default_rng(world.seed)
    measured = growth(world, list(designs(dice)), world.seed)
    fits = fit_all(measured, "test")
    moves = world.moves()
    for place, fit in enumerate(fits):
        tally.effective.append(fit.posterior.effective if fit.posterior else 0.0)
        if not fit.posterior:
            continue
        for rows in (*BUDGETS, BEYOND):
            drawn = Interval.of(fit.equal(np.array([rows]), len(NAMES))[:, 0])
            truth = world.scores(np.full(len(NAMES), rows))[place]
            (tally.beyond if rows == BEYOND else tally.inside).append(within(drawn, truth, 0.0))
    found = traits(measured, fits, "test")
    complexity, transference = world.complexity(), world.transference()
    for place in np.flatnonzero(moves):
        if found[place].complexity:
            tally.complexity.append(within(found[place].complexity, complexity[place], 0.05))
        tally.transference.append(within(found[place].transference, transference[place], 0.005))
    middles = np.array(
        [[one.complexity.value if one.complexity else np.nan, one.transference.value] for one in found]
    )
    tally.complexity_ranks.append(ranks(middles[moves, 0], complexity[moves]))
    tally.transference_ranks.append(ranks(middles[moves, 1], transference[moves]))
    equal = world.scores(np.full(len(NAMES), total / len(NAMES))).mean()
    advice = advise(measured, total)
    tally.verdicts.append(advice.verdict)
    rows = np.array([share.rows for share in advice.shares])
    gain = 100 * (world.scores(rows).mean() - equal) if advice.verdict == "advised" else 0.0
    tally.gains.append(gain)
    tally.oracle.append(100 * (world.scores(oracle(world, total)).mean() - equal))
    if knower:
        tally.known.append(100 * (world.scores(knower.rows(measured)).mean() - equal))
    if advice.verdict == "advised" and advice.gain:
        tally.promised.append(within(advice.gain, gain, 0.0))
        tally.kept.append(gain >= advice.gain.low)


def line(kind: str, tally: Tally) -> str:
    """A kind's row of the table."""
    gains, verdicts = np.array(tally.gains), np.array(tally.verdicts)
    share = gains.mean() / max(1e-9, np.mean(tally.oracle))
    known = np.mean(tally.known or [np.nan]) / max(1e-9, np.mean(tally.oracle))
    return (
        f"{kind:12s} {100 * np.mean(tally.inside):6.1f} {100 * np.mean(tally.beyond):6.1f} "
        f"{100 * np.mean(tally.complexity):6.1f} {100 * np.mean(tally.transference):6.1f} "
        f"{np.nanmedian(tally.complexity_ranks):6.2f} {np.nanmedian(tally.transference_ranks):6.2f} "
        f"{gains.mean():6.2f} {np.mean(tally.oracle):6.2f} {100 * share:6.0f} {100 * known:6.0f} "
        f"{100 * (gains < 0).mean():6.1f} {100 * (verdicts == 'equal').mean():6.1f} "
        f"{100 * np.mean(tally.promised or [np.nan]):6.1f} "
        f"{100 * np.mean(tally.kept or [np.nan]):6.1f} "
        f"{np.quantile(tally.effective, 0.01):6.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first world's seed")
    parser.add_argument("--total", type=int, default=2400, help="rows to advise on")
    parser.add_argument("--kinds", default=",".join(KINDS))
    asked = parser.parse_args()
    print(f"{asked.worlds} worlds of each kind, advice on {asked.total:,} rows")
    titles = "curves beyond compl. transf. rank-C rank-T gain oracle share% known% worse% equal% promis kept% ess-1%"
    print(f"{'kind':12s} " + " ".join(f"{title:>6s}" for title in titles.split()))
    for kind in asked.kinds.split(","):
        tally, start = Tally(), time.monotonic()
        knower = Knower(KINDS[kind], asked.total) if kind in KNOWABLE else None
        for seed in range(asked.first, asked.first + asked.worlds):
            visit(World(seed, **KINDS[kind]), asked.total, tally, knower)
        print(line(kind, tally), f"({(time.monotonic() - start) / asked.worlds:.1f} s a world)", flush=True)


if __name__ == "__main__":
    main()
