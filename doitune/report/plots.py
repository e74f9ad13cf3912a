"""Plots of a run as inline SVG: curves over steps, and scores with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from doitune.report.drawing import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Drawing,
    Place,
    label,
    path,
    rule,
    short,
    ticks,
    upright,
)
from doitune.report.html import Html, tag
from doitune.report.read import Point, Scored
from doitune.run.layout import BASE

ROW, NAMES, NARROW_NAMES, TITLE = 30, 190, 160, 20
"""Pixels: the height of a set's row, the width that its name has, and the height that a title has."""


def curves(
    loss: Sequence[Point],
    validation: Sequence[Point],
    *,
    height: int = 240,
    width: int = WIDTH,
    title: str = "",
) -> Html:
    """The training loss, faint as it was and strong as its running mean, and validations as dots on a
    line."""
    both = [*loss, *validation]
    if not both:
        return Html("")
    last = max(point.step for point in both)
    values = sorted(point.value for point in both)
    low = values[0]
    high = values[min(len(values) - 1, int(0.995 * len(values)))]  # one spike must not flatten the rest
    steps, levels = ticks(0, last), ticks(low, high)
    low, high = min(low, levels[0]), max(high, levels[-1])
    top = TOP + (TITLE if title else 0)

    def at(point: Point) -> Place:
        across = LEFT + (width - LEFT - RIGHT) * point.step / max(1, last)
        share = (min(point.value, high) - low) / (high - low or 1)
        return across, height - BOTTOM - (height - top - BOTTOM) * share

    parts = [label(LEFT - 6, at(Point(0, tick))[1] + 4, f"{tick:g}", "end") for tick in levels]
    parts += [rule(LEFT, width - RIGHT, at(Point(0, tick))[1]) for tick in levels]
    parts += [
        label(at(Point(int(tick), low))[0], height - 8, f"{tick:g}", "middle")
        for tick in steps
        if tick <= last
    ]
    if len(loss) > 1:
        parts += [path([*map(at, loss)], "faint"), path([*map(at, _smooth(loss))], "curve")]
    if len(validation) > 1:
        parts.append(path([*map(at, validation)], "second"))
    parts += [_dot(point, *at(point)) for point in validation]
    if title:
        parts.append(label(LEFT, TOP, title, "start", "name title"))
    return Drawing(tuple(parts), width, height, title or "loss over steps").inline()


def _dot(point: Point, x: float, y: float) -> Html:
    tip = tag("title", f"after step {point.step}: {point.value:.4f}")
    return tag("circle", tip, cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_="dot")


def intervals(scored: Sequence[Scored], width: int = WIDTH) -> Html:
    """A row for each set: a dot and its 95 % interval for each evaluation (the base grey), and a dashed
    line at what guessing gives."""
    sets = scored[0].table.sets
    height = TOP + ROW * len(sets) + BOTTOM
    names = NAMES if width == WIDTH else NARROW_NAMES
    parts = []

    def across(share: float) -> float:
        return names + (width - names - RIGHT) * min(1.0, max(0.0, share))

    for tick in range(0, 101, 20):
        x = across(tick / 100)
        parts += [upright(x, TOP, height - BOTTOM), label(x, height - 8, f"{tick} %", "middle")]
    for row, first in enumerate(sets):
        middle = TOP + ROW * (row + 0.5)
        name = short(first.title)
        parts.append(label(names - 10, middle + 4, name, "end", "name"))
        parts.append(upright(across(first.chance), middle - 11, middle + 11, "chance"))
        for number, one in enumerate(scored):
            cell = next((found for found in one.table.sets if found.name == first.name), None)
            if cell is not None:
                lane = middle + 8 * (number - (len(scored) - 1) / 2)
                places = [across(share) for share in (cell.low, cell.score, cell.high)]
                parts.append(_span(places, lane, one.checkpoint))
    return Drawing(tuple(parts), width, height, "scores with 95 % intervals").inline()


def _span(places: Sequence[float], y: float, checkpoint: str) -> Html:
    """A score between the ends of its interval: the three `places` across."""
    style = "base" if checkpoint == BASE else "tuned"
    low, score, high = (f"{place:.1f}" for place in places)
    line = tag("line", x1=low, x2=high, y1=f"{y:.1f}", y2=f"{y:.1f}", stroke_width=2, class_=style)
    dot = tag("circle", cx=score, cy=f"{y:.1f}", r="3.5", class_=style)
    return tag("g", tag("title", checkpoint), line, dot)


def _smooth(points: Sequence[Point]) -> list[Point]:
    """A running mean over a fortieth of the run, corrected at its start."""
    keep = 1 - 1 / max(1.0, len(points) / 40)
    mean, weight, found = 0.0, 0.0, []
    for point in points:
        mean, weight = keep * mean + (1 - keep) * point.value, keep * weight + (1 - keep)
        found.append(Point(point.step, mean / weight))
    return found
