"""`doitune recipes`: list, show, compare, copy, check and explain recipes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from doitune.cli import completion, options
from doitune.cli.group import group
from doitune.cli.options import CorpusName, Json, Model, RecipeName, Sets

recipes_app = group("List, show, compare, copy, check and explain recipes.")


@recipes_app.command("list")
def recipes_list(as_json: Json = False) -> None:
    """Recipes and models that can be named.

    Example: doitune recipes list
    """
    from dataclasses import asdict

    from doitune.base.named import model_section
    from doitune.console import screen
    from doitune.memory.expected import SETTING, expected_gib
    from doitune.recipe.files import list_models, list_recipes

    recipes = list_recipes()
    models: list[dict[str, Any]] = []
    for one in list_models():
        needed = round(expected_gib(model_section(one.name)), 1)
        models.append({"name": one.name, "summary": one.summary, "expected_memory_gib": needed})
    if as_json:
        found = {"recipes": [asdict(one) for one in recipes], "models": models}
        screen.show_json({"schema": "doitune.recipes/1", **found})
        return
    rows = [[one.name, one.summary + (f" (= {one.alias_of})" if one.alias_of else "")] for one in recipes]
    screen.show_table(["recipe", "what it does"], rows)
    rows = [[one["name"], f"{one['expected_memory_gib']:.1f}", one["summary"]] for one in models]
    screen.show_table(["model", "GiB on a card", "what it is"], rows, right=(1,))
    screen.say(f"GiB on a card: expected, {SETTING}")
    screen.say("`doitune plan` says it for a recipe, and judges by the most that it may be")


@recipes_app.command("show")
def recipes_show(
    recipe: RecipeName,
    model: Model = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Every field of a recipe, with where its value came from.

    Example: doitune recipes show reconstruct --model 13b
    """
    from doitune.console import screen
    from doitune.recipe.tree import as_tree, flatten

    resolved = options.resolved(recipe, model, corpus, sets)
    tree = as_tree(resolved.recipe)
    if as_json:
        screen.show_json({"schema": "doitune.recipe/1", "recipe": tree, "origins": resolved.origins})
        return
    rows = [[name, _shown(value), resolved.origins.get(name, "")] for name, value in flatten(tree).items()]
    screen.show_table(["field", "value", "from"], rows, title=resolved.name)


def _shown(value: object) -> str:
    """A value as a recipe would write it."""
    from doitune.recipe.yaml_text import write_leaf

    if isinstance(value, (list, tuple)):
        return write_leaf(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@recipes_app.command("diff")
def recipes_diff(a: RecipeName, b: RecipeName, model: Model = None, as_json: Json = False) -> None:
    """Fields that two recipes fill differently.

    Example: doitune recipes diff baseline reconstruct
    """
    from dataclasses import asdict

    from doitune.console import screen
    from doitune.recipe.resolve import diff

    differences = diff(options.resolved(a, model).recipe, options.resolved(b, model).recipe)
    if as_json:
        found = {"a": a, "b": b, "differences": [asdict(one) for one in differences]}
        screen.show_json({"schema": "doitune.recipe-diff/1", **found})
    else:
        screen.show_table(["field", a, b], [[one.field, _shown(one.a), _shown(one.b)] for one in differences])


@recipes_app.command("copy")
def recipes_copy(
    recipe: RecipeName, target: Annotated[str, typer.Argument(help="The file to write.")]
) -> None:
    """Copy a recipe to a file of your own, to change it.

    Example: doitune recipes copy reconstruct mine.yaml
    """
    from doitune.console import screen
    from doitune.recipe.files import copy

    screen.say(f"wrote {copy(recipe, target)}")


@recipes_app.command("check")
def recipes_check(
    files: Annotated[
        list[str], typer.Argument(help="Recipe files or names.", autocompletion=completion.recipes)
    ],
    as_json: Json = False,
) -> None:
    """All problems of recipes at once.

    Example: doitune recipes check mine.yaml
    """
    from doitune.console import screen
    from doitune.errors import RecipeError
    from doitune.recipe.resolve import check
    from doitune.system.units import several

    problems = check(files)
    if problems:
        raise RecipeError.of(problems)
    if as_json:
        screen.show_json({"schema": "doitune.recipe-check/1", "checked": files, "problems": []})
    else:
        screen.say(f"{several(len(files), 'recipe')} without a problem")
        screen.say("rows are not looked at, nor their lengths: `doitune train RECIPE --dry-run` does it")


@recipes_app.command("explain")
def recipes_explain(recipe: RecipeName, model: Model = None, as_json: Json = False) -> None:
    """What the paper says, its released code does, and this recipe does, and why.

    Example: doitune recipes explain reconstruct
    """
    from dataclasses import asdict

    from doitune.console import screen
    from doitune.recipe.explain import explain

    rows = explain(options.resolved(recipe, model))
    if as_json:
        found = [asdict(row) for row in rows]
        screen.show_json({"schema": "doitune.explain/1", "recipe": recipe, "rows": found})
        return
    columns = ["topic", "the paper says", "its code does", "this recipe does", "why"]
    cells = [[row.topic, row.paper, row.code, row.here, row.why] for row in rows]
    screen.show_table(columns, cells, title=recipe)
