"""`doitune grow`: a family of runs from one plan."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doitune.cli import completion, options
from doitune.cli.advise import show
from doitune.cli.group import Group, group
from doitune.cli.options import WAIT_MINUTES, CorpusName, Json, Runs, Sets, WaitForDisk
from doitune.errors import UsageError
from doitune.run.default import RUNS

if TYPE_CHECKING:
    from doitune.growth.family.outlook import Outlook
    from doitune.growth.family.plan import Plan
    from doitune.growth.family.run import Engine, OnStanding
    from doitune.growth.family.worker import Answer
    from doitune.growth.folder import Record

PLACES = "local", "ray"
RUN = "run"
"""The command that `doitune grow PLAN` means."""


class GrowGroup(Group):
    """A group whose first word may be a plan."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A word that is no command is a plan, and what follows is of `run`."""
        known = not args or args[0] in self.commands or args[0].startswith("-") or self._is_near(args[0])
        return super().resolve_command(ctx, args if known else [RUN, *args])

    def _is_near(self, word: str) -> bool:
        """Whether it is a command with a letter wrong: no plan is asked for then."""
        near = difflib.get_close_matches(word, self.commands, 1, 0.8)
        return bool(near) and "." not in word and not Path(word).exists()


ABOUT = """A family of runs over budgets, sizes and abilities: `doitune grow PLAN`.

Then `doitune grow show GROWTH`, `doitune advise GROWTH --total ROWS`, `doitune grow confirm GROWTH
ADVICE.yaml` and `doitune report GROWTH`; `doitune help growth` says what they mean.

Example: doitune grow demo --quick
"""

grow_app = group(ABOUT, GrowGroup)

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
On = Annotated[
    str,
    typer.Option(
        "--on",
        help="local: this machine's cards or cores; ray: the cluster of RAY_ADDRESS, or of this machine "
        "(pip install 'doitune[cluster]').",
    ),
]


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

    _refuse_place(on)
    typed = _Typed(plan, quick, models or [], options.corpora(corpus), sets or [], name, on, at_once, runs)
    if dry_run:
        with progress.LiveLine():
            seen = _outlook(typed)
        screen.show_json(seen.to_json()) if as_json else console.show_outlook(seen)
        return
    with console.FamilyDisplay() as display:
        work = _Work(typed.folder, typed.again, on, at_once, wait_for_disk)
        failed = _work(work, _expanded(typed), display)
    _show(typed.folder, failed, as_json=as_json)
    _end(work, failed, as_json=as_json)


@grow_app.command("confirm")
def confirm(
    growth: Annotated[
        str,
        typer.Argument(metavar="GROWTH", help="The measured family: its folder, or its name under --runs."),
    ],
    advice: Annotated[
        str,
        typer.Argument(metavar="ADVICE.yaml", help="A recipe with the budget that `doitune advise` wrote."),
    ],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many pairs of runs.")] = 3,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Which of the family's models. Default: its first.")
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="What the new family is called. Default: GROWTH-confirm.")
    ] = "",
    on: On = "local",
    at_once: AtOnce = None,
    runs: Runs = RUNS,
    wait_for_disk: WaitForDisk = WAIT_MINUTES,
    as_json: Json = False,
) -> None:
    """Run an advised budget and equal shares of the same total, with other seeds than the measured ones, and
    say by a paired test on the test questions which is better.

    Example: doitune grow confirm demo advised.yaml --seeds 3
    """
    from doitune.console import growth as console
    from doitune.console import screen
    from doitune.growth.family.confirm import confirming, verdict
    from doitune.growth.folder import find_growth
    from doitune.system.paths import as_argument

    _refuse_place(on)
    measured = find_growth(growth, runs)
    folder = runs / (name or f"{measured.name}-confirm")
    words = ["doitune", "grow", "confirm", growth, advice, "--seeds", str(seeds)]
    words += [
        part for flag, value in (("--model", model), ("--name", name)) if value for part in (flag, value)
    ]
    words += ["--on", on] if on != PLACES[0] else []
    words += ["--at-once", str(at_once)] if at_once else []
    place = [] if runs == RUNS else ["--runs", str(runs)]
    again = shlex.join([*words, *place])
    page = shlex.join(["doitune", "report", as_argument(measured), *place])

    def expanded(threads: int) -> tuple[Record, str]:
        record = confirming(measured, advice, name=folder.name, seeds=seeds, model=model)
        return record, f"# {again}\n{Path(advice).read_text(encoding='utf-8')}"

    with console.FamilyDisplay() as display:
        work = _Work(folder, again, on, at_once, wait_for_disk)
        _end(work, _work(work, expanded, display))
        found = verdict(folder)
    screen.show_json(found.to_json(folder)) if as_json else console.show_confirmed(found, page)


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
    on: str
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
        words += ["--on", self.on] if self.on != PLACES[0] else []
        words += ["--at-once", str(self.at_once)] if self.at_once else []
        return shlex.join([*words, *([] if self.runs == RUNS else ["--runs", str(self.runs)])])


