"""Growth on a terminal: a small plot for each ability, as many beside each other as there is room for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from doitune.console.conclusions import show_conclusions
from doitune.console.screen import out, safe, say
from doitune.report.drawing import ticks, wide

if TYPE_CHECKING:
    from rich.text import Text

    from doitune.growth.fit.curves import Curve
    from doitune.report.growth.read import GrowthView

LEAST, MOST, HIGH, AXIS, MOST_BESIDE = 30, 46, 7, 5, 3
"""Columns of a plot at least and at most, its rows, the columns of its axis, and plots beside each other."""

NONE, SPARSE = 3, 3
"""Columns before the first rows, for runs without any; half columns from dot to dot beyond what was
measured."""

BLANK = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Braille's dots, from the top: left and right."""

SIGNS = {"run": "o", "chance": "-", "line": "*", "beyond": "."}
"""Where braille cannot be written, and for what braille is not: each run, guessing."""

Ends = tuple[float, float]
Cells = dict[tuple[int, int], tuple[str, str]]
"""By row and column: a character and its style."""


def show_growth_curves(view: GrowthView) -> None:
    """Curves in the width of the terminal, then what they come to in numbers."""
    screen = out()
    fine = screen.encoding.startswith("utf")
    beside = max(1, min(MOST_BESIDE, (screen.width + 2) // (LEAST + 2)))
    across = max(LEAST, min(MOST, (screen.width + 2) // beside - 2))
    for model in view.models:
        curves = [one for one in view.found.curves if one.model == model]
        for construction in dict.fromkeys(one.construction for one in curves):
            among = [one for one in curves if one.construction == construction]
            say(f"{view.growth.name}: {model}, {construction} rows, % right on {view.found.split}")
            plots = [_plot(view, one, among, (across, fine)) for one in among]
            for start in range(0, len(plots), beside):
                for lines in zip_longest(*plots[start : start + beside]):
                    text = _joined(lines)
                    screen.print(text, soft_wrap=True)
    line = "dots" if fine else SIGNS["line"]
    beyond = "sparse dots" if fine else SIGNS["beyond"]
    say(
        f"{SIGNS['run']} a run, by its own rows (doublings across, none at the left edge); {line} "
        f"expected at equal rows, {beyond} beyond what was measured; {SIGNS['chance']} guessing"
    )
    show_conclusions(view.found)
    for one in view.confirmed:
        family = f" ({one.family})" if one.family else ""
        say(f"{one.total:,} rows as advised{family}: {one.expected} {one.came}")
    if view.growth.unfinished:
        say(f"not measured: {', '.join(one.name for one in view.growth.unfinished)}")


def _joined(lines: Sequence[Text | None]) -> Text:
    from rich.text import Text

    return Text("  ").join(line for line in lines if line is not None)


def _plot(view: GrowthView, one: Curve, among: Sequence[Curve], form: tuple[int, bool]) -> list[Text]:
    """The lines of one ability's plot, each exactly so many columns; whether braille can be written."""
    from rich.text import Text

    width, fine = form
    scores = [end for curve in among for at in curve.line for end in (at.score.low, at.score.high)]
    scores += [point.score for curve in among for point in curve.points] + [curve.chance for curve in among]
    levels = ticks(100 * min(scores), 100 * max(scores), 3)
    low, high = max(0.0, levels[0]) / 100, min(100.0, levels[-1]) / 100
    rows = [point.own for curve in among for point in curve.points if point.own > 0]
    rows += [at.rows for curve in among for at in curve.line]
    span = (min(rows, default=1.0), max(rows, default=2.0))
    canvas = _Canvas(width - AXIS, span, (low, high), fine)
    canvas.fill(one)
    group = next((each.group for each in view.found.groups if each.name == one.name), "")
    title = _fitted(safe(one.title), width - len(group) - 1)
    lines = [Text.assemble((title, "bold"), " ", (group, "cyan"))]
    for row in range(HIGH):
        level = high - (high - low) * row / (HIGH - 1)
        mark = f"{abs(round(100 * level)):4} " if row in (0, HIGH - 1, HIGH // 2) else " " * AXIS
        lines.append(Text.assemble((mark, "dim"), *canvas.row(row)))
    first, last = f"{span[0]:,.0f}", f"{span[1]:,.0f} rows"
    gap = width - AXIS - NONE - len(first) - len(last)
    lines.append(Text(f"{' ' * AXIS}0{' ' * (NONE - 1)}{first}{' ' * max(1, gap)}{last}", style="dim"))
    return [_padded(line, width) for line in [*lines, Text("")]]


def _fitted(title: str, width: int) -> str:
    """A title in so many columns, whatever its letters take."""
    if wide(title) > width:
        while wide(title) > width - 1:
            title = title[:-1]
        title += "…" if wide(title) < width else ""
    return title + " " * (width - wide(title))


def _padded(line: Text, width: int) -> Text:
    line.append(" " * max(0, width - wide(line.plain)))
    return line


class _Canvas:
    """Cells of a plot: braille dots for the curve, letters for what was measured."""

    def __init__(self, width: int, rows: Ends, scores: Ends, fine: bool) -> None:
        self.width, self.rows, self.scores, self.fine = width, rows, scores, fine
        self.cells: Cells = {}

    def fill(self, one: Curve) -> None:
        """Guessing first, so that the curve and then the runs lie over it."""
        level = round((HIGH - 1) * (1 - self._share(one.chance, self.scores)))
        for column in range(0, self.width, 2):
            self.cells[level, column] = (SIGNS["chance"], "dim red")
        for before, after in zip(one.line, one.line[1:]):
            steps = 2 * self.width // max(1, len(one.line)) + 2
            for step in range(steps):
                part = step / steps
                rows = before.rows * (after.rows / before.rows) ** part
                score = before.score.value + part * (after.score.value - before.score.value)
                self._dot(rows, score, after.extrapolated)
        for point in one.points:
            column = 0 if point.own <= 0 else self._column(point.own, self.width)
            row = round((HIGH - 1) * (1 - self._share(point.score, self.scores)))
            self.cells[row, column] = (SIGNS["run"], "yellow")

    def _dot(self, rows: float, score: float, beyond: bool) -> None:
        down = (HIGH - 1) * (1 - self._share(score, self.scores)) + 0.5
        if not self.fine:
            sign = SIGNS["beyond" if beyond else "line"]
            self.cells[min(HIGH - 1, int(down)), self._column(rows, self.width)] = (sign, "blue")
            return
        column, row = self._column(rows, 2 * self.width), min(4 * HIGH - 1, int(4 * down))
        if beyond and column % SPARSE:
            return
        place = (row // 4, column // 2)
        known = self.cells.get(place, ("", ""))[0]
        bits = ord(known) - BLANK if known and BLANK <= ord(known) < BLANK + 256 else 0
        style = "dim blue" if beyond else "blue"
        self.cells[place] = (chr(BLANK + (bits | DOTS[row % 4][column % 2])), style)

    def _column(self, rows: float, width: int) -> int:
        low, high = (math.log(end) for end in self.rows)
        first = NONE * width // self.width
        share = (math.log(rows) - low) / ((high - low) or 1)
        return min(width - 1, max(first, round(first + (width - 1 - first) * share)))

    def _share(self, score: float, ends: Ends) -> float:
        return min(1.0, max(0.0, (score - ends[0]) / ((ends[1] - ends[0]) or 1)))

    def row(self, row: int) -> list[tuple[str, str]]:
        """The characters of a row with their styles."""
        return [self.cells.get((row, column), (" ", "")) for column in range(self.width)]
