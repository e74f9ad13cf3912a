"""Growth in other pictures than its curves: traits against sensitivity, who teaches whom, budgets, and what
was foretold against what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from doitune.growth.fit.interval import Interval
from doitune.growth.fit.partners import Partners
from doitune.report.drawing import (
    LETTER,
    NARROW,
    Doublings,
    Drawing,
    Line,
    Place,
    label,
    mark,
    nested,
    rule,
    short,
    ticks,
    upright,
)
from doitune.report.growth.read import GrowthView
from doitune.report.html import Html, tag

ROW, NAMES, NARROW_NAMES = 26, 200, 146
SCATTER, SCATTER_LOW = 250, 34
"""Pixels: the height of a row; the width of names; the height of a scatter and of what lies under it."""

Mean = tuple[int, Interval, Interval]
"""Of an ability: its number, its trait, its sensitivity."""


def scaled(one: Interval, times: float) -> Interval:
    """An interval in another unit."""
    return Interval(times * one.value, times * one.low, times * one.high)


def trait_points(view: GrowthView, model: str) -> tuple[list[Mean], list[Mean]]:
    """Abilities whose sensitivity is known, by their Complexity in own rows, and by their Transference."""
    slopes = {
        one.name: one.slope
        for one in view.found.curves
        if one.model == model and one.construction == "curated" and one.slope
    }
    hard: list[Mean] = []
    helped: list[Mean] = []
    for one in view.found.traits:
        if one.model == model and one.name in slopes:
            number, slope = view.growth.abilities.index(one.name) + 1, slopes[one.name]
            if one.complexity:
                hard.append((number, in_rows(one.complexity), slope))
            if one.transference:
                helped.append((number, one.transference, slope))
    return hard, helped


def in_rows(complexity: Interval) -> Interval:
    """Complexity as rows instead of doublings."""
    return Interval(*(2.0**one for one in (complexity.value, complexity.low, complexity.high)))


def traits_drawing(view: GrowthView, model: str, names: Mapping[str, str], width: int) -> Drawing:
    """Both traits against points per doubling, abilities by their numbers; `trait_points` has some."""
    hard, helped = trait_points(view, model)
    narrow = width <= NARROW
    each = width if narrow else width / 2
    points = [end for _, _, slope in (*hard, *helped) for end in (slope.low, slope.high)]
    levels = ticks(min(0.0, *points), max(points))
    up = Line(levels[0], levels[-1], SCATTER - SCATTER_LOW, 24)
    panels = []
    if hard:
        many = max(0.5, min(one.low for _, one, _ in hard))
        most = max(2 * many, min(2e5, max(one.high for _, one, _ in hard)))
        along = Doublings(many, most, 44, each - 14)
        decades = [
            (rows, f"{rows:,}") for rows in (1, 10, 100, 1000, 10_000, 100_000) if many <= rows <= most
        ]
        panels.append(_scatter(hard, along, up, decades, levels, each))
        panels[-1].append(label(44, 14, "Complexity: own rows at half of the gain", "start", "name"))
    if helped:
        share = Line(0, 1, 44, each - 14)
        panels.append(_scatter(helped, share, up, [(n / 4, f"{25 * n}") for n in range(5)], levels, each))
        panels[-1].append(label(44, 14, "Transference: % of the gain without own rows", "start", "name"))
    drawn = [Drawing(tuple(parts), each, SCATTER, "") for parts in panels]
    at = [(0.0, SCATTER * n) if narrow else (each * n, 0.0) for n in range(len(drawn))]
    keys, high = _key(view, names, width, SCATTER * (len(drawn) if narrow else 1))
    parts = [*(nested(one, *place) for one, place in zip(drawn, at)), *keys]
    return Drawing(tuple(parts), width, high, "traits against points per doubling of rows")


def _scatter(
    among: Sequence[Mean],
    across: Doublings | Line,
    up: Line,
    under: Sequence[tuple[float, str]],
    levels: Sequence[float],
    width: float,
) -> list[Html]:
    parts = [rule(44, width - 14, up(level)) for level in levels]
    parts += [label(38, up(level) + 4, f"{level:g}", "end") for level in levels]
    bottom = SCATTER - SCATTER_LOW
    for value, text in under:
        parts += [
            upright(across(value), bottom, bottom + 4),
            label(across(value), bottom + 17, text, "middle"),
        ]
    spots: list[Place] = []
    for _, trait, slope in among:
        x, y = across(trait.value), up(slope.value)
        parts.append(rule(across(trait.low), across(trait.high), y, "whisker"))
        parts.append(upright(x, up(slope.low), up(slope.high), "whisker"))
        spots.append((x, y))
    parts += [mark("dot", spot, "s0") for spot in spots]
    edges = (44.0, width - 4, 22.0, float(bottom))
    for (number, _, _), (x, y) in zip(among, _beside(spots, [str(one[0]) for one in among], edges)):
        parts.append(label(x, y, str(number), "middle", "name"))
    return parts


def _beside(
    spots: Sequence[Place], texts: Sequence[str], edges: tuple[float, float, float, float]
) -> list[Place]:
    """For each spot a place for its text that touches no other text and no spot, as near as there is one."""
    left, right, top, bottom = edges
    taken: list[tuple[float, float, float, float]] = [(x - 4, x + 4, y - 4, y + 4) for x, y in spots]
    found = []
    for (x, y), text in zip(spots, texts):
        half = 3.6 * len(text) + 1
        near = [(dx, dy) for reach in (11, 18, 26, 36, 48) for dx, dy in _round(reach)]
        for dx, dy in near:
            at = (x + dx - half, x + dx + half, y + dy - 7, y + dy + 7)
            inside = at[0] > left and at[1] < right and at[2] > top and at[3] < bottom
            if inside and not any(_meet(at, other) for other in taken):
                break
        taken.append(at)
        found.append((x + dx, y + dy + 4))
    return found


def _round(reach: float) -> list[Place]:
    slant = 0.75 * reach
    return [
        (reach, -4), (-reach, -4), (0, -reach - 2), (0, reach + 2),
        (slant, -slant), (-slant, -slant), (slant, slant), (-slant, slant),
    ]  # fmt: skip


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def _key(view: GrowthView, names: Mapping[str, str], width: float, top: float) -> tuple[list[Html], float]:
    """What the numbers mean."""
    columns = 2 if width <= NARROW else 4
    each, parts = (width - 16) / columns, []
    for place, name in enumerate(view.growth.abilities):
        row, column = divmod(place, columns)
        text = short(f"{place + 1} {names[name]}", int(each / LETTER))
        parts.append(label(8 + column * each, top + 12 + 17 * row, text, "start"))
    return parts, top + 10 + 17 * -(-len(view.growth.abilities) // columns)


def matrix_drawing(view: GrowthView, found: Partners, names: Mapping[str, str], width: int) -> Drawing:
    """A row for each ability that listens, a column for each that teaches it alone: % of the gain."""
    abilities = view.growth.abilities
    left = NARROW_NAMES - 34 if width <= NARROW else NAMES
    side = min(44.0, (width - left - 6) / len(abilities))
    high = min(28.0, side)
    tiny = "tiny" if side < 34 else ""
    top = 22.0
    shares = {(one.source, one.learner): one for one in found.lessons}
    parts = [label(left + side * (n + 0.5), 15, str(n + 1), "middle") for n in range(len(abilities))]
    for row, learner in enumerate(abilities):
        y = top + high * row
        text = short(f"{row + 1} {names[learner]}", int((left - 10) / LETTER))
        parts.append(label(left - 8, y + high / 2 + 4, text, "end", "name"))
        for column, source in enumerate(abilities):
            lesson = shares.get((source, learner))
            box = {"x": f"{left + side * column + 1:.1f}", "y": f"{y + 1:.1f}"}
            size = {"width": f"{side - 2:.1f}", "height": f"{high - 2:.1f}"}
            if lesson is None:
                parts.append(tag("rect", **box, **size, class_="none"))
                continue
            share = lesson.share.value
            opacity = {"fill_opacity": f"{min(0.6, 0.62 * abs(share)):.2f}"}
            taught = "taught" if lesson.is_taught else ""
            tip = (
                f"{lesson.rows:,} rows of {names[source]} alone: {100 * share:.0f} % "
                f"[{100 * lesson.share.low:.0f} to {100 * lesson.share.high:.0f}] of the gain of "
                f"{names[learner]}"
            )
            kind = "lesson" if share >= 0 else "harm"
            parts.append(tag("rect", tag("title", tip), **box, **size, **opacity, class_=f"{kind} {taught}"))
            middle = (left + side * (column + 0.5), y + high / 2 + 4)
            parts.append(label(*middle, f"{100 * share:.0f}", "middle", f"name {taught and 'strong'} {tiny}"))
    return Drawing(
        tuple(parts), width, top + high * len(abilities) + 6, "what one ability alone taught others"
    )


@dataclass(frozen=True)
class Lane:
    """A row of a figure: intervals with their styles, marks with their kinds, styles and tips (as many as
    there are intervals: each on its own), bars with their styles and texts; values are on the figure's
    scale."""

    name: str
    spans: tuple[tuple[Interval, str], ...] = ()
    marks: tuple[tuple[float, str, str, str], ...] = ()
    bars: tuple[tuple[float, str, str], ...] = ()


def lanes_drawing(lanes: Sequence[Lane], unit: str, what: str, width: int) -> Drawing:
    """Rows on one scale from 0, or from below it where a value is."""
    left = NARROW_NAMES if width <= NARROW else NAMES
    ends = [end for lane in lanes for span, _ in lane.spans for end in (span.low, span.high)]
    ends += [one[0] for lane in lanes for one in lane.marks]
    ends += [one[0] for lane in lanes for one in lane.bars]
    levels = ticks(min(0.0, *ends), max(ends), 4 if width <= NARROW else 6)
    behind = max((LETTER * len(text) for lane in lanes for _, _, text in lane.bars), default=0.0)
    scale = Line(levels[0], levels[-1], left, width - max(26.0, behind + 8))
    high = 10 + ROW * len(lanes)
    parts = [upright(scale(level), 8, high) for level in levels]
    parts += [label(scale(level), high + 16, f"{level:,g}{unit}", "middle") for level in levels]
    for row, lane in enumerate(lanes):
        middle = 8 + ROW * (row + 0.5)
        parts.append(label(left - 8, middle + 4, short(lane.name, int((left - 10) / LETTER)), "end", "name"))
        for number, (value, style, text) in enumerate(lane.bars):
            y = middle + 10 * (number - len(lane.bars) / 2) + 1
            box = {"x": f"{scale(0):.1f}", "y": f"{y:.1f}", "height": "8"}
            parts.append(tag("rect", **box, width=f"{max(1.0, scale(value) - scale(0)):.1f}", class_=style))
            if number == len(lane.bars) - 1:
                parts.append(label(scale(max(one[0] for one in lane.bars)) + 5, middle + 4, text, "start"))
        for number, (span, style) in enumerate(lane.spans):
            y = middle + 8 * (number - (len(lane.spans) - 1) / 2)
            parts.append(rule(scale(span.low), scale(span.high), y, f"span {style}"))
            parts.append(mark("dot", (scale(span.value), y), style))
        beside = len(lane.marks) == len(lane.spans)  # each on its own interval
        for number, (value, kind, style, tip) in enumerate(lane.marks):
            y = middle + 8 * (number - (len(lane.marks) - 1) / 2) if beside else middle
            parts.append(mark(kind, (scale(value), y), style, tip))
    return Drawing(tuple(parts), width, high + 24, what)
