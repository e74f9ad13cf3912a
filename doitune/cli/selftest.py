"""`doitune selftest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doitune.cli.group import group
from doitune.cli.options import Json
from doitune.errors import DoituneError
from doitune.run.default import RUNS

selftest_app = group("Prove on this machine what doitune promises.")


@selftest_app.command("crash")
def selftest_crash(
    kills: Annotated[
        int,
        typer.Option(
            "--kills", min=0, help="How often a training is killed (kill -9), half of it while it saves."
        ),
    ] = 50,
    corruptions: Annotated[
        int, typer.Option("--corruptions", min=0, help="How often a checkpoint is damaged before a resume.")
    ] = 20,
    command_kills: Annotated[
        int,
        typer.Option(
            "--command-kills", min=0, help="How often eval, score, report, export, fetch, make are killed."
        ),
    ] = 12,
    folder: Annotated[Path, typer.Option("--dir", help="A folder on the disk to be proved.")] = RUNS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of times and places.")] = 0,
    as_json: Json = False,
) -> None:
    """Kill a tiny training at every fault point and at random times, resume it, and compare the result byte
    for byte (CPU); then the same with the other commands that write.

    Example: doitune selftest crash --kills 50
    """
    from doitune.console import machine, progress, screen
    from doitune.selftest.crash import crash

    with progress.LiveLine() as line:
        report = crash(
            folder,
            kills=kills,
            corruptions=corruptions,
            command_kills=command_kills,
            seed=seed,
            on_progress=line.kills,
        )
    screen.show_json(report.to_json()) if as_json else machine.show_crash_report(report)
    if not report.passed:
        raise typer.Exit(DoituneError.exit_code)


@selftest_app.command("gpu")
def selftest_gpu(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the document to this file, to be sent in.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the smallest size.")] = False,
    as_json: Json = False,
) -> None:
    """Test this card: both backends beside each other, the memory plan beside measured peaks, speed beside
    the roofline (exit 78 without one).

    Example: doitune selftest gpu --out card.json
    """
    from doitune.console import machine, progress, screen
    from doitune.selftest.gpu import selftest_gpu as test_card
    from doitune.system.disk import json_bytes
    from doitune.system.publish import refuse_result, write_result

    def keep(document: dict[str, Any]) -> None:
        if out is not None:
            write_result(out, json_bytes(document))

    if out is not None:
        refuse_result(out)
    with progress.LiveLine() as line:
        document = test_card(RUNS, quick=quick, on_part=line.part, on_document=keep)
    keep(document)
    screen.show_json(document) if as_json else machine.show_gpu(document, str(out or ""))
    if not document["passed"]:
        raise typer.Exit(DoituneError.exit_code)
