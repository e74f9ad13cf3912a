"""`doitune report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from doitune.cli import completion
from doitune.cli.options import Json, Runs
from doitune.errors import UsageError
from doitune.run.default import RUNS

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...",
        help="Runs: `last`, a part of a name, a folder. Or one family of `doitune grow`: its name or folder.",
        autocompletion=completion.reported,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The file to write. Default: report.html in the first run or the family."),
]
Plots = Annotated[
    Path | None,
    typer.Option(
        "--plots",
        metavar="DIR",
        help="Of a family: where its figures go as SVG and (extra `plots`) PNG. Default: figures/ in the "
        "family; none with --out.",
    ),
]
Advice = Annotated[
    Path | None,
    typer.Option(
        "--advice",
        metavar="ADVICE.yaml",
        help="Of a family: show this budget of `doitune advise` beside equal shares, confirmed or not.",
    ),
]
AsText = Annotated[bool, typer.Option("--text", help="Of a family: draw the curves here, and write nothing.")]


def report(
    names: Names,
    out: Out = None,
    plots: Plots = None,
    advice: Advice = None,
    as_text: AsText = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """One self-contained HTML page: recipe, data, curves, scores with intervals, paired comparison, wrong
    answers to read, provenance. Of a family of runs: how each ability grew, what explains it, who teaches
    whom, and what an advised budget brought; --json has every number of it.

    Example: doitune report last --out report.html
    """
    from doitune.console import progress, screen
    from doitune.report.page import default_path, page
    from doitune.run.find import find_run
    from doitune.system.publish import refuse_result, write_result

    families = [name for name in names if _family(name, runs)]
    if families:
        if len(names) > 1:
            raise UsageError(f"{families[0]} is a family of runs: it has a page of its own", "name it alone")
        if as_text and (as_json or out or plots):
            raise UsageError("--text writes nothing but to the terminal", "leave out --out, --plots, --json")
        folder = _family(names[0], runs)
        assert folder is not None
        _report_family(folder, _Asked(out, plots, advice, runs, as_text, as_json))
        return
    if as_text or plots or advice:
        raise UsageError(
            "--text, --plots and --advice are for a family of runs", "name what `doitune grow` made"
        )
    found = [find_run(name, runs) for name in names]
    written = out or default_path(found)
    refuse_result(written)
    with progress.LiveLine():
        text = page(found)
    write_result(written, text)
    if as_json:
        names = [run.name for run in found]
        about = {"path": str(written), "runs": names, "bytes": len(text.encode())}
        screen.show_json({"schema": "doitune.report-page/1", **about})
    else:
        screen.say(f"wrote {written}: open it in a browser")


def _family(name: str, runs: Path) -> Path | None:
    """The folder of the family that is meant; None for a run."""
    from doitune.growth.folder import is_growth

    return next((folder for folder in (Path(name), runs / name) if name.strip() and is_growth(folder)), None)


@dataclass(frozen=True)
class _Asked:
    """What the command line says of a family's report."""

    out: Path | None
    plots: Path | None
    advice: Path | None
    runs: Path
    as_text: bool
    as_json: bool


def _report_family(folder: Path, asked: _Asked) -> None:
    from doitune.console import progress, screen
    from doitune.report.growth.document import document
    from doitune.report.growth.files import Written, write_figures
    from doitune.report.growth.page import page
    from doitune.report.growth.read import FIGURES, view_beside
    from doitune.run.layout import PAGE
    from doitune.system.publish import refuse_result, write_result

    written = asked.out or folder / PAGE
    refuse_result(written)
    with progress.LiveLine():
        found = view_beside(folder, asked.runs, asked.advice)
    if asked.as_text:
        from doitune.console.growth_curves import show_growth_curves

        show_growth_curves(found)
        return
    figures = asked.plots or (None if asked.out else folder / FIGURES)
    with progress.LiveLine():
        text = page(found)
        write_result(written, text)
        drawn = write_figures(found, figures) if figures else Written((), ())
    if asked.as_json:
        paths = [str(path) for path in drawn.paths]
        about = {"path": str(written), "bytes": len(text.encode()), "figures": paths}
        screen.show_json(document(found, {**about, "notes": list(drawn.notes)}))
        return
    screen.say(f"wrote {written}: open it in a browser")
    if figures:
        screen.say(f"wrote {len(drawn.paths)} figures to {figures}")
    for note in drawn.notes:
        screen.say(f"note: {note}")
