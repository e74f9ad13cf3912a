"""Plots as inline SVG: curves over steps, and scores with their intervals. Colours come from the page's
style, so they follow its scheme."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from doitune.report.html import Html, join, tag
from doitune.report.read import Point, Scored
from doitune.run.layout import BASE
from doitune.system.visible import visible

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 48, 24, 12, 26
NARROW = 380
"""Pixels: what a plot is wide on a screen, and on a narrow one, where its text is as large."""

ROW, NAMES, NARROW_NAMES, TITLE = 30, 190, 160, 20
"""Pixels: the height of a set's row, the width that its name has, and the height that a title has."""


def both_widths(draw: Callable[[int], Html]) -> Html:
    """A plot as it is drawn for a screen and for a narrow one; the page's style shows one of them."""
    return join((tag("div", draw(WIDTH), class_="broad"), tag("div", draw(NARROW), class_="narrow")))


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
    steps, ticks = _ticks(0, last), _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    top = TOP + (TITLE if title else 0)

    def at(point: Point) -> tuple[float, float]:
        across = LEFT + (width - LEFT - RIGHT) * point.step / max(1, last)
        share = (min(point.value, high) - low) / (high - low or 1)
        return across, height - BOTTOM - (height - top - BOTTOM) * share

    parts = [_label(LEFT - 6, at(Point(0, tick))[1] + 4, f"{tick:g}", "end") for tick in ticks]
    parts += [_rule(LEFT, width - RIGHT, at(Point(0, tick))[1]) for tick in ticks]
    parts += [
        _label(at(Point(int(tick), low))[0], height - 8, f"{tick:g}", "middle")
        for tick in steps
        if tick <= last
    ]
    if len(loss) > 1:
        parts += [_path(loss, at, "faint"), _path(_smooth(loss), at, "curve")]
    if len(validation) > 1:
        parts.append(_path(validation, at, "second"))
    parts += [_dot(point, *at(point)) for point in validation]
    if title:
        parts.append(_label(LEFT, TOP, title, "start", "name title"))
    return _picture(parts, width, height, title or "loss over steps")


def _picture(parts: Sequence[Html], width: int, height: int, label: str) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=label)


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
        parts += [_upright(x, TOP, height - BOTTOM, "axis"), _label(x, height - 8, f"{tick} %", "middle")]
    for row, first in enumerate(sets):
        middle = TOP + ROW * (row + 0.5)
        name = _short(first.title)
        parts.append(_label(names - 10, middle + 4, name, "end", "name"))
        parts.append(_upright(across(first.chance), middle - 11, middle + 11, "chance"))
        for number, one in enumerate(scored):
            cell = next((found for found in one.table.sets if found.name == first.name), None)
            if cell is not None:
                lane = middle + 8 * (number - (len(scored) - 1) / 2)
                places = [across(share) for share in (cell.low, cell.score, cell.high)]
                parts.append(_span(places, lane, one.checkpoint))
    return _picture(parts, width, height, "scores with 95 % intervals")


def _upright(x: float, top: float, bottom: float, style: str) -> Html:
    return tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=f"{top:.1f}", y2=f"{bottom:.1f}", class_=style)


def _span(places: Sequence[float], y: float, checkpoint: str) -> Html:
    """A score between the ends of its interval: the three `places` across."""
    style = "base" if checkpoint == BASE else "tuned"
    low, score, high = (f"{place:.1f}" for place in places)
    line = tag("line", x1=low, x2=high, y1=f"{y:.1f}", y2=f"{y:.1f}", stroke_width=2, class_=style)
    dot = tag("circle", cx=score, cy=f"{y:.1f}", r="3.5", class_=style)
    return tag("g", tag("title", checkpoint), line, dot)


def _path(points: Sequence[Point], at: Callable[[Point], tuple[float, float]], style: str) -> Html:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, points))
    return tag("polyline", points=places, class_=style)


def _smooth(points: Sequence[Point]) -> list[Point]:
    """A running mean over a fortieth of the run, corrected at its start."""
    keep = 1 - 1 / max(1.0, len(points) / 40)
    mean, weight, found = 0.0, 0.0, []
    for point in points:
        mean, weight = keep * mean + (1 - keep) * point.value, keep * weight + (1 - keep)
        found.append(Point(point.step, mean / weight))
    return found


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = max(high - low, 1e-9)
    size = 10.0 ** math.floor(math.log10(span / most))
    size *= next(factor for factor in (1, 2, 5, 10, 20) if span / (size * factor) <= most)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [round(number * size, 10) for number in range(first, min(last, first + 2 * most) + 1)]


def _label(x: float, y: float, text: str, anchor: str, style: str = "") -> Html:
    named = {"class_": style} if style else {}
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **named)


def _rule(left: float, right: float, y: float) -> Html:
    return tag("line", x1=f"{left:.1f}", x2=f"{right:.1f}", y1=f"{y:.1f}", y2=f"{y:.1f}", class_="axis")


def _short(name: str, most: int = 26) -> str:
    """A label of at most `most` characters: a hidden one counts as the code that is shown for it."""
    name = visible(name)
    return name if len(name) <= most else name[: most - 1] + "…"
