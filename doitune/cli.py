"""The desk: each command parses, calls one room, and hands the result to the console."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from doitune.errors import DoituneError, UsageError

app = typer.Typer(
    name="doitune",
    help="Fine-tune a language model on one card, ability by ability, and measure what each ability gained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipes_app = typer.Typer(help="List, show, compare, copy and check recipes.", no_args_is_help=True)
runs_app = typer.Typer(help="What was trained.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")
app.add_typer(runs_app, name="runs")

RecipeName = Annotated[str, typer.Argument(help="A recipe's name (`doitune recipes list`) or file, also a run's recipe.yaml.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help="A model of recipes/models, a hub name, or a model folder.")]
CorpusName = Annotated[str | None, typer.Option("--corpus", "-c", help="demo, doit, or the path of a corpus.")]
Sets = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change one field, e.g. lora.rank=32. Repeatable.")]
Runs = Annotated[Path, typer.Option("--runs", help="The folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; progress and notes go to stderr.")]


@app.command()
def train(
    recipe: RecipeName,
    model: Model = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    runs: Runs = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Resolve, check and encode, then say what a training would do.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe.

    Example: doitune train demo --set train.epochs=2
    """
    from doitune import console
    from doitune.cookbook import resolve
    from doitune.evals.doit import validation_score
    from doitune.session import describe, plan_training, start

    resolved = resolve(recipe, model=model, corpus=corpus, overrides=sets or [])
    if dry_run:
        plan = plan_training(resolved)
        console.show_json(describe(plan)) if as_json else console.show_plan(plan)
        return
    with console.TrainingDisplay() as display:
        run = start(resolved, runs=runs, scorer=validation_score, on_event=display)
    console.show_run(run, as_json=as_json)


