"""The figures of a growth, by the names that their files have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from doitune.growth.folder import folder_name
from doitune.report.drawing import Drawing
from doitune.report.growth.confirmed import Confirmed
from doitune.report.growth.figures import (
    Lane,
    lanes_drawing,
    matrix_drawing,
    scaled,
    trait_points,
    traits_drawing,
)
from doitune.report.growth.panels import (
    COLOURS,
    Entry,
    ability_panels,
    legend_of,
    other_panels,
    sheet,
    size_panels,
)
from doitune.report.growth.read import GrowthView
from doitune.report.html import percent


@dataclass(frozen=True)
class Panels:
    """Small multiples and their legend."""

    panels: tuple[Drawing, ...]
    legend: tuple[Entry, ...]


Draw = Callable[[int], Drawing]
"""A figure at a width in pixels."""


def small_multiples(view: GrowthView, names: Mapping[str, str]) -> dict[str, Panels]:
    """By file's name: the curves of each model, sets out of the domain, sizes."""
    found: dict[str, Panels] = {}
    for model in view.models:
        for kind, curves, panels in (
            ("curves", view.found.curves, ability_panels(view, model, names)),
            ("out-of-domain", view.found.out_of_domain, other_panels(view, model, names)),
        ):
            if panels:
                among = [one for one in curves if one.model == model]
                built = dict.fromkeys(one.construction for one in among)
                series = [("s1" if one == "synthetic" else "s0", f"{one} rows") for one in built]
                found[_called(view, kind, model)] = Panels(tuple(panels), tuple(legend_of(among, series)))
    if len(view.models) > 1:
        among = [one for one in view.found.curves if one.construction == "curated"]
        series = [(f"s{place % COLOURS}", model) for place, model in enumerate(view.models)]
        found["sizes"] = Panels(tuple(size_panels(view, names)), tuple(legend_of(among, series)))
    return {name: one for name, one in found.items() if one.panels}


def figures(view: GrowthView, names: Mapping[str, str]) -> dict[str, Draw]:
    """By file's name every other figure."""
    found: dict[str, Draw] = {}
    for model in view.models:
        if any(trait_points(view, model)):
            found[_called(view, "traits", model)] = partial(traits_drawing, view, model, names)
        if lanes := _foretold(view, model, names):
            what = "a pilot's predictions and what was measured"
            found[_called(view, "foretold", model)] = partial(lanes_drawing, lanes, " %", what)
    for one in view.found.partners:
        found[_called(view, "partners", one.model)] = partial(matrix_drawing, view, one, names)
    for tried in view.confirmed:
        budgets, came = _budgets(tried, names), _came(tried, names)
        what = "rows before and after the advice"
        found[of_advice(view, "budgets", tried)] = partial(lanes_drawing, budgets, "", what)
        if came:
            what = "scores foretold and confirmed"
            found[of_advice(view, "confirmed", tried)] = partial(lanes_drawing, came, " %", what)
    return found


def sheets(view: GrowthView, names: Mapping[str, str], width: int) -> dict[str, Drawing]:
    """Every figure whole, as files have them."""
    panels = {name: sheet(one.panels, one.legend, name) for name, one in small_multiples(view, names).items()}
    return {**panels, **{name: draw(width) for name, draw in figures(view, names).items()}}


def of_advice(view: GrowthView, kind: str, tried: Confirmed) -> str:
    """What a figure of an advice is called: by the family that tries it, where there are several."""
    return kind if len(view.confirmed) < 2 else f"{kind}-{tried.family}"


def _called(view: GrowthView, kind: str, model: str) -> str:
    return kind if len(view.models) < 2 else f"{kind}-{folder_name(model)}"


def _foretold(view: GrowthView, model: str, names: Mapping[str, str]) -> list[Lane]:
    lanes = []
    for one in view.found.claim.foretold:
        if one.model == model:
            came = f"measured at {one.rows:,.0f} rows of each: {percent(one.measured)} %"
            before = f"measured at {one.known_to:,.0f} rows of each: {percent(one.before)} %"
            marks = (
                (100 * one.before, "ring", "s4", before),
                (100 * one.measured, "diamond", "s1", came),
            )
            lanes.append(Lane(names[one.name], ((scaled(one.predicted, 100), "s0"),), marks))
    return lanes


def _budgets(found: Confirmed, names: Mapping[str, str]) -> list[Lane]:
    """Rows of each ability at equal shares, and as advised."""
    lanes = []
    for one in found.foreseen:
        text = f"{one.equal_rows:,} → {one.advised_rows:,}"
        bars = ((float(one.equal_rows), "bar-base", ""), (float(one.advised_rows), "bar-tuned", text))
        lanes.append(Lane(names[one.name], bars=bars))
    return lanes


def _came(found: Confirmed, names: Mapping[str, str]) -> list[Lane]:
    """Foretold intervals of both budgets, equal shares over the advised, and what their runs scored."""
    lanes = []
    for one in found.foreseen:
        spans = [(span, style) for span, style in ((one.equal, "s4"), (one.advised, "s0")) if span]
        marks = [
            (100 * came, kind, style, f"{what}: {percent(came)} % came")
            for came, kind, style, what in (
                (one.equal_came, "square", "s4", "equal shares"),
                (one.advised_came, "diamond", "s1", "advised"),
            )
            if came is not None
        ]
        if spans or marks:
            times = tuple((scaled(span, 100), style) for span, style in spans)
            lanes.append(Lane(names[one.name], times, tuple(marks)))
    return lanes
