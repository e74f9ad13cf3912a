"""What plots are made of: a drawing in the page or in a file of its own, scales, labels, lines, marks.
Colours come from the page's style, so they follow its scheme; a file has the light one."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from doitune.report.html import Html, join, tag
from doitune.report.style import STYLE
from doitune.system.visible import visible

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 720, 48, 24, 12, 26
NARROW = 380
"""Pixels: what a plot is wide on a screen, and on a narrow one, where its text is as large."""

Place = tuple[float, float]
"""Pixels from the left and from the top."""

FONTS = 'system-ui,"Noto Sans","Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif'
MARK, LETTER = 3.5, 6.9
"""Pixels: half of a mark's width; a letter, about, in the widest of usual fonts."""


@dataclass(frozen=True)
class Drawing:
    """Parts of a plot in a box of `width` by `height` pixels; `label` says to a reader without eyes what it
    is."""

    parts: tuple[Html, ...]
    width: float
    height: float
    label: str

    def inline(self) -> Html:
        """As the page has it."""
        return tag(
            "svg",
            *self.parts,
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            role="img",
            aria_label=self.label,
        )

    def alone(self) -> str:
        """As a file that needs nothing beside it: on white paper, its colours and fonts named in it."""
        size = {"width": f"{self.width:g}", "height": f"{self.height:g}"}
        paper = tag("rect", **size, class_="paper")
        box = f"0 0 {size['width']} {size['height']}"
        style = Html(f"<style>{_own_style()}</style>")
        title = tag("title", self.label)
        whole = tag(
            "svg", title, style, paper, *self.parts, xmlns="http://www.w3.org/2000/svg", viewBox=box, **size
        )
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{whole}\n'


def side_by_side(
    drawings: Sequence[Drawing], columns: int, label: str, heading: Drawing | None = None
) -> Drawing:
    """Drawings of one size in rows of so many, under a heading."""
    wide, high = drawings[0].width, drawings[0].height
    top = heading.height if heading else 0.0
    parts = [nested(heading, 0, 0)] if heading else []
    for number, one in enumerate(drawings):
        row, column = divmod(number, columns)
        parts.append(nested(one, column * wide, top + row * high))
    rows = -(-len(drawings) // columns)
    return Drawing(tuple(parts), wide * min(columns, len(drawings)), top + rows * high, label)


def nested(one: Drawing, left: float, top: float) -> Html:
    """A drawing inside another."""
    return tag("g", *one.parts, transform=f"translate({left:g} {top:g})")


def _own_style() -> str:
    """The page's rules for drawings, with the colours of its light scheme."""
    root = re.search(r":root\{(.*?)\}", STYLE, re.DOTALL)
    assert root is not None
    colours = dict(re.findall(r"--([\w-]+):([^;}]+)", root[1]))
    rules = [line for line in STYLE.splitlines() if line.startswith("svg ")]
    found = "\n".join(rules).replace("font-family:inherit", f"font-family:{FONTS}")
    return re.sub(r"var\(--([\w-]+)\)", lambda name: str(colours[name[1]]), found)


def both_widths(draw: Callable[[int], Html]) -> Html:
    """A plot as it is drawn for a screen and for a narrow one; the page's style shows one of them."""
    return join((tag("div", draw(WIDTH), class_="broad"), tag("div", draw(NARROW), class_="narrow")))


def label(x: float, y: float, text: str, anchor: str, style: str = "") -> Html:
    """A text whose baseline is at `y`; `anchor`: start, middle or end is at `x`."""
    named = {"class_": style} if style else {}
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **named)


def rule(left: float, right: float, y: float, style: str = "axis") -> Html:
    """A line across."""
    return tag("line", x1=f"{left:.1f}", x2=f"{right:.1f}", y1=f"{y:.1f}", y2=f"{y:.1f}", class_=style)


def upright(x: float, top: float, bottom: float, style: str = "axis") -> Html:
    """A line down."""
    return tag("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=f"{top:.1f}", y2=f"{bottom:.1f}", class_=style)


def path(places: Sequence[Place], style: str) -> Html:
    """A line through these places."""
    return tag("polyline", points=_points(places), class_=style)


def area(places: Sequence[Place], style: str) -> Html:
    """What lies within these places."""
    return tag("polygon", points=_points(places), class_=style)


def _points(places: Sequence[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def mark(kind: str, at: Place, style: str, tip: str = "") -> Html:
    """A mark of a `kind`: dot, square, diamond, triangle, cross, plus or ring."""
    x, y, r = *at, MARK
    said = [tag("title", tip)] if tip else []
    if kind in ("dot", "ring"):
        return tag("circle", *said, cx=f"{x:.1f}", cy=f"{y:.1f}", r=r, class_=f"{kind} {style}")
    shapes = {
        "square": f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z",
        "diamond": f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z",
        "triangle": f"M{x:.1f} {y - r - 0.5:.1f}l{r + 0.5} {2 * r + 0.5}h{-2 * r - 1}z",
        "cross": f"M{x - r:.1f} {y - r:.1f}l{2 * r} {2 * r}M{x + r:.1f} {y - r:.1f}l{-2 * r} {2 * r}",
        "plus": f"M{x - r - 1:.1f} {y:.1f}h{2 * r + 2}M{x:.1f} {y - r - 1:.1f}v{2 * r + 2}",
    }
    return tag("path", *said, d=shapes[kind], class_=f"ring {style}")


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`."""
    span = max(high - low, 1e-9)
    size = 10.0 ** math.floor(math.log10(span / most))
    size *= next(factor for factor in (1, 2, 5, 10, 20) if span / (size * factor) <= most)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [round(number * size, 10) for number in range(first, min(last, first + 2 * most) + 1)]


@dataclass(frozen=True)
class Line:
    """A linear scale: `low` lies at pixel `start`, `high` at pixel `end`; what lies outside is drawn at its
    end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / ((self.high - self.low) or 1)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True)
class Doublings:
    """A logarithmic scale of rows, `low` above 0, with a place of its own for none where `zero` says so."""

    low: float
    high: float
    start: float
    end: float
    zero: bool = False

    def __call__(self, rows: float) -> float:
        first = self.start + (0.16 * (self.end - self.start) if self.zero else 0.0)
        if rows <= 0:
            return self.start
        span = math.log(self.high / self.low) or 1.0
        share = math.log(min(max(rows, self.low), self.high) / self.low) / span
        return first + share * (self.end - first)


def wide(text: str) -> int:
    """Columns that a text takes: two for each Chinese character."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def short(name: str, most: int = 26) -> str:
    """A label of at most `most` columns: a hidden character counts as the code that is shown for it."""
    name = visible(name)
    if wide(name) <= most:
        return name
    while wide(name) > most - 1:
        name = name[:-1]
    return f"{name}…"
