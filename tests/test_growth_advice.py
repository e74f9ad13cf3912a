"""Budgets that a growth suggests: exact where all is known, silent where little is gained or known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from growth_worlds import NAMES, World, designs, growth

from doitune.errors import DataError, UsageError
from doitune.growth.fit.advice import Goal, advise
from doitune.growth.fit.shares import best_sum, best_worst
from doitune.growth.measured import Growth

TOTAL = 1280


@cache
def world() -> World:
    return World(5)


@cache
def measured() -> Growth:
    return growth(world(), list(designs(np.random.default_rng(5))), 5)


def test_the_best_shares_are_those_that_trying_all_finds() -> None:
    """Values of any form, also falling ones and with steps; fewer parts than asked where they cannot go."""
    dice = np.random.default_rng(0)
    for parts in range(9):
        values = [dice.random(count) for count in (3, 5, 1, 4)]
        whole = min(parts, sum(len(value) - 1 for value in values))
        ways = [way for way in product(*(range(len(value)) for value in values)) if sum(way) == whole]
        assert ways
        sums = [sum(value[count] for value, count in zip(values, way)) for way in ways]
        found = best_sum(values, parts)
        assert tuple(found) in ways
        assert sum(value[count] for value, count in zip(values, found)) == pytest.approx(max(sums))


def test_the_worst_is_lifted_first_and_the_rest_goes_where_it_helps() -> None:
    slow, quick, other = np.linspace(0.1, 0.5, 11), np.linspace(0.3, 0.9, 11), np.linspace(0, 0.01, 11)
    shares = best_worst([slow, quick, other], [True, True, False], 12)
    assert shares.sum() == 12
    ways = [way for way in product(range(11), repeat=3) if sum(way) == 12]
    best = max(min(slow[way[0]], quick[way[1]]) for way in ways)
    assert min(slow[shares[0]], quick[shares[1]]) == pytest.approx(best)
    assert best_worst([slow, quick], [True, True], 40).tolist() == [10, 10]


def test_advice_is_truly_better_keeps_to_the_stock_and_uses_the_total() -> None:
    stock = {**dict.fromkeys(NAMES, 1000), "biology": 30}
    for goal in (Goal(), Goal(("code", "math")), Goal(worst=True)):
        advice = advise(replace(measured(), stock=stock), TOTAL, goal)
        rows = {share.name: share.rows for share in advice.shares}
        assert list(rows) == list(NAMES)
        for found in (rows, {share.name: share.equal_rows for share in advice.shares}):
            assert sum(found.values()) == TOTAL
            assert all(0 <= count <= stock[name] for name, count in found.items())
    advice = advise(measured(), TOTAL)
    assert advice.verdict == "advised" and advice.gain and advice.worse is not None
    before, after = (
        world().scores(np.array(rows)).mean()
        for rows in ([one.equal_rows for one in advice.shares], [one.rows for one in advice.shares])
    )
    assert 100 * (after - before) > 1
    assert 0 < advice.gain.low < advice.gain.value
    assert all("half of its gain takes" in share.reason for share in advice.shares)


def test_named_abilities_get_more_and_the_worst_one_rises() -> None:
    def rows(goal: Goal) -> np.ndarray:
        return np.array([share.rows for share in advise(measured(), TOTAL, goal).shares])

    named = [NAMES.index("understanding"), NAMES.index("reasoning")]
    taken = rows(Goal(("understanding", "reasoning")))
    assert world().scores(taken)[named].mean() > world().scores(rows(Goal()))[named].mean()


def test_equal_needs_get_no_advice() -> None:
    same = World(1, needs=(150, 150), flat=0)
    advice = advise(growth(same, list(designs(np.random.default_rng(1))), 1), TOTAL)
    assert advice.verdict == "equal"
    assert {share.rows for share in advice.shares} == {TOTAL // 10}
    assert advice.gain is not None


def test_thin_measurements_get_reasons_and_no_budget() -> None:
    few = tuple(run for run in measured().members if run.member.design == "equal")
    two = advise(replace(measured(), members=few[:2]), TOTAL)
    assert two.verdict == "thin" and not two.shares
    assert len(two.reasons) == len(NAMES) and "math: a curve needs 3" in two.reasons[NAMES.index("math")]
    far = advise(replace(measured(), members=few[:3], stock=dict.fromkeys(NAMES, 9999)), 9000)
    assert far.verdict == "thin" and "beyond 2 times" in far.reasons[0]
    named = advise(replace(measured(), members=few[:2]), TOTAL, Goal(("math",)))
    assert len(named.reasons) == 1


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DataError, match="the corpus has 10,000 rows"):
        advise(measured(), 10_001)
    with pytest.raises(UsageError, match="no ability cooking"):
        advise(measured(), TOTAL, Goal(("cooking",)))
    with pytest.raises(DataError, match="no finished run"):
        advise(replace(measured(), members=()), TOTAL)
    unasked = tuple(replace(run, scores={"test": run.scores["test"]}) for run in measured().members)
    with pytest.raises(UsageError, match="asked on valid"):
        advise(replace(measured(), members=unasked), TOTAL)
    with pytest.raises(UsageError, match="no runs of 13b"):
        advise(measured(), TOTAL, model="13b")


@pytest.mark.slow
def test_over_worlds_intervals_cover_and_advice_helps() -> None:
    """A small form of bench/bench_growth.py, with room for chance."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parent / "bench"))
    from bench_growth import KINDS, Tally, visit

    for kind, least in (("fitted", 0.85), ("power", 0.82), ("capped", 0.82)):
        tally = Tally()
        for seed in range(12):
            visit(World(seed, **KINDS[kind]), 2400, tally)
        assert np.mean(tally.inside) > least, kind
        assert np.mean(tally.complexity) > 0.85, kind
        assert np.mean(tally.transference) > 0.85, kind
        assert np.mean(tally.gains) > 0.65 * np.mean(tally.oracle), kind
        assert min(tally.gains) >= -0.1, kind
