"""What a family measured, as one table: the score of each ability by the rows that all abilities had."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from doitune.growth.measured import Construction, Growth, Measured, Score, Split

SCHEMA = "doitune.grow/1"

Z = 1.959964
"""Of a 95 % interval."""


@dataclass(frozen=True)
class Cell:
    """A score with its 95 % interval over questions, in 0..1; `runs`: how many were put together."""

    score: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Line:
    """One set: what guessing scores, the untrained model, and a cell for each budget (None: not measured)."""

    set: str
    title: str
    chance: float
    base: Cell | None
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Table:
    """The curves of one model and construction in numbers. `budgets`: rows of each ability; of synthetic
    instructions alone, all rows."""

    model: str
    construction: Construction
    split: Split
    budgets: tuple[str, ...]
    lines: tuple[Line, ...]


def tables(growth: Growth, split: Split = "test") -> tuple[Table, ...]:
    """A table for each model and construction that has members with equal rows."""
    found = []
    for model in dict.fromkeys(one.member.model for one in growth.members):
        for construction in dict.fromkeys(one.member.construction for one in growth.members):
            members = [
                one
                for one in growth.members
                if (one.member.model, one.member.construction, one.member.design)
                == (model, construction, "equal")
            ]
            if members:
                found.append(_table(growth, model, construction, split, members))
    return tuple(found)


def to_json(growth: Growth, folder: Path) -> dict[str, Any]:
    """The document of `doitune grow --json`: the tables on both splits, and every member."""
    splits: tuple[Split, ...] = ("valid", "test")
    return {
        "schema": SCHEMA,
        "growth": growth.name,
        "path": str(folder),
        "abilities": list(growth.abilities),
        "out_of_domain": list(growth.out_of_domain),
        "stock": dict(growth.stock),
        "unfinished": [one.name for one in growth.unfinished],
        "members": [
            {**asdict(one.member), "learnt": dict(one.rows), "step": one.step, "scores": _scores(one)}
            for one in growth.members
        ],
        "tables": [asdict(table) for split in splits for table in tables(growth, split)],
    }


def _scores(one: Measured) -> dict[str, dict[str, float]]:
    """Shares in 0..1 by split and set."""
    return {
        split: {name: score.right / score.items for name, score in sets.items()}
        for split, sets in one.scores.items()
    }


def cell(scores: Iterable[Score | None]) -> Cell | None:
    """Scores of the same questions by several runs, put together; None where there is none. Source of the
    interval: Agresti and Coull 1998; that runs differ is for a fit to say."""
    there = [one for one in scores if one is not None and one.items]
    items, right = sum(one.items for one in there), math.fsum(one.right for one in there)
    if not items:
        return None
    centre = (right + Z * Z / 2) / (items + Z * Z)
    half = Z * math.sqrt(centre * (1 - centre) / (items + Z * Z))
    return Cell(right / items, max(0.0, centre - half), min(1.0, centre + half), len(there))


def _table(
    growth: Growth, model: str, construction: Construction, split: Split, members: Sequence[Measured]
) -> Table:
    budgets = sorted({_budget(one) for one in members})
    base = growth.base.get(model, {}).get(split, {})
    lines = []
    for name in (*growth.abilities, *growth.out_of_domain):
        scores = [(_budget(one), one.scores.get(split, {}).get(name)) for one in members]
        first = next((score for _, score in scores if score is not None), base.get(name))
        if first is not None:
            cells = tuple(cell(score for at, score in scores if at == budget) for budget in budgets)
            title = growth.titles.get(name, name)
            lines.append(Line(name, title, first.chance, cell([base.get(name)]), cells))
    return Table(model, construction, split, tuple(_said(*one) for one in budgets), tuple(lines))


def _budget(one: Measured) -> tuple[int, int]:
    """Rows of each ability as planned, and synthetic instructions beside them."""
    return max(one.member.rows.values(), default=0), one.member.synthetic


def _said(rows: int, synthetic: int) -> str:
    return f"{rows:,} + {synthetic:,}" if rows and synthetic else f"{rows or synthetic:,}"
