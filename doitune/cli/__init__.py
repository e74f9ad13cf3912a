"""The desk: each command parses, calls one room, and hands the result to the console. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, NoReturn

import typer

from doitune import faults, stopping
from doitune.cli.bases import base_app
from doitune.cli.data import data_app
from doitune.cli.evaluation import compare, evaluate, score
from doitune.cli.machine import doctor
from doitune.cli.plan import plan
from doitune.cli.recipes import recipes_app
from doitune.cli.report import report
from doitune.cli.selftest import selftest_app
from doitune.cli.training import resume, runs_app, train
from doitune.errors import DoituneError, UsageError

app = typer.Typer(
    name="doitune",
    help="Fine-tune a language model on one card, ability by ability, and measure what each ability gained.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(plan)
app.command()(train)
app.command()(resume)
app.command(name="eval")(evaluate)
app.command()(score)
app.command()(compare)
app.command()(report)
app.command()(doctor)
app.add_typer(base_app, name="base")
app.add_typer(data_app, name="data")
app.add_typer(recipes_app, name="recipes")
app.add_typer(runs_app, name="runs")
app.add_typer(selftest_app, name="selftest")


def main() -> None:
    """Run the desk; errors of a user's are printed with their cure and their exit code."""
    as_json = "--json" in sys.argv
    # OpenMP's threads spin while they wait: beside one other busy process 40 steps of the demo took 116 s spinning, 11 s sleeping
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = _warn
    try:
        with stopping.leaving():
            faults.arm(os.environ.get(faults.VARIABLE, ""))
            code = app(standalone_mode=False)
            if code == 130:
                raise KeyboardInterrupt  # typer has turned it into a number
    except DoituneError as error:
        _leave(error, as_json)
    except (stopping.StopAsked, KeyboardInterrupt, typer.Abort) as stop:
        _leave(stopping.stopped(stop, "stopped; what is finished is kept", "run the same command again: it goes on or begins anew"), as_json)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if not hasattr(error, "format_message"):
            _crash(error)
        message = str(error.format_message()) or "no such command"
        _leave(UsageError(message, "`doitune --help`, or --help behind a command"), as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _warn(*about: Any, **more: Any) -> None:
    from doitune import console

    console.show_warning(*about, **more)


def _crash(error: Exception) -> NoReturn:
    from doitune import console

    console.show_crash(error)
    sys.exit(70)


def _leave(error: DoituneError, as_json: bool) -> None:
    from doitune import console
    from doitune.distributed import follows, let_the_leader_speak

    stopping.last_words()
    if follows():
        let_the_leader_speak()
        sys.exit(error.exit_code)
    console.show_error(error, as_json=as_json)
    sys.exit(error.exit_code)
