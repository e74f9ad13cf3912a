"""`doitune grow`: a family of runs from one plan."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doitune.cli import completion, options
from doitune.cli.group import Group
from doitune.cli.options import WAIT_MINUTES, CorpusName, Json, Runs, Sets, WaitForDisk
from doitune.errors import UsageError
from doitune.run.default import RUNS

if TYPE_CHECKING:
    from doitune.growth.family.outlook import Outlook
    from doitune.growth.family.plan import Plan
    from doitune.growth.family.run import OnStanding

RUN = "run"
"""The command that `doitune grow PLAN` means."""


class GrowGroup(Group):
    """A group whose first word may be a plan."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A word that is no command is a plan, and what follows is of `run`."""
        known = not args or args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else [RUN, *args])


grow_app = typer.Typer(
    help="A family of runs over budgets, sizes and abilities: `doitune grow PLAN`.", cls=GrowGroup
)

Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", "-m", help="Instead of the plan's models. Repeatable.", autocompletion=completion.models
    ),
]
AtOnce = Annotated[
    int | None,
    typer.Option(
        "--at-once", min=1, help="Runs made at the same time. Default: one a card; without cards, one a core."
    ),
]
On = Annotated[str, typer.Option("--on", help="local: this machine's cards or cores.")]


@grow_app.command(RUN)
def grow(
    plan: Annotated[
        str,
        typer.Argument(
            metavar="PLAN",
            help="A plan's name (`doitune grow plans`) or file.",
            autocompletion=completion.plans,
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="The plan's short form.")] = False,
    models: Models = None,
    corpus: CorpusName = None,
    sets: Sets = None,
    name: Annotated[
        str, typer.Option("--name", help="What the family is called; else as the plan's file is.")
    ] = "",
    on: On = "local",
    at_once: AtOnce = None,
    runs: Runs = RUNS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what runs there are, the hours and the room they take.")
    ] = False,
    wait_for_disk: WaitForDisk = WAIT_MINUTES,
    as_json: Json = False,
) -> None:
    """Make the runs of a plan, ask each one's best checkpoint, and say what each ability scored by its rows.

    What is done is left alone and what stopped is taken up again: the same command goes on after any end.
    `doitune grow PLAN` is short for this.

    Example: doitune grow run demo --quick
    """
    from doitune.console import growth as console
    from doitune.console import progress, screen

    if on != "local":
        raise UsageError(f"--on {on!r} is no place for runs", "local")
    typed = _Typed(plan, quick, models or [], options.corpora(corpus), sets or [], name, at_once, runs)
    if dry_run:
        with progress.LiveLine():
            seen = _outlook(typed)
        screen.show_json(seen.to_json()) if as_json else console.show_outlook(seen)
        return
    with console.FamilyDisplay() as display:
        _work(typed, display, wait_for_disk)
    _show(typed.folder, as_json=as_json)


@grow_app.command("plans")
def plans(as_json: Json = False) -> None:
    """The plans that came with doitune.

    Example: doitune grow plans
    """
    from doitune.console import screen
    from doitune.growth.family.plan import plan_names, read_plan

    found = [(name, read_plan(name).section) for name in plan_names()]
    if as_json:
        listed = [{"name": name, "summary": section.summary} for name, section in found]
        screen.show_json({"schema": "doitune.plans/1", "plans": listed})
        return
    screen.show_table(["plan", "what it is"], [[name, section.summary] for name, section in found])


@dataclass(frozen=True)
class _Typed:
    """What the command line says of a family."""

    plan: str
    quick: bool
    models: list[str]
    corpora: list[str]
    sets: list[str]
    name: str
    at_once: int | None
    runs: Path

    def read(self) -> Plan:
        """The plan with what else is typed. Errors: RecipeError, UsageError."""
        from doitune.growth.family.plan import read_plan

        found = read_plan(self.plan, quick=self.quick)
        if len(self.corpora) > 1:
            raise UsageError("a plan takes one corpus", "name several in its recipe: data.corpus: [A, B]")
        changed = {
            **({"models": tuple(self.models)} if self.models else {}),
            **({"corpus": self.corpora[0]} if self.corpora else {}),
            "set": (*found.section.set, *self.sets),
        }
        return replace(found, section=found.section.model_copy(update=changed))

    @property
    def folder(self) -> Path:
        """The family's directory."""
        stem = Path(self.plan).stem if "/" in self.plan or self.plan.endswith(".yaml") else self.plan
        return self.runs / (self.name or (f"{stem}-quick" if self.quick else stem))

    @property
    def again(self) -> str:
        """The command that goes on."""
        words = ["doitune", "grow", self.plan, *(["--quick"] if self.quick else [])]
        for flag, values in (("--model", self.models), ("--corpus", self.corpora), ("--set", self.sets)):
            words += [part for value in values for part in (flag, value)]
        words += ["--name", self.name] if self.name else []
        words += ["--at-once", str(self.at_once)] if self.at_once else []
        return shlex.join([*words, *([] if self.runs == RUNS else ["--runs", str(self.runs)])])


def _outlook(typed: _Typed) -> Outlook:
    from doitune.growth.family.expand import expand
    from doitune.growth.family.local import describe, places
    from doitune.growth.family.outlook import look_ahead

    where = places(typed.at_once)
    record = expand(typed.read(), typed.folder.name, threads=where.threads, published=True)
    return look_ahead(typed.folder, record, describe(where), where.at_once)


def _work(typed: _Typed, on_standing: OnStanding, minutes: float) -> None:
    """Everything that is left. Errors: Stopped; those of the first run that failed."""
    from doitune.growth.family.expand import expand
    from doitune.growth.family.local import Local, places
    from doitune.growth.family.plan import text_of
    from doitune.growth.family.run import begin, failure, held, work
    from doitune.system.signals import last_words

    with held(typed.folder):
        plan, where = typed.read(), places(typed.at_once)
        record = expand(plan, typed.folder.name, threads=where.threads)
        record = begin(typed.folder, record, text_of(plan))
        engine = Local(typed.folder, replace(where, threads=record.threads), minutes)
        failed = work(typed.folder, record, engine, on_standing, typed.again)
        last_words()
    if failed:
        raise failure(failed, typed.again)


def _show(folder: Path, *, as_json: bool) -> None:
    from doitune.console import growth as console
    from doitune.console import screen
    from doitune.growth.folder import read_growth
    from doitune.growth.table import tables, to_json

    found = read_growth(folder)
    measured = tables(found)
    if as_json:
        screen.show_json(to_json(found, folder))
    else:
        console.show_growth(found, measured, folder)
