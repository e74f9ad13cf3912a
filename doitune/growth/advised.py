"""A recipe from advice: the family's own, with the advised budget and why."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.errors import DoituneError
from doitune.growth.family.expand import recipe_of
from doitune.growth.family.plan import read_plan
from doitune.growth.folder import PLAN, read_record
from doitune.recipe.data_section import BudgetSection
from doitune.recipe.fields import Recipe
from doitune.recipe.files import is_there
from doitune.recipe.resolve import Resolved, diff, freeze, resolve
from doitune.recipe.tree import as_tree
from doitune.recipe.yaml_text import write_text, write_tree

if TYPE_CHECKING:
    from doitune.growth.fit.advice import Advice, Share
    from doitune.growth.fit.interval import Interval

COSTS = 2
"""Points that an ability is expected to lose are said from here on."""

WIDTH = 100
"""Columns of a comment."""


def recipe_text(folder: Path, advice: Advice) -> str:
    """The recipe that trains on an advice's shares, as the family in `folder` trains: what it changes in the
    plan's recipe, or the whole recipe where that one is no more what it was. Errors: CheckpointError."""
    record = read_record(folder)
    recipe = _with_budget(recipe_of(record.bases[advice.model], advice.model).recipe, advice)
    body = _short(folder, recipe) or freeze(Resolved(record.name, recipe, {}))
    head = [f"# {line}" for text in said(advice, record.name) for line in textwrap.wrap(text, WIDTH)]
    return "\n".join([*head, "", _annotated(body, advice.shares)])


def said(advice: Advice, growth: str) -> tuple[str, ...]:
    """What an advice that is not thin comes to, in sentences."""
    goal = advice.goal
    of = f" of {', '.join(goal.names)}" if goal.names else " of all abilities"
    wanted = f"the worst score{of}" if goal.worst else f"the mean score{of}"
    assert advice.gain is not None and advice.worse is not None
    gain = (
        f"{points(advice.gain)} points over equal shares of the same rows, worse than those with a chance of "
        f"{_chance(advice.worse)}"
    )
    ground = f"from what {advice.model} scored on {advice.split} in the growth {growth}"
    if advice.verdict == "equal":
        return (
            f"{advice.total:,} rows in equal shares: no reason to leave them.",
            f"The best other budget for {wanted} would bring {gain}, {ground}.",
        )
    expected = f"Expected: {gain}. Intervals are of 90 %, for the average of many runs; a single one varies."
    first = f"{advice.total:,} rows as they raise {wanted} the most, {ground}."
    return (first, expected, *_costs(advice.shares))


def _costs(shares: Sequence[Share]) -> tuple[str, ...]:
    """A sentence for the abilities that are expected to score less than with equal shares."""
    named = []
    for one in shares:
        if one.score is None or one.equal_score is None:
            continue
        lost = 100 * (one.equal_score.value - one.score.value)
        if lost >= COSTS:
            named.append(f"{one.name} {lost:.0f} points ({one.rows:,} rows for {one.equal_rows:,})")
    cure = "Other goals: --worst raises the lowest score, --for counts the abilities that it names."
    return (f"It costs {', '.join(named)}. {cure}",) if named else ()


def points(gain: Interval) -> str:
    """A gain with its interval."""
    return f"{gain.value:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})"


def _chance(worse: float) -> str:
    return "less than 1 %" if worse < 0.01 else f"{100 * worse:.0f} %"


def _with_budget(recipe: Recipe, advice: Advice) -> Recipe:
    budget = BudgetSection(abilities={one.name: one.rows for one in advice.shares if one.rows})
    data = recipe.data.model_copy(update={"budget": budget, "select": "nested"})
    how = "in equal shares" if advice.verdict == "equal" else "as advised"
    return recipe.model_copy(
        update={"data": data, "summary": f"{advice.total:,} rows, {how}", "alias_of": None}
    )


def _short(folder: Path, recipe: Recipe) -> str:
    """The recipe as what it changes in the plan's; empty where that cannot be proved to be the same."""
    try:
        name = read_plan(str(folder / PLAN)).section.recipe
        parent = str(Path(name).resolve()) if is_there(Path(name)) else name
        before = resolve(parent).recipe
        changed = {
            one.field: one.b for one in diff(before, recipe) if not one.field.startswith("data.budget")
        }
        changed |= {"data.budget.share_equally": None} if before.data.budget.share_equally else {}
        changed |= {f"data.budget.{ability}": rows for ability, rows in recipe.data.budget.abilities.items()}
        text = f"extends: {write_text(parent)}\n\n{write_tree(_nested(changed, as_tree(recipe)))}"
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "advised.yaml"
            file.write_text(text, encoding="utf-8")
            found = resolve(str(file)).recipe
    except DoituneError:
        return ""
    return text if as_tree(found) == as_tree(recipe) else ""


def _nested(changed: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    """Dotted fields as sections, in a recipe's order."""
    tree: dict[str, Any] = {}
    for name, value in changed.items():
        *sections, field = name.split(".", 2)
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[field] = value
    return {section: tree[section] for section in order if section in tree}


def _annotated(body: str, shares: Sequence[Share]) -> str:
    """The recipe with the reason above each ability of its budget; of those that get nothing, at its end."""
    head, budget, rest = body.partition("  budget:\n")
    without = []
    for one in shares:
        lines = "".join(f"    # {line}\n" for line in textwrap.wrap(_why(one), WIDTH))
        written = f"    {write_text(one.name)}: {one.rows}\n"
        if one.rows:
            rest = rest.replace(written, lines + written, 1)
        else:
            without += [f"# {line}" for line in textwrap.wrap(f"no rows of {one.name}: {_why(one)}", WIDTH)]
    return head + budget + rest + "".join(f"{line}\n" for line in ["", *without] if without)


def _why(one: Share) -> str:
    if one.score is None or one.equal_score is None:
        return one.reason
    low, value, high = (100 * end for end in (one.score.low, one.score.value, one.score.high))
    return (
        f"{one.equal_rows:,} in equal shares; expected {value:.0f} % ({low:.0f} to {high:.0f}), "
        f"{100 * one.equal_score.value:.0f} % with equal shares; {one.reason}"
    )
