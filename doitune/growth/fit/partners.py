"""Which abilities teach each other: from runs that learnt from one ability alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from doitune.growth.fit.curves import DRAWS, floor_level
from doitune.growth.fit.fits import Setting, runs_of, scores_of
from doitune.growth.fit.interval import Interval
from doitune.growth.fit.noise import expected
from doitune.growth.fit.traits import LEAST_GAIN
from doitune.growth.measured import Growth, Split

TAUGHT, SURELY = 0.05, 0.99
"""An ability teaches another if its rows alone bring more than this share of the gain; and what is sure."""


@dataclass(frozen=True)
class Lesson:
    """What `rows` rows of `source` alone gave `learner`: a share of the learner's attainable gain, -1..1
    (below 0: less than chance). Attainable is the best of its own rows alone and of the largest equal budget.
    `is_taught`: beyond doubt above nothing."""

    source: str
    learner: str
    rows: int
    share: Interval
    is_taught: bool


@dataclass(frozen=True)
class Partners:
    """Every ordered pair of abilities in one model's single-source runs, and `pairs`: the sources and
    learners that are beyond doubt."""

    model: str
    lessons: tuple[Lesson, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(source, learner) of each lesson that is taught."""
        return tuple((one.source, one.learner) for one in self.lessons if one.is_taught)


def partners(growth: Growth, setting: Setting, split: Split) -> Partners | None:
    """From a setting's single-source runs; None without any."""
    dice = np.random.default_rng(0)
    runs = [run for run in runs_of(growth, setting) if run.member.design == "single_source"]
    lessons = []
    for source in growth.abilities:
        own = [run for run in runs if run.rows.get(source)]
        rows = max((run.rows[source] for run in own), default=0)
        own = [run for run in own if run.rows[source] == rows]
        for learner in growth.abilities:
            heard = [scores_of(run, split)[learner] for run in own if learner in scores_of(run, split)]
            if learner == source or not heard:
                continue
            floor = floor_level(growth, setting.model, split, learner)
            gain = _attainable(growth, setting, learner, split) - floor
            shares = (expected(dice, heard, DRAWS) - floor) / np.maximum(gain, LEAST_GAIN)
            shares = np.clip(shares, -1, 1)
            taught = bool((gain > LEAST_GAIN).mean() > SURELY and (shares > TAUGHT).mean() > SURELY)
            lessons.append(Lesson(source, learner, rows, Interval.of(shares), taught))
    return Partners(setting.model, tuple(lessons)) if lessons else None


def _attainable(growth: Growth, setting: Setting, name: str, split: Split) -> np.ndarray:
    """[draws]: the better expected score of an ability's own rows alone and of the largest equal budget."""
    runs = [run for run in runs_of(growth, setting) if name in scores_of(run, split)]
    alone = [run for run in runs if run.member.design == "single_source" and run.rows.get(name)]
    equal = [run for run in runs if run.member.design == "equal"]
    most = max((run.rows.get(name, 0) for run in equal), default=0)
    largest = [run for run in equal if run.rows.get(name, 0) == most]
    dice = np.random.default_rng(1)
    best: Sequence[np.ndarray] = [
        expected(dice, [scores_of(run, split)[name] for run in among], DRAWS)
        for among in (alone, largest)
        if among
    ]
    if not best:
        return np.full(DRAWS, floor_level(growth, setting.model, split, name))
    return best[int(np.argmax([drawn.mean() for drawn in best]))]
