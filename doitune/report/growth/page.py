"""One self-contained HTML page about a family of runs: how each ability grew, what explains it, what budget
that suggested and what came of it."""

from __future__ import annotations

from doitune.report.drawing import WIDTH, both_widths
from doitune.report.growth import tables
from doitune.report.growth.confirmed import Confirmed
from doitune.report.growth.gallery import Draw, Panels, figures, of_advice, small_multiples
from doitune.report.growth.panels import legend
from doitune.report.growth.read import GrowthView
from doitune.report.html import Html, document, join, tag
from doitune.report.style import STYLE
from doitune.system.units import several

POINTS = (
    "Every mark is one run, where it was measured; nothing is smoothed. Across: own rows of the ability, "
    "each doubling as wide; up: % right, the same axes in every panel. The line is what equal rows of every "
    "ability are expected to give, so runs of other designs may lie off it."
)


LEGEND = 940
"""Pixels that a legend is wide on a screen: its letters are then those of the panels."""


def page(view: GrowthView) -> str:
    """The page of a family."""
    growth, found = view.growth, view.found
    said = (
        f"{len(growth.members)} of {len(growth.members) + len(growth.unfinished)} runs measured; "
        f"scores on {found.split}; intervals hold 90 %"
    )
    parts: list[Html] = [tag("h1", growth.name), tag("p", said, class_="soft"), _cards(view)]
    if growth.unfinished:
        count = several(len(growth.unfinished), "run")
        link = tag("a", "their names", href=f"#{tables.RUNS}")
        parts.append(tag("p", f"Not measured yet: {count} (", link, ").", class_="mark small"))
    panels, pictures = small_multiples(view, growth.titles), figures(view, growth.titles)
    parts += _growth(view, panels)
    parts += tables.groups(view)
    parts += _sizes(view, panels)
    parts += tables.versus(view)
    parts += _traits(view, pictures)
    parts += _partners(pictures)
    parts += _claim(view, pictures)
    for one in view.confirmed:
        parts += _confirmed(view, one, pictures)
    parts += tables.members(view)
    parts += tables.paper()
    return document(f"{growth.name} · doitune", STYLE, tag("main", *parts))


def _cards(view: GrowthView) -> Html:
    growth = view.growth
    cards = [(f"{len(growth.abilities)}", "abilities")]
    if len(view.models) > 1:
        cards.append((f"{len(view.models)}", "models"))
    groups = [one.group for one in view.found.groups]
    cards += [(f"{groups.count(name)}", name) for name in dict.fromkeys(sorted(groups))]
    for one in view.found.claim.explained[:1]:
        cards.append((f"{one.r2:.2f}", f"R² of both traits, p {one.p:.2g}"))
    boxes = [tag("div", tag("b", value), tag("span", what), class_="card") for value, what in cards]
    return tag("div", join(boxes), class_="cards")


def _growth(view: GrowthView, panels: dict[str, Panels]) -> list[Html]:
    parts = [tag("h2", "How each ability grew")]
    if not panels:
        return [*parts, tag("p", "No run is measured yet.", class_="soft")]
    for name, one in panels.items():
        if name.startswith("curves"):
            parts += [*_model(view, name), _figure(one, POINTS)]
    parts += tables.sensitivities(view)
    for name, one in panels.items():
        if name.startswith("out-of-domain"):
            parts += [tag("h3", "Out of the domain: sets that no rows teach"), *_model(view, name)]
            parts.append(_figure(one, "Across: rows of each ability; as above otherwise."))
    return parts


def _model(view: GrowthView, name: str) -> list[Html]:
    """Which model a figure is of, where there are several."""
    return [] if len(view.models) < 2 else [tag("h3", name.partition("-")[2])]


def _figure(one: Panels, caption: str) -> Html:
    drawn = tag("div", *(panel.inline() for panel in one.panels), class_="panels")
    signs = both_widths(lambda width: legend(one.legend, LEGEND if width == WIDTH else width).inline())
    return tag("figure", signs, drawn, tag("figcaption", caption))


