"""Growth as small multiples: a panel for each ability, all with the same two axes. Every run is drawn where
it was measured; nothing is smoothed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from doitune.growth.fit.curves import BEYOND, At, Curve
from doitune.growth.measured import Design
from doitune.report.drawing import (
    LETTER,
    Doublings,
    Drawing,
    Line,
    Place,
    area,
    label,
    mark,
    path,
    rule,
    short,
    side_by_side,
    ticks,
    upright,
    wide,
)
from doitune.report.growth.read import GrowthView
from doitune.report.html import Html, percent

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 270, 190, 30, 12, 42, 24
"""Pixels of a panel, and of what lies around its plot."""

MARKS: Mapping[Design, tuple[str, str]] = {
    "equal": ("dot", "equal rows"),
    "latin": ("diamond", "Latin square"),
    "leave_one_out": ("triangle", "one ability left out"),
    "single_source": ("square", "one ability alone"),
    "recipe": ("plus", "a recipe's budget"),
    "advised": ("cross", "advised"),
    "settings": ("cross", "other settings"),
}
"""How runs of each design are drawn and called."""

COLOURS = 5
"""Series colours of the page's style, s0 to s4."""


@dataclass(frozen=True)
class Axes:
    """What all panels share: rows of the ability across, scores (0..1) up."""

    rows: Doublings
    scores: Line
    budgets: tuple[float, ...]

    def at(self, rows: float, score: float) -> Place:
        """Where a score at so many rows is."""
        return self.rows(rows), self.scores(score)


def axes(curves: Sequence[Curve]) -> Axes:
    """Axes that hold every point and line of these."""
    own = [point.own for one in curves for point in one.points]
    budgets = {point.rows for one in curves for point in one.points if point.design == "equal"}
    along = [at.rows for one in curves for at in one.line]
    above = [rows for rows in (*own, *along) if rows > 0] or [1.0]
    scores = [point.score for one in curves for point in one.points]
    scores += [end for one in curves for at in one.line for end in (at.score.low, at.score.high)]
    scores += [one.chance for one in curves]
    levels = ticks(100 * min(scores, default=0), 100 * max(scores, default=1))
    low, high = max(0.0, levels[0] / 100), min(1.0, levels[-1] / 100)
    across = Doublings(min(above), max(above), LEFT + 6, WIDTH - RIGHT, any(rows <= 0 for rows in own))
    known = tuple(sorted(rows for rows in budgets or set(above) if rows > 0))
    return Axes(across, Line(low, high, HEIGHT - BOTTOM, TOP), known)


def panel(title: str, under: str, series: Sequence[tuple[str, Curve]], shared: Axes) -> Drawing:
    """One set: `series` are the colours and curves that its panel shows."""
    parts = [*_heads(title, under), *_grid(shared)]
    floors = dict.fromkeys((one.chance, one.base) for _, one in series)
    for chance, base in floors:
        parts.append(rule(LEFT, WIDTH - RIGHT, shared.scores(chance), "chance"))
        if base is not None:
            parts.append(rule(LEFT, WIDTH - RIGHT, shared.scores(base), "untrained"))
    for colour, one in series:
        parts += _line(one.line, shared, colour)
    for colour, one in series:
        parts += [
            mark(
                MARKS[point.design][0],
                shared.at(point.own, point.score),
                colour,
                f"{point.run}: {percent(point.score)} % with {point.own:,.0f} own rows, "
                f"{point.rows:,.0f} of each ability on average",
            )
            for point in one.points
        ]
    return Drawing(tuple(parts), WIDTH, HEIGHT, f"{title}: score by rows")


def _heads(title: str, under: str) -> list[Html]:
    most = int((WIDTH - 16) / LETTER)
    return [
        label(8, 14, short(title, most), "start", "name title"),
        label(8, 29, short(under, most + 2), "start"),
    ]


def _grid(shared: Axes) -> list[Html]:
    parts = []
    low, high = shared.scores.low, shared.scores.high
    for level in ticks(100 * low, 100 * high):
        if 100 * low - 1e-6 <= level <= 100 * high + 1e-6:
            y = shared.scores(level / 100)
            parts += [rule(LEFT, WIDTH - RIGHT, y), label(LEFT - 5, y + 4, f"{level:g}", "end")]
    if shared.rows.zero:
        parts.append(label(shared.rows(0), HEIGHT - 7, "0", "middle"))
    taken = shared.rows(0) + 6 if shared.rows.zero else 0.0
    for rows in shared.budgets:
        x, text = shared.rows(rows), f"{rows:,.0f}"
        half = LETTER * len(text) / 2
        parts.append(upright(x, HEIGHT - BOTTOM, HEIGHT - BOTTOM + 4))
        if x - half > taken + 4 and x + half < WIDTH:
            parts.append(label(x, HEIGHT - 7, text, "middle"))
            taken = x + half
    return parts


def _line(line: Sequence[At], shared: Axes, colour: str) -> list[Html]:
    """The band and the expected score: as far as was measured, and beyond as such."""
    if not line:
        return []
    inside = [at for at in line if not at.extrapolated]
    outside = [*inside[-1:], *(at for at in line if at.extrapolated)]
    parts = []
    for among, band, drawn in ((inside, "band", "line"), (outside, "band beyond", "line dash")):
        if len(among) > 1:
            edge = [shared.at(at.rows, at.score.high) for at in among]
            edge += [shared.at(at.rows, at.score.low) for at in reversed(among)]
            parts.append(area(edge, f"{band} {colour}"))
            parts.append(path([shared.at(at.rows, at.score.value) for at in among], f"{drawn} {colour}"))
    return parts


