"""Every number that a growth's page shows, as one document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from doitune.growth.fit.groups import RULES
from doitune.growth.fit.interval import LEVEL
from doitune.growth.measured import Measured
from doitune.report.growth import papers
from doitune.report.growth.confirmed import Confirmed
from doitune.report.growth.read import GrowthView

SCHEMA = "doitune.growth-report/1"

UNITS: Mapping[str, str] = {
    "score, low, high, chance, base, measured, before": "0..1",
    "rows, own, reach, known_to": "rows of each ability",
    "slope": "points (hundredths) per doubling, of rows or (sizes) of weights",
    "last, gained, difference, larger, error": "points",
    "complexity": "log2 of own rows",
    "transference, share": "0..1 of the gain",
}
"""What the numbers of `conclusions` are in; an interval's value, low and high are in its own unit."""


def document(view: GrowthView, about: Mapping[str, Any]) -> dict[str, Any]:
    """The document; `about` says where the page and the figures were written."""
    growth = view.growth
    return {
        "schema": SCHEMA,
        **about,
        "growth": growth.name,
        "split": view.found.split,
        "interval_level": LEVEL,
        "units": dict(UNITS),
        "abilities": [
            {"name": name, "title": view.title(name), "stock": growth.stock.get(name, 0)}
            for name in growth.abilities
        ],
        "out_of_domain": [{"name": name, "title": view.title(name)} for name in growth.out_of_domain],
        "parameters": dict(view.parameters),
        "runs": [_run(one) for one in growth.members],
        "unfinished": [asdict(one) for one in growth.unfinished],
        "base": {model: _scores(splits) for model, splits in growth.base.items()},
        "rules": dict(RULES),
        "conclusions": asdict(view.found),
        "pilot": {
            "error_points": view.found.claim.error,
            "error_of_no_growth_points": view.found.claim.error_of_no_growth,
            "covered": view.found.claim.covered,
        },
        "confirmed": [_confirmed(one) for one in view.confirmed],
        "paper": _paper(),
    }


def _run(one: Measured) -> dict[str, Any]:
    return {
        **asdict(one.member),
        "rows": dict(one.rows),
        "best_step": one.step,
        "scores": _scores(one.scores),
    }


def _scores(splits: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    return {split: {name: asdict(one) for name, one in sets.items()} for split, sets in splits.items()}


def _confirmed(one: Confirmed) -> dict[str, Any]:
    found = one.found
    return {
        "family": one.family,
        "model": one.model,
        "total_rows": one.total,
        "done": one.done,
        "planned": one.planned,
        "abilities": [asdict(each) for each in one.foreseen],
        "foretold_gain_points": None if one.gain is None else asdict(one.gain),
        "lacking": one.lacking,
        "seeds": [] if found is None else list(found.seeds),
        "each_seed": [] if found is None else [asdict(pair) for pair in found.each],
        "pairs": [] if found is None else found.together.rows(),
    }


def _paper() -> dict[str, Any]:
    """The paper's numbers, marked as not measured here."""

    def rows(table: tuple[papers.Row, ...]) -> list[dict[str, Any]]:
        return [
            {"learnt_from": what, **{name: list(cell) for name, cell in zip(papers.COLUMNS, cells)}}
            for what, cells in table
        ]

    return {
        "measured_here": False,
        "model": papers.MODEL,
        "accuracy": "percent after epochs 5, 10, 15",
        "table_2": rows(papers.BUDGETS),
        "table_3": rows(papers.MIXED),
        "groups": dict(papers.GROUPS),
        "note": papers.UNKNOWN,
    }
