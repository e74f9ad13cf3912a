"""`doitune train`, `resume` and `runs`."""

from __future__ import annotations

from typing import Annotated

import typer

from doitune.cli import options
from doitune.cli.group import group
from doitune.cli.options import (
    WAIT_MINUTES,
    CardLimit,
    CorpusName,
    Json,
    Model,
    RecipeOrOwn,
    RunName,
    Runs,
    Sets,
    WaitForDisk,
)
from doitune.run.default import RUNS

runs_app = group("What was trained.")


def train(
    recipe: RecipeOrOwn = None,
    model: Model = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    runs: Runs = RUNS,
    card: CardLimit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Resolve, check and encode, then say what a training would do.")
    ] = False,
    wait_for_disk: WaitForDisk = WAIT_MINUTES,
    as_json: Json = False,
) -> None:
    """Train a recipe.

    Example: doitune train demo --set train.epochs=2
    """
    from doitune.console import progress, screen, training
    from doitune.data.suites import BENCHMARKS
    from doitune.evals.suites.doit import validation_score
    from doitune.evals.suites.files import judged_rows
    from doitune.memory.cards import read_card
    from doitune.system.signals import last_words
    from doitune.train.plan import describe, plan_training
    from doitune.train.session import follow, start
    from doitune.train.team import follows

    size = None if card is None else read_card(card)
    resolved = options.resolved(recipe, model, corpus, sets)
    suites = [name for name in resolved.recipe.eval.suite if name in BENCHMARKS]
    if follows():
        return None if dry_run else follow(resolved, judged_rows(suites, only_present=True), size)
    if dry_run:
        with progress.LiveLine():
            plan = plan_training(resolved, judged_rows(suites, only_present=True))
        return screen.show_json(describe(plan)) if as_json else training.show_plan(plan)
    with progress.TrainingDisplay() as display:
        judged = judged_rows(suites, only_present=True)
        run = start(
            resolved,
            runs=runs,
            scorer=validation_score,
            on_event=display,
            judged=judged,
            wait_minutes=wait_for_disk,
            card=size,
        )
        last_words()
    return training.show_run(run, runs, as_json=as_json)


def resume(
    run: RunName,
    runs: Runs = RUNS,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="KEY=VALUE", help="Change what a resume may change, e.g. train.patience=3."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="KEY",
            help="Accept that this field (of an edited recipe.yaml), or `device`, changed.",
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train from the beginning if no checkpoint can be used.")
    ] = False,
    wait_for_disk: WaitForDisk = WAIT_MINUTES,
    as_json: Json = False,
) -> None:
    """Go on exactly where a run stopped.

    Example: doitune resume last
    """
    from doitune.console import progress, training
    from doitune.evals.suites.doit import validation_score
    from doitune.run.changes import Wishes
    from doitune.run.find import find_run
    from doitune.system.signals import last_words
    from doitune.train.session import follow_run
    from doitune.train.session import resume as go_on
    from doitune.train.team import follows

    wishes = Wishes(tuple(allow or ()), tuple(sets or ()), from_scratch, wait_for_disk)
    if follows():
        return follow_run(find_run(run, runs), wishes)
    with progress.TrainingDisplay() as display:
        found = go_on(find_run(run, runs), scorer=validation_score, on_event=display, wishes=wishes)
        last_words()
    return training.show_run(found, runs, as_json=as_json)


@runs_app.command("list")
def runs_list(runs: Runs = RUNS, as_json: Json = False) -> None:
    """Runs, with their state and scores.

    Example: doitune runs list
    """
    from doitune.console import screen, training
    from doitune.run.find import list_runs
    from doitune.run.summary import summarise

    entries = [summarise(run) for run in list_runs(runs)]
    if as_json:
        screen.show_json({"schema": "doitune.runs/1", "runs": entries})
    else:
        training.show_runs(entries)