def ability_panels(view: GrowthView, model: str, names: Mapping[str, str]) -> list[Drawing]:
    """A panel for each ability of one model, by construction, and one for their mean as it was measured."""
    curves = [one for one in view.found.curves if one.model == model]
    shared = axes(curves)
    groups = {one.name: one.group for one in view.found.groups}
    found = []
    for name in view.growth.abilities:
        series = [(_colour(one.construction), one) for one in curves if one.name == name]
        if series:
            found.append(panel(names[name], _under(series[0][1], groups.get(name, "")), series, shared))
    if len(found) > 1:
        found.append(_mean_panel(view, curves, shared))
    return found


def other_panels(view: GrowthView, model: str, names: Mapping[str, str]) -> list[Drawing]:
    """A panel for each set that no rows teach."""
    curves = [one for one in view.found.out_of_domain if one.model == model]
    shared = axes(curves)
    found = []
    for name in dict.fromkeys(one.name for one in curves):
        series = [(_colour(one.construction), one) for one in curves if one.name == name]
        found.append(panel(names[name], _under(series[0][1], ""), series, shared))
    return found


def size_panels(view: GrowthView, names: Mapping[str, str]) -> list[Drawing]:
    """A panel for each ability: the models beside each other on curated rows, without bands."""
    curves = [one for one in view.found.curves if one.construction == "curated"]
    shared = axes(curves)
    slopes = {one.name: one.slope for one in view.found.sizes}
    found = []
    for name in view.growth.abilities:
        series = [
            (f"s{view.models.index(one.model) % COLOURS} bare", one) for one in curves if one.name == name
        ]
        slope = slopes.get(name)
        under = f"{slope.value:+.1f} points per doubling of weights" if slope else ""
        if series:
            found.append(panel(names[name], under, series, shared))
    return found


def _colour(construction: str) -> str:
    return "s1" if construction == "synthetic" else "s2" if construction == "mix" else "s0"


def _under(curve: Curve, group: str) -> str:
    slope = f"{curve.slope.value:+.1f} points per doubling" if curve.slope else ""
    if not curve.line:
        return "too few runs for a curve"
    return ", ".join(part for part in (group, slope) if part)


def _mean_panel(view: GrowthView, curves: Sequence[Curve], shared: Axes) -> Drawing:
    """Every run's mean over all abilities: no curve, as each has its own."""
    parts = [
        *_heads(f"Mean of {len(view.growth.abilities)} abilities", "as measured, each run a mark"),
        *_grid(shared),
    ]
    count = len(view.growth.abilities)
    runs: dict[tuple[str, str], list[Curve]] = {}
    for one in curves:
        for point in one.points:
            runs.setdefault((one.construction, point.run), []).append(one)
    for (construction, run), among in runs.items():
        if len(among) == count:
            points = [next(point for point in one.points if point.run == run) for one in among]
            score = sum(point.score for point in points) / count
            tip = f"{run}: {percent(score)} % at {points[0].rows:,.0f} rows of each on average"
            at = shared.at(points[0].rows, score)
            parts.append(mark(MARKS[points[0].design][0], at, _colour(construction), tip))
    return Drawing(tuple(parts), WIDTH, HEIGHT, "mean score by rows")


Entry = tuple[str, str, str]
"""Of a legend: what is drawn (a mark's kind, line, dash, chance, untrained), its colour, the words."""


def legend_of(curves: Iterable[Curve], series: Sequence[tuple[str, str]]) -> list[Entry]:
    """The entries for these curves; `series`: colour and name, where there are several."""
    among = list(curves)
    seen = {point.design for one in among for point in one.points}
    found: list[Entry] = [("line", colour, name) for colour, name in series] if len(series) > 1 else []
    if any(one.line for one in among):
        found.append(("line", "", "expected at equal rows, in its 90 % band"))
        found.append(("dash", "", f"beyond what was measured, up to {BEYOND} times"))
    found += [(kind, "s0", words) for design, (kind, words) in MARKS.items() if design in seen]
    found.append(("chance", "", "guessing"))
    if any(one.base is not None for one in among):
        found.append(("untrained", "", "untrained model"))
    return found


def legend(entries: Sequence[Entry], width: int) -> Drawing:
    """Entries in as many rows as they need."""
    parts: list[Html] = []
    x, y = 8.0, 14.0
    for kind, colour, words in entries:
        long = 34 + LETTER * wide(words)
        if x > 8 and x + long > width:
            x, y = 8.0, y + 18
        if kind in ("line", "dash"):
            parts.append(
                path([(x, y - 4), (x + 22, y - 4)], f"{'line dash' if kind == 'dash' else kind} {colour}")
            )
        elif kind in ("chance", "untrained"):
            parts.append(rule(x, x + 22, y - 4, kind))
        else:
            parts.append(mark(kind, (x + 11, y - 4), colour))
        parts.append(label(x + 28, y, words, "start"))
        x += long + 10
    return Drawing(tuple(parts), width, y + 12, "what is drawn")


def sheet(drawings: Sequence[Drawing], entries: Sequence[Entry], what: str, columns: int = 4) -> Drawing:
    """All panels in one drawing with the legend over them."""
    width = WIDTH * min(columns, len(drawings))
    return side_by_side(drawings, columns, what, legend(entries, width))
