"""The four groups of abilities by stated thresholds on intervals, never by eye.

Three questions, each answered yes, no, or undecided where the interval lies on both sides of its threshold:
do rows help at all, does the last doubling of rows still help, does a larger model help?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from doitune.growth.fit.curves import gains, last_slopes, size_slopes, sized
from doitune.growth.fit.fits import Fit
from doitune.growth.fit.interval import Interval
from doitune.growth.measured import Growth

Name = Literal["responsive", "size-resistant", "resistant", "saturated", "undecided"]

GAINED, STILL, LARGER = 5.0, 2.0, 1.0
"""Points: over the floor at the largest equal budget (rows help); in the last doubling of rows (they still
do); per doubling of parameters (a larger model does)."""

RULES: Mapping[Name, str] = {
    "responsive": f"rows help ({GAINED:g} points or more over the floor), the last doubling still does "
    f"({STILL:g} points or more), and so does a larger model ({LARGER:g} point per doubling or more) "
    "where several sizes were measured",
    "size-resistant": "as responsive, but a larger model does not help",
    "resistant": f"not even the largest budget brings {GAINED:g} points over the floor",
    "saturated": f"rows helped, the last doubling brought less than {STILL:g} points",
    "undecided": "a 90 % interval lies on both sides of its threshold",
}


@dataclass(frozen=True)
class Grouped:
    """An ability's group and the intervals behind it, in points (see `RULES`). `larger` is None where one
    size of model was measured; over several models, `gained` and `last` are means."""

    name: str
    group: Name
    gained: Interval
    last: Interval
    larger: Interval | None


def group(gained: Interval, last: Interval, larger: Interval | None) -> Name:
    """The group that the thresholds give."""
    helped, helps = gained.is_above(GAINED), last.is_above(STILL)
    if helped is False:
        return "resistant"
    if helped is None or helps is None:
        return "undecided"
    if not helps:
        return "saturated"
    answer = True if larger is None else larger.is_above(LARGER)
    return "undecided" if answer is None else "responsive" if answer else "size-resistant"


def groups(growth: Growth, fits: Sequence[Fit], parameters: Mapping[str, float]) -> tuple[Grouped, ...]:
    """Of each ability that has a curve on curated rows."""
    found = []
    for name in growth.abilities:
        among = [
            fit
            for fit in fits
            if fit.name == name and fit.setting.construction == "curated" and fit.posterior
        ]
        if not among:
            continue
        gained = Interval.of(np.mean([gains(growth, fit) for fit in among], axis=0))
        last = Interval.of(np.mean([last_slopes(growth, fit) for fit in among], axis=0))
        several = sized(fits, name, parameters)
        larger = Interval.of(size_slopes(growth, several, parameters)) if several else None
        found.append(Grouped(name, group(gained, last, larger), gained, last, larger))
    return tuple(found)
