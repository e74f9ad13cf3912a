"""Rows to be asked, read in the forms that a recipe declares for their ability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from doitune.ability import Form
from doitune.data.example import Example
from doitune.data.forms import exact_form
from doitune.data.jsonl import RowError
from doitune.errors import DataError, Problem

Declared = Mapping[str, tuple[Form, ...]]
"""The forms of each ability whose recipe declares any."""


def as_declared(rows: Mapping[str, Sequence[Example]], declared: Declared) -> dict[str, tuple[Example, ...]]:
    """The rows of each ability in a form that is declared for it; as they are where none is.

    A row keeps its form where that is declared. Else its answer is read as the first declared form that it
    has, and as a free answer where `open` is among them. Errors: DataError with every row that has none.
    """
    problems: list[Problem] = []
    found = {
        name: tuple(_asked_as(row, declared[name], problems) if declared.get(name) else row for row in some)
        for name, some in rows.items()
    }
    if problems:
        raise DataError.of(problems)
    return found


def _asked_as(row: Example, forms: tuple[Form, ...], problems: list[Problem]) -> Example:
    if row.form in forms:
        return row
    try:
        found = exact_form(forms, row.question[-1].content, row.answer)
    except RowError as error:
        says = f"the recipe declares {', '.join(forms)} for {row.ability}"
        cure = f"mend the row, or add its form to abilities.{row.ability}.forms (open: a free answer)"
        problems.append(Problem(row.place, f"{error.problem}; {says}", cure))
        return row
    return replace(row, form=found.form, label=found.label, options=found.options, choices=())
