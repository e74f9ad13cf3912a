"""What a growth says is held against worlds whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from growth_worlds import BUDGETS, NAMES, World, designs, growth, single_sources
from scipy.stats import betabinom, spearmanr

from doitune.growth.fit.conclude import Conclusions, conclude
from doitune.growth.fit.curve import HALF, SHAPES, Draws
from doitune.growth.fit.groups import group
from doitune.growth.fit.interval import Interval
from doitune.growth.fit.noise import PRECISIONS, log_gamma, log_likelihoods
from doitune.growth.fit.posterior import Seen, fit
from doitune.growth.measured import Growth, Score


@cache
def world() -> World:
    return World(3, sharing="partners")


@cache
def measured() -> Growth:
    return growth(world(), [*designs(np.random.default_rng(3)), *single_sources()], 3)


@cache
def concluded() -> Conclusions:
    return conclude(measured())


def drawn(shape: int, half: float, **changed: float) -> Draws:
    parameters = np.zeros((1, 7))
    parameters[0, HALF] = np.log(half)
    parameters[0, 2], parameters[0, 5] = np.log(changed.get("worth", 0.05)), 2.0
    parameters[0, 6] = changed.get("form", 0.0)
    return Draws(parameters, np.array([shape]), np.array([2]), 0.25)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_half_of_the_gain_is_there_at_half(shape: int) -> None:
    """Whatever the shape: complexity is read off one column."""
    curve = drawn(shape, 60.0)
    start, middle, end = curve.scores(np.array([0, 60, 1e9]), np.zeros(3))[0]
    assert start == pytest.approx(0.25)
    assert middle == pytest.approx((start + end) / 2, abs=1e-4)


def test_an_ability_without_rows_may_lack_its_form_and_others_rows_help() -> None:
    unformed, formed = drawn(0, 60.0, form=2.5), drawn(0, 60.0)
    without = formed.scores(np.array([0]), np.array([2000]))[0, 0]
    assert formed.scores(np.array([0]), np.array([0]))[0, 0] < without
    assert unformed.scores(np.array([0]), np.array([2000]))[0, 0] < 0.25 < without
    assert unformed.scores(np.array([1]), np.array([0])) == formed.scores(np.array([1]), np.array([0]))


def test_the_likelihood_is_the_beta_binomial_and_takes_fractions() -> None:
    scores = np.array([0.1, 0.4, 0.9])
    found = log_likelihoods(37, 100, scores)
    for place, precision in enumerate(PRECISIONS):
        exact = betabinom.logpmf(37, 100, scores * precision, (1 - scores) * precision)
        assert np.diff(found[place]) == pytest.approx(np.diff(exact), abs=1e-6)
    between = log_likelihoods(36.5, 100, scores)
    assert ((between - found) * (between - log_likelihoods(36, 100, scores)) < 0).all()
    assert log_gamma(np.array([0.1])) == pytest.approx(2.252712651734206, abs=1e-6)


def test_a_fit_is_the_same_every_time_and_refuses_too_few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tuple(Seen(rows, 9 * rows, right, 100) for rows, right in zip(BUDGETS, (30, 45, 60, 65)))
    first = fit(seen, 0.25)
    fit.cache_clear()
    second = fit(seen, 0.25)
    assert first is not second
    assert first.is_enough
    assert (first.draws.parameters == second.draws.parameters).all()
    monkeypatch.setattr("doitune.growth.fit.posterior.EACH", 90)
    fit.cache_clear()
    assert not fit(seen, 0.25).is_enough
    curve = conclude(measured()).curves[0]
    assert not curve.line and curve.slope is None and "fewer than 100" in curve.thin
    fit.cache_clear()


def test_curves_follow_the_truth_and_stop_at_twice_the_largest_budget() -> None:
    curves = concluded().curves
    assert len(curves) == len(NAMES)
    inside = []
    for one, curve in enumerate(curves):
        assert curve.line[0].rows == pytest.approx(BUDGETS[0])
        assert curve.line[-1].rows == pytest.approx(2 * BUDGETS[-1])
        assert {at.extrapolated for at in curve.line if at.rows > BUDGETS[-1] + 1} == {True}
        assert not any(at.extrapolated for at in curve.line if at.rows <= BUDGETS[-1])
        assert len(curve.points) == len(measured().members)
        for at in curve.line:
            truth = world().scores(np.full(len(NAMES), at.rows))[one]
            inside.append(at.score.low - 0.01 <= truth <= at.score.high + 0.01)
    assert np.mean(inside) > 0.8


def test_traits_rank_as_the_truth_does() -> None:
    found, moves = concluded().traits, world().moves()
    assert [one.name for one in found] == list(NAMES)
    complexity = np.array([one.complexity.value for one in found if one.complexity])
    shares = np.array([one.transference.value for one in found if one.transference])
    assert spearmanr(complexity[moves], world().complexity()[moves])[0] > 0.8
    assert spearmanr(shares[moves], world().transference()[moves])[0] > 0.5
    assert {one.source for one in found} == {"left out"}


def test_transference_needs_runs_without_the_ability() -> None:
    few = tuple(run for run in measured().members if run.member.design == "equal")
    assert {one.source for one in conclude(replace(measured(), members=few)).traits} == {"none"}
    latin = tuple(run for run in measured().members if run.member.design in ("equal", "latin"))
    assert {one.source for one in conclude(replace(measured(), members=latin)).traits} == {"zero rows"}


def test_partners_are_those_that_teach() -> None:
    (found,) = concluded().partners
    assert len(found.lessons) == 90
    teaches = {
        (NAMES[source], NAMES[learner])
        for learner in range(len(NAMES))
        for source in range(len(NAMES))
        if world().partners[learner, source]
    }
    assert len(found.pairs) >= 6
    assert set(found.pairs) <= teaches


def test_groups_go_by_their_thresholds_and_admit_doubt() -> None:
    much, none, some = Interval(30, 20, 40), Interval(0, -1, 0.9), Interval(4, 0.5, 9)
    assert group(none, none, None) == "resistant"
    assert group(much, none, much) == "saturated"
    assert group(much, much, None) == group(much, much, much) == "responsive"
    assert group(much, much, none) == "size-resistant"
    assert {group(some, much, None), group(much, some, None), group(much, much, some)} == {"undecided"}


def test_too_few_budgets_give_no_curve_but_a_reason() -> None:
    two = tuple(run for run in measured().members if run.member.design == "equal")[:2]
    found = conclude(replace(measured(), members=two))
    assert len(found.curves) == len(NAMES)
    for curve in found.curves:
        assert not curve.line and curve.slope is None
        assert "3 different budgets" in curve.thin
        assert len(curve.points) == 2
    assert not found.groups


def test_a_fall_is_said_that_no_curve_follows() -> None:
    """As with synthetic rows in the paper: better at first, worse with more."""
    assert not any(curve.falls for curve in concluded().curves)
    last = max(
        (run for run in measured().members if run.member.design == "equal"), key=lambda run: run.rows["math"]
    )
    worse = {name: Score(1.0, 100, score.chance) for name, score in last.scores["test"].items()}
    members = tuple(
        replace(run, scores={"test": worse}) if run is last else run for run in measured().members
    )
    curves = conclude(replace(measured(), members=members)).curves
    assert {curve.name for curve in curves if curve.falls} >= {"biology", "history", "chinese"}


def test_sizes_and_constructions_are_compared() -> None:
    """A second model that is better by ten points at twice the size, and synthetic rows that teach nothing."""
    equal = [run for run in measured().members if run.member.design == "equal"]
    larger, synthetic = [], []
    for run in equal:
        better = {
            name: replace(score, right=min(100, score.right + 10))
            for name, score in run.scores["test"].items()
        }
        guessed = {name: Score(100 * score.chance, 100, score.chance) for name, score in better.items()}
        large = replace(run.member, model="large", name="l" + run.member.name)
        larger.append(replace(run, member=large, scores={"test": better}))
        rows = sum(run.rows.values())
        made = replace(
            run.member, construction="synthetic", synthetic=rows, rows={}, name="s" + run.member.name
        )
        synthetic.append(replace(run, member=made, rows={}, scores={"test": guessed}))
    both = replace(measured(), members=(*equal, *larger, *synthetic))
    found = conclude(both, parameters={"demo": 1e6, "large": 2e6})
    assert [one.name for one in found.sizes] == list(NAMES)
    assert sum(one.slope.low < 10 < one.slope.high for one in found.sizes) >= 8
    assert len(found.versus) == len(NAMES)
    assert all(one.difference.high > 0 for one in found.versus)
    assert sum(one.difference.low > 0 for one in found.versus) >= 8


def test_the_claim_is_measured() -> None:
    claim = concluded().claim
    (data,) = claim.explained
    assert 0 <= data.r2 <= 1 and 0 < data.p <= 1
    assert len(data.abilities) == len(claim.foretold) == len(NAMES)
    assert claim.covered is not None and claim.covered >= 0.7
    assert claim.error is not None and claim.error < 12


def test_an_untaught_floor_is_the_base_only_where_that_is_above_chance() -> None:
    """A base that lacks the form of the answers lies below chance: gains are counted from chance."""
    low = {name: Score(2.0, 100, 0.25) for name in NAMES}
    high = {name: Score(60.0, 100, 0.25) for name in NAMES}
    curves = conclude(replace(measured(), base={"demo": {"test": low}})).curves
    assert [one.line for one in curves] == [one.line for one in concluded().curves]
    assert curves[0].base == pytest.approx(0.02)
    above = conclude(replace(measured(), base={"demo": {"test": high}}))
    assert above.curves[0].gained.value < concluded().curves[0].gained.value
