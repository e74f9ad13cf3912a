"""From a plan to what is written down before the first run: each member with its own recipe, whole, so that
nothing that is edited later changes a family that has begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from doitune.ability import INSTRUCTIONS, NAMES, place_of
from doitune.errors import DataError, Problem, RecipeError, UsageError
from doitune.growth.family.designs import Named, Planned, members_of
from doitune.growth.family.plan import Plan, at_its_place
from doitune.growth.folder import Record
from doitune.growth.measured import Member
from doitune.memory.counted import places
from doitune.memory.hours import PUBLISHED_ROWS
from doitune.prepare.draw import draw
from doitune.recipe.budget import account
from doitune.recipe.resolve import Resolved, diff, freeze, resolve
from doitune.recipe.typed import read_recipe
from doitune.recipe.yaml_text import read_bytes, write_leaf
from doitune.system.doing import counted, doing

EVERYTHING = ("data.budget=null", "data.on_shortfall=take_all")
ASSUMED_MODEL = "7b"


def expand(plan: Plan, name: str, *, threads: int = 1, published: bool = False) -> Record:
    """The family of a plan, called `name`. `published`: where the published data set is not here, its rows
    are taken as they were counted, for an outlook alone.

    Errors: RecipeError for what the plan or its recipes say, DataError for rows that the corpus lacks.
    """
    section = plan.section
    own = _resolved(plan, section.recipe, None, EVERYTHING)
    models = section.models or (own.recipe.model.name,)
    doing("counting the corpus's rows")
    stock = _stock(plan, own, published)
    abilities = _abilities(plan, stock)
    named = {one: _named(plan, one, published) for one in section.designs.recipes}
    planned = members_of(section, models, abilities, named)
    members = tuple(one.member for one in planned)
    _refuse_short(plan, [one.member for one in planned if not one.recipe], stock)
    _refuse_same_names(members)
    recipes = {
        one.member.name: freeze(replace(_of_member(plan, one), name=name))
        for one in counted("working out the runs", planned)
    }
    bases = {
        model: freeze(_resolved(plan, section.recipe, _chosen(section.models, model), ())) for model in models
    }
    titles = {one: said.title for one, said in own.recipe.abilities.items() if said.title}
    return Record(name, abilities, titles, stock, section.suites, members, recipes, bases, threads)


def recipe_of(text: str, name: str) -> Resolved:
    """A recipe that `freeze` wrote down. Errors: RecipeError."""
    shown = f"the recipe of {name}"
    return Resolved(name, read_recipe(read_bytes(text.encode("utf-8"), shown), shown), {})


def changes(before: Record, now: Record) -> list[str]:
    """What a family that has begun would have to be another for; empty where the plan is the same or only
    adds members or suites."""
    found = [
        f"{name} has {now.stock.get(name, 0):,} rows to learn from, had {count:,}"
        for name, count in before.stock.items()
        if now.stock.get(name, 0) != count
    ]
    if before.abilities != now.abilities:
        found.append(f"abilities: {', '.join(now.abilities)} (were {', '.join(before.abilities)})")
    later = {one.name: one for one in now.members}
    for one in before.members:
        if one.name not in later:
            found.append(f"no member {one.name} any more")
        elif later[one.name] != one:
            found.append(f"{one.name} would learn from other rows or with other settings")
        else:
            a, b = (recipe_of(record.recipes[one.name], one.name).recipe for record in (before, now))
            found += [f"{one.name}: {each.field} is {each.b}, was {each.a}" for each in diff(a, b)]
    return found


def _chosen(models: Sequence[str], model: str) -> str | None:
    """What `--model` would say: nothing where the plan names no model."""
    return model if model in models else None


def _resolved(plan: Plan, recipe: str, model: str | None, more: Sequence[str]) -> Resolved:
    """A recipe with the plan's changes. RecipeError with the plan's line."""
    texts = (*plan.section.set, *more)
    try:
        return resolve(recipe, model=model, corpus=plan.section.corpus, overrides=texts)
    except RecipeError as error:
        raise at_its_place(plan, error, texts) from None
    except UsageError as error:
        raise RecipeError(error.problem, error.hint, place=plan.shown) from None


def _of_member(plan: Plan, planned: Planned) -> Resolved:
    """The recipe of a member."""
    member = planned.member
    seeds = (f"data.seed={member.seed}", f"train.seed={member.seed}")
    chosen = _chosen(plan.section.models, member.model)
    if planned.recipe:
        return _resolved(plan, planned.recipe, chosen, seeds)
    rows = dict(member.rows) | ({INSTRUCTIONS.name: member.synthetic} if member.synthetic else {})
    budget = ("data.budget=null", f"data.budget={write_leaf(rows)}", "data.select=nested")
    return _resolved(plan, plan.section.recipe, chosen, (*budget, *seeds, *member.settings))


def _stock(plan: Plan, own: Resolved, published: bool) -> dict[str, int]:
    """Rows that there are to learn from, by ability; synthetic instructions where a design asks for them."""
    designs = plan.section.designs
    wanted = (*designs.synthetic, *designs.mix.synthetic)
    if published and not all(places(one.place) for one in own.recipe.data.corpora):
        return {name: count for name, count in PUBLISHED_ROWS.items() if name in NAMES or wanted}
    found = _found(own)
    if wanted:
        synthetic = ("data.budget=null", f"data.budget={{{INSTRUCTIONS.name}: all}}")
        found |= _found(_resolved(plan, plan.section.recipe, None, synthetic))
    return found


def _found(resolved: Resolved) -> dict[str, int]:
    picked, _ = draw(resolved.recipe)
    return {name: line.found for name, line in picked.ledger.lines.items() if line.found}


def _abilities(plan: Plan, stock: Mapping[str, int]) -> tuple[str, ...]:
    """The abilities that get rows. RecipeError names those that the corpus lacks."""
    has = [name for name in sorted(stock, key=place_of) if name != INSTRUCTIONS.name]
    lacking = [name for name in plan.section.abilities if name not in has]
    if lacking:
        problem = f"the corpus has no rows of {', '.join(lacking)}"
        raise RecipeError(problem, f"it has {', '.join(has)}", place=plan.place_of(lacking[0]))
    return plan.section.abilities or tuple(has)


def _named(plan: Plan, recipe: str, published: bool) -> Named:
    """What a recipe that the plan names learns from."""
    found = _resolved(plan, recipe, None, ())
    section = found.recipe.data
    if published and not all(places(one.place) for one in section.corpora):
        budget = section.budget.to_budget().of_corpus(NAMES, own=False)
        ledger = account(budget, PUBLISHED_ROWS, "take_all")
    else:
        ledger = draw(found.recipe)[0].ledger
    rows = {name: line.kept for name, line in ledger.lines.items() if line.kept}
    return Named(
        {name: rows[name] for name in rows if name != INSTRUCTIONS.name}, rows.get(INSTRUCTIONS.name, 0)
    )


def _refuse_short(plan: Plan, members: Sequence[Member], stock: Mapping[str, int]) -> None:
    """DataError for a number that is above the rows that there are, with its line; unless the recipe takes
    what is there. What a named recipe lacks is its own budget's to say."""
    asked: dict[str, int] = {}
    for member in members:
        for name, rows in (*member.rows.items(), (INSTRUCTIONS.name, member.synthetic)):
            asked[name] = max(rows, asked.get(name, 0))
    problems = [
        Problem(
            plan.place_of(str(count)),
            f"asks for {count:,} rows of {name}, the corpus has {stock.get(name, 0):,}",
            "write a number that every ability has, or choose `abilities`; or take what there is: "
            "--set data.on_shortfall=take_all",
        )
        for name, count in asked.items()
        if count > stock.get(name, 0)
    ]
    if problems and _resolved(plan, plan.section.recipe, None, ()).recipe.data.on_shortfall == "stop":
        raise DataError.of(problems)


def _refuse_same_names(members: Sequence[Member]) -> None:
    seen: set[str] = set()
    for one in members:
        if one.name in seen:
            raise RecipeError(f"two runs would be called {one.name}", "write one of them otherwise")
        seen.add(one.name)
