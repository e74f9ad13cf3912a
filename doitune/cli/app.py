"""The app `doitune` with its commands. None is imported before it is asked for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from doitune.cli.group import HELP, Group, Later, show_version

COMMANDS = {
    "init": "init:init",
    "plan": "plan:plan",
    "train": "training:train",
    "resume": "training:resume",
    "eval": "evaluation:evaluate",
    "score": "evaluation:score",
    "compare": "evaluation:compare",
    "report": "report:report",
    "chat": "chat:chat",
    "serve": "serve:serve",
    "export": "export:export",
    "push": "push:push",
    "doctor": "machine:doctor",
    "help": "manual:manual",
    "advise": "advise:advise",
    "grow": "grow:grow_app",
    "base": "bases:base_app",
    "data": "data:data_app",
    "recipes": "recipes:recipes_app",
    "runs": "training:runs_app",
    "selftest": "selftest:selftest_app",
}
"""Each command's module of `cli/` and its noun in it, in the order of the help."""


class Doitune(Group):
    """The commands, each made when it is asked for: a start pays for its own alone."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Later(COMMANDS)


app = typer.Typer(
    name="doitune",
    cls=Doitune,
    context_settings={"help_option_names": list(HELP)},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def doitune(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Fine-tune a language model on one card, ability by ability, and measure what each ability gained."""
