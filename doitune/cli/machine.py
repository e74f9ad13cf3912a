"""`doitune doctor`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from doitune.cli.options import Json, Runs
from doitune.errors import FitError
from doitune.run.default import RUNS


def doctor(
    fix_hint: Annotated[
        bool, typer.Option("--fix-hint", help="Also print the commands that repair what is wrong.")
    ] = False,
    network: Annotated[
        bool,
        typer.Option(
            "--network", help="Also ask whether the hub answers, and where it does not, which mirrors do."
        ),
    ] = False,
    error: Annotated[
        str,
        typer.Option(
            "--error",
            metavar="TEXT",
            help="Say what this message of a library or of pip means. -: from stdin.",
        ),
    ] = "",
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Look at this machine: system, libraries, cards, backends, disks, hub, bases (exit 78 if no training is
    possible).

    Example: doitune doctor --fix-hint
    """
    from doitune.console import machine, screen

    if error:
        from doitune.doctor.known_errors import explain

        known = explain(sys.stdin.read() if error == "-" else error)
        document = {"name": known.name, "problem": known.problem, "cure": known.cure} if known else {}
        if as_json:
            screen.show_json({"schema": "doitune.known-error/1", "known": bool(known), **document})
        else:
            machine.show_known_error(known)
        return
    from doitune.console import progress
    from doitune.doctor.diagnosis import diagnose

    with progress.LiveLine():
        found = diagnose(runs, network=network)
    screen.show_json(found.to_json()) if as_json else machine.show_diagnosis(found, commands=fix_hint)
    if found.state == "problem":
        raise typer.Exit(FitError.exit_code)