def _sizes(view: GrowthView, panels: dict[str, Panels]) -> list[Html]:
    if "sizes" not in panels:
        return []
    parts = [
        tag("h2", "Models beside each other"),
        _figure(panels["sizes"], "On curated rows; bands are left out."),
    ]
    if view.found.sizes:
        counts = ", ".join(f"{model} {count / 1e6:,.1f} million" for model, count in view.parameters.items())
        return [*parts, tables.sizes(view), tag("p", f"Weights: {counts}.", class_="small soft")]
    why = "How many weights these models have is not known here, or the same: no sensitivity to size."
    return [*parts, tag("p", why, class_="soft")]


def _drawn(pictures: dict[str, Draw], kind: str, caption: str) -> list[Html]:
    """The figures whose name is `kind`, or begins so where there are several models."""
    return [
        _drawing(draw, caption)
        for name, draw in pictures.items()
        if name == kind or name.startswith(f"{kind}-")
    ]


def _drawing(draw: Draw, caption: str) -> Html:
    plot = both_widths(lambda width: draw(width).inline())
    return tag("figure", plot, tag("figcaption", caption))


def _traits(view: GrowthView, pictures: dict[str, Draw]) -> list[Html]:
    if not view.found.traits:
        return []
    parts = [
        tag("h2", "Two traits of each ability"),
        tag(
            "p",
            "Complexity: own rows at half of the attainable gain. Transference: the share of the gain, "
            "counted from guessing, that comes without own rows. Both are doitune's own: the paper's "
            "formulas are not known to us.",
        ),
    ]
    parts += _drawn(pictures, "traits", "Up: points per doubling of rows. Thin lines: 90 % intervals.")
    for model in view.models:
        heading = [tag("h3", model)] if len(view.models) > 1 else []
        parts += [*heading, tables.traits(view, model)]
    return parts


def _partners(pictures: dict[str, Draw]) -> list[Html]:
    caption = (
        "Each row listens, each column taught alone: % of the gain that came. Framed: beyond doubt above "
        "nothing; orange: below guessing."
    )
    drawn = _drawn(pictures, "partners", caption)
    return [tag("h2", "Who teaches whom"), *drawn] if drawn else []


def _claim(view: GrowthView, pictures: dict[str, Draw]) -> list[Html]:
    claim = view.found.claim
    if not view.found.traits:
        return []
    parts = [tag("h2", "Do the traits explain the sensitivities?"), *tables.claim(view)]
    if claim.foretold:
        first = claim.foretold[0]
        parts.append(tag("h3", "Does a pilot tell what a larger budget brings?"))
        known = [
            f"{what} {value:.1f} points"
            for what, value in (
                ("The predictions are off by", claim.error),
                ("“it stays as it is” is off by", claim.error_of_no_growth),
            )
            if value is not None
        ]
        covered = (
            "" if claim.covered is None else f"; {100 * claim.covered:.0f} % lie in their 90 % intervals"
        )
        parts.append(tag("p", f"{', '.join(known)} on average{covered}."))
        caption = (
            f"Bars: foretold for {first.rows:,.0f} rows of each ability from runs up to "
            f"{first.known_to:,.0f}; amber: what was measured; grey: the score before."
        )
        parts += _drawn(pictures, "foretold", caption)
    return parts


def _confirmed(view: GrowthView, one: Confirmed, pictures: dict[str, Draw]) -> list[Html]:
    budgets, came = (of_advice(view, kind, one) for kind in ("budgets", "confirmed"))
    parts = [
        tag("h2", "The advised budget" if len(view.confirmed) < 2 else f"The advised budget: {one.family}"),
        _drawing(pictures[budgets], f"{one.total:,} rows: equal shares grey, advised blue."),
        tag("h3", "Predicted against confirmed"),
        *([tag("p", one.expected)] if one.expected else []),
        tag("p", one.came) if one.found else tag("p", one.came, class_="mark"),
    ]
    caption = (
        "Bars: what the curves on valid expect of equal shares (grey) and of the advice (blue); squares and "
        "amber diamonds: what their runs scored on test, mean of the seeds."
    )
    return [*parts, _drawing(pictures[came], caption)] if came in pictures else parts
