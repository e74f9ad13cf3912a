"""Arguments and options that several commands share, so that they are called and explained alike."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doitune.cli import completion
from doitune.errors import UsageError

if TYPE_CHECKING:
    from doitune.recipe.resolve import Resolved

OWN_RECIPE = "own"
"""The built-in recipe for rows of one's own."""

RecipeName = Annotated[
    str,
    typer.Argument(
        help="A recipe's name (`doitune recipes list`) or file, also a run's recipe.yaml.",
        autocompletion=completion.recipes,
    ),
]
RecipeOrOwn = Annotated[
    str | None,
    typer.Argument(
        help="A recipe's name (`doitune recipes list`) or file, also a run's recipe.yaml. Not needed with "
        f"--corpus FILE: then it is `{OWN_RECIPE}`.",
        autocompletion=completion.recipes,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A model of recipes/models, a hub name, or a model folder.",
        autocompletion=completion.models,
    ),
]
CorpusName = Annotated[
    list[str] | None,
    typer.Option(
        "--corpus",
        "-c",
        help="demo, doit, a path, - (stdin), or OWNER/NAME[:CONFIG][@SPLIT] on the hub. Repeatable.",
        autocompletion=completion.corpora,
    ),
]
Rows = Annotated[
    str,
    typer.Option("--rows", help="The form of rows of your own: doit (recognised), messages, alpaca, ..."),
]
RowsAbility = Annotated[str, typer.Option("--ability", help="The ability of every row of your own.")]
QuestionColumn = Annotated[
    str, typer.Option("--question-column", help="The field or column of the question.")
]
AnswerColumn = Annotated[str, typer.Option("--answer-column", help="The field or column of its answer.")]
AbilityColumn = Annotated[
    str, typer.Option("--ability-column", help="The field or column of the ability; else `ability`.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change one field, e.g. lora.rank=32. Repeatable."),
]
CardSize = Annotated[
    str | None,
    typer.Option(
        "--card",
        help="A card's memory (24gb, 48gb or GiB) or name (rtx4090). Default: the card here.",
        autocompletion=completion.cards,
    ),
]
CardLimit = Annotated[
    str | None,
    typer.Option(
        "--card",
        help="A card's memory (24gb, 48gb or GiB) or name (rtx4090) that it must fit; a larger card here is "
        "limited to it.",
        autocompletion=completion.cards,
    ),
]
Runs = Annotated[Path, typer.Option("--runs", help="The folder of the runs.")]
RunName = Annotated[
    str,
    typer.Argument(help="A run: its folder, a part of its name, or `last`.", autocompletion=completion.runs),
]


def finite(value: float | None) -> float | None:
    """An option's number. UsageError for nan and inf, which every comparison with a bound lets through."""
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{value} is not a number to count with", "write digits")
    return value


WaitForDisk = Annotated[
    float,
    typer.Option(
        "--wait-for-disk",
        metavar="MINUTES",
        min=0.0,
        callback=finite,
        help="How long a run on a full disk waits for room before it ends.",
    ),
]
WAIT_MINUTES = 30.0
BenchmarkData = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="SUITE=PATH", help="The folder of a benchmark's data. Repeatable."),
]
BaseName = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="OWNER/NAME[@COMMIT]",
        help="Where others find the base of an adapter, if the run took it from a folder. "
        "Without it an export names that folder without its path; a path given here is written as it is.",
    ),
]
Moved = Annotated[
    str,
    typer.Option("--model", help="The folder of a run's base, where that has moved; its files are compared."),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout; progress and notes go to stderr.")
]


def resolved(
    recipe: str | None,
    model: str | None,
    corpus: Sequence[str] | None = None,
    sets: Sequence[str] | None = None,
) -> Resolved:
    """The recipe that a command names, that for one's own rows where it names a corpus alone; that of a run
    keeps its name. Errors: those of `resolve`; UsageError where neither is named."""
    from doitune.recipe.resolve import resolve
    from doitune.run.layout import recipe_name

    if recipe is None and not corpus:
        raise UsageError(
            "neither a recipe nor a corpus is named",
            "name a recipe (`doitune recipes list`), or give your own rows: --corpus FILE",
        )
    _refuse_rows(recipe)
    found = resolve(
        recipe or OWN_RECIPE,
        model=model,
        corpus=corpora(corpus),
        overrides=sets or (),
        name=recipe_name(Path(recipe or OWN_RECIPE)),
    )
    if recipe is None and model is None and not any(text.startswith("model.name=") for text in sets or ()):
        _say_model(found)
    return found


def _refuse_rows(recipe: str | None) -> None:
    """UsageError for rows in the place of a recipe."""
    from doitune.data.own_rows import holds_own
    from doitune.data.row_files import is_row_file
    from doitune.recipe.files import is_there

    path = Path(recipe or "")
    if recipe and is_there(path) and ((path.is_file() and is_row_file(path)) or holds_own(path)):
        raise UsageError(
            f"{recipe} holds rows, and is no recipe",
            f"give it as your corpus: --corpus {shlex.quote(recipe)} --model M (no recipe is needed), or let "
            "`doitune init` write a recipe for it",
        )


def _say_model(found: Resolved) -> None:
    """A note: which model stands where nobody named one."""
    from doitune.console.screen import note

    note(
        f"no model is named, so it is {found.recipe.model.name}, the paper's: choose another with --model "
        "(`doitune recipes list` has some with what they need; `doitune init` proposes one for a card)"
    )


def moment(recipe: str | None) -> str:
    """What a base's chat template takes for now in the rows of a run's recipe.yaml: as in the run; "" for any
    other recipe."""
    from doitune.run.encoder import moment_of
    from doitune.run.folder import Run
    from doitune.run.layout import recipe_name

    path = Path(recipe or OWN_RECIPE)
    return "" if recipe_name(path) is None else moment_of(Run(path.parent))


def corpora(names: Sequence[str] | None) -> list[str]:
    """The corpora that a command line names; stdin (`-`) is kept in a file first, which is said. Errors:
    those of `keep_stdin`; UsageError where it is named twice."""
    from doitune.data.piped import STDIN, keep_stdin

    named = list(names or ())
    if named.count(STDIN) > 1:
        raise UsageError("stdin is named twice", "name `-` once")
    if STDIN in named:
        from doitune.console import progress, screen

        with progress.LiveLine():
            path = keep_stdin()
        screen.note(f"stdin is kept in {path}")
        named[named.index(STDIN)] = str(path)
    return named


def columns(question: str, answer: str) -> tuple[str, str]:
    """The columns of question and answer. UsageError where only one of them is named."""
    if bool(question) != bool(answer):
        lacking = "--answer-column" if question else "--question-column"
        raise UsageError(f"{lacking} is not named", "name both columns, or neither")
    return question, answer


def words(text: str | None) -> tuple[str, ...]:
    """The parts of a list with commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def folders(texts: Sequence[str]) -> dict[str, Path]:
    """`SUITE=PATH` as a folder by suite. UsageError."""
    found = {}
    for text in texts:
        suite, equals, path = text.partition("=")
        if not (suite and equals and path):
            raise UsageError(f"--data {text!r} is not SUITE=PATH", "for example --data cmmlu=CMMLU/data")
        found[suite] = Path(path)
    return found
