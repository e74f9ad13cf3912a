"""`doitune advise` and `doitune grow show`: what a family of runs says, and the budget that it suggests."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from doitune.cli import completion
from doitune.cli.options import Json, Runs
from doitune.errors import DataError, DoituneError, Problem, UsageError
from doitune.run.default import RUNS
from doitune.system.units import several

if TYPE_CHECKING:
    from doitune.growth.fit.advice import Advice
    from doitune.growth.measured import Growth

GrowthName = Annotated[
    str,
    typer.Argument(
        metavar="GROWTH",
        help="A family of runs: its folder, or its name under --runs.",
        autocompletion=completion.growths,
    ),
]
Of = Annotated[Literal["valid", "test"], typer.Option("--split", help="Whose scores it rests on.")]
OUT = Path("advised.yaml")


def advise(
    growth: GrowthName,
    total: Annotated[
        int, typer.Option("--total", metavar="ROWS", help="Rows to learn from, of all abilities together.")
    ],
    abilities: Annotated[
        str, typer.Option("--for", help="Only these count, with commas. Default: the mean of all.")
    ] = "",
    worst: Annotated[
        bool, typer.Option("--worst", help="Raise the worst one's score instead of the mean.")
    ] = False,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Whose curves, where several models were measured.")
    ] = "",
    split: Of = "valid",
    out: Annotated[Path, typer.Option("--out", help="The recipe's file to write.")] = OUT,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write a recipe with the rows of each ability that its measured growth suggests.

    Where other budgets would gain less than half a point, or be worse with a chance above 5 %, it says that
    there is no reason to leave equal shares and writes those. Where curves are too thin to advise, it says
    why, writes nothing and ends with 65.

    Example: doitune advise demo --total 1280
    """
    from doitune.console import conclusions, progress, screen
    from doitune.growth.advised import recipe_text, said
    from doitune.growth.fit.advice import Goal
    from doitune.growth.fit.advice import advise as advise_on
    from doitune.growth.folder import find_growth, read_growth
    from doitune.system.doing import doing
    from doitune.system.paths import as_argument
    from doitune.system.publish import refuse_result, write_result

    folder = find_growth(growth, runs)
    refuse_result(out)
    if out.is_file() and not force:
        raise UsageError(f"{out} is there already", "name another file with --out, or write over it: --force")
    goal = Goal(tuple(name.strip() for name in abilities.split(",") if name.strip()), worst)
    with progress.LiveLine():
        doing("reading what the runs scored")
        measured = read_growth(folder)
        doing("fitting curves")
        advice = advise_on(measured, total, goal, model, split)
    if advice.verdict == "thin":
        raise _too_thin(advice, measured)
    _note_unfinished(measured)
    write_result(out, recipe_text(folder, advice))
    if as_json:
        named = {"schema": "doitune.advice/1", "growth": measured.name, "recipe": str(out)}
        screen.show_json({**named, **asdict(advice)})
        return
    flag = f" --model {shlex.quote(model)}" if model else ""
    place, written = (shlex.quote(as_argument(path)) for path in (folder, out))
    conclusions.show_advice(advice, said(advice, measured.name), written, place, flag)


def _note_unfinished(growth: Growth) -> None:
    from doitune.console import screen

    if growth.unfinished:
        screen.note(f"{several(len(growth.unfinished), 'run')} of {growth.name} not measured yet")


def _too_thin(advice: Advice, growth: Growth) -> DoituneError:
    left = f"; {len(growth.unfinished)} of its runs are not measured yet" if growth.unfinished else ""
    hint = f"ask for fewer rows, or measure more and larger budgets (`doitune grow pilot`){left}"
    alike: dict[str, list[str]] = {}
    for reason in advice.reasons:
        name, colon, why = reason.partition(": ")
        alike.setdefault(why or name, []).extend([name] if colon else [])
    problems = [f"{', '.join(names)}: {why}" if names else why for why, names in alike.items()]
    return DataError.of(Problem("too thin to advise", problem, hint) for problem in problems)


def show(
    growth: GrowthName,
    split: Annotated[
        Literal["valid", "test"] | None,
        typer.Option("--split", help="Whose scores. Default: test, where it was asked."),
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """How fast each ability grew, its group and its traits, with 90 % intervals.

    Example: doitune grow show demo
    """
    from doitune.console import conclusions, progress, screen
    from doitune.console.growth import show_next
    from doitune.growth.fit.conclude import conclude
    from doitune.growth.folder import find_growth, read_record
    from doitune.report.growth.read import view

    folder = find_growth(growth, runs)
    with progress.LiveLine():
        seen = view(folder)
        if not seen.growth.members:
            problem = f"no run of {seen.growth.name} is measured yet"
            raise DataError(problem, "`doitune grow PLAN` goes on with it")
        asked = split or seen.found.split
        found = seen.found
        if asked != found.split:
            found = conclude(seen.growth, asked, seen.parameters)
    _note_unfinished(seen.growth)
    if as_json:
        screen.show_json({"schema": "doitune.conclusions/1", **asdict(found)})
    else:
        conclusions.show_conclusions(found)
        show_next(folder, read_record(folder).confirms)