def _outlook(typed: _Typed) -> Outlook:
    from doitune.growth.family.expand import expand
    from doitune.growth.family.local import describe, places
    from doitune.growth.family.outlook import look_ahead

    where = places(typed.at_once)
    record = expand(typed.read(), typed.folder.name, threads=where.threads, published=True)
    return look_ahead(typed.folder, record, describe(where), where.at_once)


@dataclass(frozen=True)
class _Work:
    """A family that is to be made: its folder, the command that goes on with it, and where it is made."""

    folder: Path
    again: str
    on: str
    at_once: int | None
    wait_minutes: float

    def engine(self, threads: int) -> Engine:
        """Where its pieces are done. Errors: FitError."""
        from doitune.growth.family.local import Local, places

        if self.on == "ray":
            from doitune.growth.family.cluster import Cluster

            return Cluster(self.folder, threads, self.at_once, self.wait_minutes)
        return Local(self.folder, places(self.at_once, threads), self.wait_minutes)


def _refuse_place(on: str) -> None:
    if on not in PLACES:
        raise UsageError(f"--on {on!r} is no place for runs", f"one of {', '.join(PLACES)}")


def _expanded(typed: _Typed) -> Callable[[int], tuple[Record, str]]:
    """What makes the family of a plan, and its plan's text, for a number of threads."""

    def expanded(threads: int) -> tuple[Record, str]:
        from doitune.growth.family.expand import expand
        from doitune.growth.family.plan import text_of

        plan = typed.read()
        return expand(plan, typed.folder.name, threads=threads), text_of(plan)

    return expanded


def _work(
    asked: _Work, expanded: Callable[[int], tuple[Record, str]], on_standing: OnStanding
) -> list[Answer]:
    """Everything that is left; the pieces that failed. Errors: Stopped."""
    from doitune.growth.family.local import places
    from doitune.growth.family.run import begin, held, work
    from doitune.system.signals import last_words

    asked_for = expanded(places(asked.at_once).threads)
    with held(asked.folder):
        record = begin(asked.folder, *asked_for)
        failed = work(asked.folder, record, asked.engine(record.threads), on_standing, asked.again)
        last_words()
    return failed


def _end(asked: _Work, failed: list[Answer], *, as_json: bool = False) -> None:
    """The error of a family whose pieces failed; with a document that has it already, its exit code alone."""
    from doitune.growth.family.run import failure

    if failed and as_json:
        raise typer.Exit(failed[0].exit_code)
    if failed:
        raise failure(failed, asked.again)


def _show(folder: Path, failed: list[Answer], *, as_json: bool) -> None:
    from doitune.console import growth as console
    from doitune.console import screen
    from doitune.growth.contrast import sweep
    from doitune.growth.folder import read_growth
    from doitune.growth.table import tables, to_json

    found = read_growth(folder)
    tried = sweep(folder, found)
    if as_json:
        more = {"tried": [one.to_json() for one in tried], "failed": [one.to_json() for one in failed]}
        screen.show_json({**to_json(found, folder), **more})
    else:
        console.show_growth(found, tables(found), tried, folder)


grow_app.command("show")(show)
