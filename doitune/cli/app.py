"""The app `doitune` with its commands. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from doitune.cli.advise import advise, show
from doitune.cli.bases import base_app
from doitune.cli.chat import chat
from doitune.cli.data import data_app
from doitune.cli.evaluation import compare, evaluate, score
from doitune.cli.export import export
from doitune.cli.group import HELP, Group, show_version
from doitune.cli.grow import grow_app
from doitune.cli.init import init
from doitune.cli.machine import doctor
from doitune.cli.manual import manual
from doitune.cli.plan import plan
from doitune.cli.push import push
from doitune.cli.recipes import recipes_app
from doitune.cli.report import report
from doitune.cli.selftest import selftest_app
from doitune.cli.serve import serve
from doitune.cli.training import resume, runs_app, train

app = typer.Typer(
    name="doitune",
    cls=Group,
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


app.command()(init)
app.command()(plan)
app.command()(train)
app.command()(resume)
app.command(name="eval")(evaluate)
app.command()(score)
app.command()(compare)
app.command()(report)
app.command()(chat)
app.command()(serve)
app.command()(export)
app.command()(push)
app.command()(doctor)
app.command(name="help")(manual)
app.command()(advise)
grow_app.command("show")(show)
app.add_typer(grow_app, name="grow")
app.add_typer(base_app, name="base")
app.add_typer(data_app, name="data")
app.add_typer(recipes_app, name="recipes")
app.add_typer(runs_app, name="runs")
app.add_typer(selftest_app, name="selftest")
