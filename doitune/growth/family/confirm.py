"""Advice against equal shares: a family of its own, both budgets at the same total, once with each seed, the
rest as the measured family has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from doitune.ability import INSTRUCTIONS
from doitune.errors import CheckpointError, RecipeError, UsageError
from doitune.growth.contrast import Contrast, contrast
from doitune.growth.family.expand import recipe_of
from doitune.growth.folder import GROWTH, Record, folder_name, read_record
from doitune.growth.measured import Design, Member
from doitune.recipe.budget import account, share_out
from doitune.recipe.data_section import BudgetSection
from doitune.recipe.fields import Recipe
from doitune.recipe.resolve import Resolved, freeze, resolve

ADVISED, EQUAL = "advised", "equal-shares"


def confirming(growth: Path, advice: str, *, name: str, seeds: int, model: str = "") -> Record:
    """The family that tries an advice: a recipe by its path, of which the budget counts. Seeds are those
    after the measured family's, so that rows and adapters are others than those that the advice rests on.

    Errors: RecipeError for an advice that is no budget of this family, UsageError for a model that it has
    not.
    """
    measured = read_record(growth)
    models = list(measured.bases)
    chosen = model or models[0]
    if chosen not in models:
        raise UsageError(f"{measured.name} has no runs of {chosen}", f"it has {', '.join(models)}")
    advised = _advised(resolve(advice).recipe, measured, advice)
    total = sum(advised.values())
    equal, unmet = share_out(total, {one: measured.stock[one] for one in measured.abilities})
    if unmet:
        raise RecipeError(
            f"asks for {total:,} rows, {unmet:,} more than there are", "ask for less", place=advice
        )
    last = max(one.seed for one in measured.members)
    members = tuple(
        Member(f"{folder_name(chosen)}-{kind}-{total}-s{seed}", design, chosen, "curated", seed, rows)
        for seed in range(last + 1, last + 1 + seeds)
        for kind, design, rows in ((EQUAL, _equal_design(equal), equal), (ADVISED, "advised", advised))
    )
    base = recipe_of(measured.bases[chosen], chosen).recipe
    return Record(
        name=name,
        abilities=measured.abilities,
        titles=measured.titles,
        stock=measured.stock,
        suites=measured.suites,
        members=members,
        recipes={one.name: freeze(Resolved(name, _of(base, one), {})) for one in members},
        bases={chosen: measured.bases[chosen]},
        threads=measured.threads,
        confirms=measured.name,
    )


def confirmations(growth: Path, runs: Path) -> tuple[Path, ...]:
    """The families, whatever they are called, that say they try an advice of this one and hold its models
    and rows: those beside it and those in `runs`. Errors: CheckpointError where its own growth.json is
    damaged; another's is passed over."""
    measured = read_record(growth)
    found = []
    for place in dict.fromkeys((growth.resolve().parent, runs.resolve())):
        for path in sorted(place.glob(f"*/{GROWTH}")):
            try:
                record = read_record(path.parent)
            except CheckpointError:
                continue
            same = record.stock == measured.stock and record.bases.items() <= measured.bases.items()
            if record.confirms == measured.name and same:
                found.append(path.parent)
    return tuple(found)


def verdict(folder: Path) -> Contrast:
    """The advised members of a confirming family against those of equal shares, on test. Errors: those of
    `contrast`."""
    record = read_record(folder)
    equal = [one for one in record.members if one.design != "advised"]
    return contrast(folder, equal, [one for one in record.members if one.design == "advised"])


def _equal_design(rows: Mapping[str, int]) -> Design:
    return "equal" if len(set(rows.values())) == 1 else "recipe"


def _advised(recipe: Recipe, measured: Record, shown: str) -> dict[str, int]:
    """Rows by ability that a recipe's budget gives in this family's corpus."""
    budget = recipe.data.budget.to_budget()
    has = {one: measured.stock[one] for one in measured.abilities}
    ledger = account(budget.of_corpus(has, own=True), has)
    rows = {name: line.kept for name, line in ledger.lines.items() if line.kept}
    foreign = [name for name in rows if name not in has]
    if foreign or not rows or INSTRUCTIONS.name in budget.amounts:
        problem = f"is no budget over the abilities of {measured.name} ({', '.join(measured.abilities)})"
        raise RecipeError(problem, "`doitune advise` writes one", place=shown)
    return rows


def _of(base: Recipe, member: Member) -> Recipe:
    """The family's recipe with a member's rows and seed."""
    budget = BudgetSection(abilities={name: rows for name, rows in member.rows.items() if rows})
    data = base.data.model_copy(update={"budget": budget, "seed": member.seed, "select": "nested"})
    train = base.train.model_copy(update={"seed": member.seed})
    return base.model_copy(update={"data": data, "train": train})