@app.command()
def resume(
    run: Annotated[str, typer.Argument(help="A run: its folder, a part of its name, or `last`.")],
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Go on exactly where a run stopped.

    Example: doitune resume last
    """
    from doitune import console
    from doitune.evals.doit import validation_score
    from doitune.run import find_run
    from doitune.session import resume as go_on

    with console.TrainingDisplay() as display:
        found = go_on(find_run(run, runs), scorer=validation_score, on_event=display)
    console.show_run(found, as_json=as_json)


@app.command(name="eval")
def evaluate(
    targets: Annotated[list[str], typer.Argument(help="Runs (`last`, a name, a folder), checkpoint folders, or bases (demo, a hub name, a folder).")],
    suite: Annotated[str | None, typer.Option("--suite", help="doit-valid, doit-test; several with commas. Default: the recipe's.")] = None,
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, last, all or step numbers; several with commas.")] = "best",
    limit: Annotated[float | None, typer.Option("--limit", help="At most this many questions of each set, or a share below 1.")] = None,
    corpus: CorpusName = None,
    base: Annotated[bool, typer.Option("--base/--no-base", help="Ask the untrained base beside its adapter.")] = True,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Ask and score: the ten abilities, base beside adapter. An interrupted evaluation goes on where it was.

    Example: doitune eval last --checkpoint best,last
    """
    from doitune import console
    from doitune.evals.targets import Request, evaluate_target

    request = Request(_words(suite), _words(checkpoint), limit, corpus, base)
    with console.EvaluationDisplay() as display:
        found = [one for target in targets for one in evaluate_target(target, request, runs=runs, on_progress=display)]
    if as_json:
        entries = [entry for one in found for entry in one.report.evaluations(one.target, one.checkpoint, ("fixed",))]
        console.show_json({"schema": "doitune.eval/1", "evaluations": entries})
    else:
        console.show_evaluations(found)


def _words(text: str | None) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


@recipes_app.command("list")
def recipes_list(as_json: Json = False) -> None:
    """Recipes and models that can be named.

    Example: doitune recipes list
    """
    from dataclasses import asdict

    from doitune import console
    from doitune.cookbook import list_models, list_recipes

    recipes, models = list_recipes(), list_models()
    if as_json:
        entries = [{"name": one.name, "summary": one.summary} for one in models]
        console.show_json({"schema": "doitune.recipes/1", "recipes": [asdict(one) for one in recipes], "models": entries})
        return
    rows = [[one.name, one.summary + (f" (= {one.alias_of})" if one.alias_of else "")] for one in recipes]
    console.show_table(["recipe", "what it does"], rows)
    console.show_table(["model", "what it is"], [[one.name, one.summary] for one in models])


@recipes_app.command("show")
def recipes_show(recipe: RecipeName, model: Model = None, corpus: CorpusName = None, sets: Sets = None, as_json: Json = False) -> None:
    """Every field of a recipe, with where its value came from.

    Example: doitune recipes show reconstruct --model 13b
    """
    from doitune import console
    from doitune.cookbook import resolve
    from doitune.recipe_read import as_tree, flatten

    resolved = resolve(recipe, model=model, corpus=corpus, overrides=sets or [])
    tree = as_tree(resolved.recipe)
    if as_json:
        console.show_json({"schema": "doitune.recipe/1", "recipe": tree, "origins": resolved.origins})
        return
    rows = [[name, _shown(value), resolved.origins.get(name, "")] for name, value in flatten(tree).items()]
    console.show_table(["field", "value", "from"], rows, title=resolved.name)


def _shown(value: object) -> str:
    """A value as a recipe would write it."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(str, value)) + "]"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@recipes_app.command("diff")
def recipes_diff(a: RecipeName, b: RecipeName, model: Model = None, as_json: Json = False) -> None:
    """Fields that two recipes fill differently.

    Example: doitune recipes diff baseline reconstruct
    """
    from dataclasses import asdict

    from doitune import console
    from doitune.cookbook import diff, resolve

    differences = diff(resolve(a, model=model).recipe, resolve(b, model=model).recipe)
    if as_json:
        console.show_json({"schema": "doitune.recipe-diff/1", "a": a, "b": b, "differences": [asdict(one) for one in differences]})
    else:
        console.show_table(["field", a, b], [[one.field, _shown(one.a), _shown(one.b)] for one in differences])


@recipes_app.command("copy")
def recipes_copy(recipe: RecipeName, target: Annotated[str, typer.Argument(help="The file to write.")]) -> None:
    """Copy a recipe to a file of your own, to change it.

    Example: doitune recipes copy reconstruct mine.yaml
    """
    from doitune import console
    from doitune.cookbook import copy

    console.say(f"wrote {copy(recipe, target)}")


@recipes_app.command("check")
def recipes_check(files: Annotated[list[str], typer.Argument(help="Recipe files or names.")], as_json: Json = False) -> None:
    """All problems of recipes at once.

    Example: doitune recipes check mine.yaml
    """
    from doitune import console
    from doitune.cookbook import check
    from doitune.errors import RecipeError

    problems = check(files)
    if problems:
        raise RecipeError.of(problems)
    if as_json:
        console.show_json({"schema": "doitune.recipe-check/1", "checked": files, "problems": []})
    else:
        console.say(f"{len(files)} recipe(s) without a problem")


@recipes_app.command("explain")
def recipes_explain(recipe: RecipeName, model: Model = None, as_json: Json = False) -> None:
    """What the paper says, its released code does, and this recipe does, and why.

    Example: doitune recipes explain reconstruct
    """
    from dataclasses import asdict

    from doitune import console
    from doitune.cookbook import resolve
    from doitune.explain import explain

    rows = explain(resolve(recipe, model=model))
    if as_json:
        console.show_json({"schema": "doitune.explain/1", "recipe": recipe, "rows": [asdict(row) for row in rows]})
        return
    columns = ["topic", "the paper says", "its code does", "this recipe does", "why"]
    console.show_table(columns, [[row.topic, row.paper, row.code, row.here, row.why] for row in rows], title=recipe)


@runs_app.command("list")
def runs_list(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Runs, with their state and scores.

    Example: doitune runs list
    """
    from doitune import console
    from doitune.run import list_runs, summarise

    entries = [summarise(run) for run in list_runs(runs)]
    if as_json:
        console.show_json({"schema": "doitune.runs/1", "runs": entries})
        return
    rows = [[one["name"], one["state"], str(one["step"]), str(one["best"] or ""), console.scores_text(one["scores"])] for one in entries]
    console.show_table(["run", "state", "step", "best", "scores"], rows, right=(2, 3))


def main() -> None:
    """Run the desk; errors of a user's are printed with their cure and their exit code."""
    as_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except DoituneError as error:
        _leave(error, as_json)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        message = str(error.format_message()) or "no such command"
        _leave(UsageError(message, "`doitune --help`, or --help behind a command"), as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(error: DoituneError, as_json: bool) -> None:
    from doitune import console

    console.show_error(error, as_json=as_json)
    sys.exit(error.exit_code)
