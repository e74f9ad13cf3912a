"""The figures of a growth as files: SVG always, PNG where the renderer is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.report.drawing import WIDTH
from doitune.report.growth.gallery import sheets
from doitune.report.growth.read import GrowthView
from doitune.system.disk import make_folder
from doitune.system.doing import counted, doing
from doitune.system.publish import write_result

if TYPE_CHECKING:
    from doitune.report.drawing import Drawing

ZOOM = 2
"""Pixels of a PNG for each of the drawing's."""

FAMILIES = (
    *("Arial", "Liberation Sans", "DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Source Han Sans SC"),
    *("Helvetica", "Segoe UI", "Ubuntu", "Cantarell", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
)
"""What a machine may have as its plain font: the renderer knows only the first by itself, and draws no letter
without it, whatever else is there."""

NOBODY_HAS = "\U000f3c4d"
"""A character for private use that no font has: how a missing one is drawn."""


@dataclass(frozen=True)
class Written:
    """The files that were written, and what a reader of them must know, in sentences."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def write_figures(view: GrowthView, folder: Path) -> Written:
    """Every figure as SVG, and as PNG where the extra `plots` is installed. Errors: DiskError."""
    make_folder(folder)
    titles = view.growth.titles
    drawn = sheets(view, titles, WIDTH)
    paths = []
    for name, one in drawn.items():
        paths.append(folder / f"{name}.svg")
        write_result(paths[-1], one.alone())
    if not _can_render():
        return Written(tuple(paths), ("PNG needs the extra `plots`: pip install 'doitune[plots]'",))
    doing("looking for fonts")
    if not can_draw("a"):
        return Written(tuple(paths), ("PNG needs a font, and this machine has none (fonts-noto-cjk is one)",))
    names = {name: title if can_draw(title) else "" for name, title in titles.items()}
    lacking = [titles[name] for name, drawable in names.items() if not drawable]
    notes = []
    if lacking:
        plainly = {name: title or _plain_name(view, name) for name, title in names.items()}
        drawn = sheets(view, plainly, WIDTH)
        notes.append(
            f"no font of this machine has the characters of {lacking[0]!r}: PNG figures have plain names "
            "(SVG figures keep the titles, for a reader whose machine has one; fonts-noto-cjk is one)"
        )
    return Written((*paths, *_pictures(drawn, folder)), tuple(notes))


def _pictures(drawn: Mapping[str, Drawing], folder: Path) -> list[Path]:
    found = []
    for name in counted("drawing figures", list(drawn)):
        found.append(folder / f"{name}.png")
        write_result(found[-1], render(drawn[name].alone()))
    return found


def _plain_name(view: GrowthView, name: str) -> str:
    """What can be drawn instead of a title: the ability's own name, or its number."""
    return name if name.isascii() else f"set {view.sets.index(name) + 1 if name in view.sets else 0}"


def _can_render() -> bool:
    try:
        import resvg_py  # noqa: F401
    except ImportError:
        return False
    return True


def render(svg: str) -> bytes:
    """A drawing as PNG, with the fonts of this machine."""
    return _rendered(svg, _plain_family())


@cache
def _plain_family() -> str:
    """The first of FAMILIES that this machine has; the first of all where it has none."""
    blank = _rendered(_letter(" "), FAMILIES[0])
    return next((one for one in FAMILIES if _rendered(_letter("a"), one) != blank), FAMILIES[0])


def _rendered(svg: str, family: str) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM, sans_serif_family=family))


def can_draw(text: str) -> bool:
    """Whether the fonts of this machine have every letter of a text: one that is missing looks like a
    character that nobody has."""
    missing = render(_letter(NOBODY_HAS))
    blank = render(_letter(" "))
    return all(render(_letter(one)) not in (missing, blank) for one in set(text) - set(" "))


def _letter(one: str) -> str:
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24">'
    return f'{head}<text x="2" y="18" font-size="16" font-family="sans-serif">{escape(one)}</text></svg>'
