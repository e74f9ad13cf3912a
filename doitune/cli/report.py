"""`doitune report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doitune.cli import completion
from doitune.cli.options import Json, Runs
from doitune.run.default import RUNS


def report(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs: `last`, a part of a name, a folder.",
            autocompletion=completion.runs,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write. Default: report.html in the first run.")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """One self-contained HTML page: recipe, data, curves, scores with intervals, paired comparison, wrong
    answers to read, provenance.

    Example: doitune report last --out report.html
    """
    from doitune.console import progress, screen
    from doitune.report.page import default_path, page
    from doitune.run.find import find_run
    from doitune.system.publish import write_result

    found = [find_run(name, runs) for name in names]
    with progress.LiveLine():
        written, text = out or default_path(found), page(found)
    write_result(written, text)
    if as_json:
        names = [run.name for run in found]
        about = {"path": str(written), "runs": names, "bytes": len(text.encode())}
        screen.show_json({"schema": "doitune.report-page/1", **about})
    else:
        screen.say(f"wrote {written}: open it in a browser")
