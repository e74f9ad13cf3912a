"""`doitune export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doitune.cli.options import BaseName, Json, RunName, Runs
from doitune.errors import UsageError
from doitune.run.default import RUNS

FORMATS = "merged", "adapter"
To = Annotated[
    str,
    typer.Option(
        "--to",
        help="merged: one folder of safetensors that plain transformers loads. adapter: the adapter alone, "
        "that plain peft loads, with tokenizer, chat template and model card.",
    ),
]


def export(
    run: RunName,
    out: Annotated[Path, typer.Option("--out", help="The folder to write; a new or an empty one.")],
    to: To = "merged",
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, last or a step number.")] = "best",
    into: Annotated[
        str,
        typer.Option(
            "--into",
            help="trained: the values that the adapter was trained on, 4-bit ones too. "
            "base: the base's own weights.",
        ),
    ] = "trained",
    dtype: Annotated[str, typer.Option("--dtype", help="bf16, fp16 or fp32. Default: the base's own.")] = "",
    questions: Annotated[
        int,
        typer.Option(
            "--questions", min=0, help="At most so many validation questions are scored before and after."
        ),
    ] = 200,
    base: BaseName = "",
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Merge a run's adapter into its base and prove that the result is the trained model: exit 70, and a mark
    in export.json, where it is not. --to adapter writes the adapter alone.

    Stopped or killed, the same command goes on. A merged model whose likeliest token differs for more than 2
    % of the answers is refused.

    Example: doitune export last --to merged --out my-model
    """
    from doitune.console import progress, screen
    from doitune.console.export import show_adapter, show_export
    from doitune.export.adapter import export_adapter
    from doitune.export.measure import Listener
    from doitune.export.merged import Wish, export_merged
    from doitune.run.find import find_run

    _refuse_beside(to, into, dtype, base)
    wanted = find_run(run, runs)
    if to == "adapter":
        with progress.LiveLine() as line:
            made = export_adapter(wanted, out, checkpoint=checkpoint, base=base, on_note=line.note)
        if as_json:
            screen.show_json({**made.document, "folder": str(made.folder)})
        else:
            show_adapter(made)
        return
    wish = Wish(wanted, out, checkpoint, into, dtype, questions)
    with progress.LiveLine() as line:
        found = export_merged(wish, Listener(line.note, line.file, line.questions))
    if not as_json:
        show_export(found)
    found.refuse_other()
    if as_json:
        screen.show_json({**found.document, "folder": str(found.folder)})


def _refuse_beside(to: str, into: str, dtype: str, base: str) -> None:
    """UsageError for an unknown format, and for what has no meaning beside it."""
    if to not in FORMATS:
        raise UsageError(f"there is no export to {to!r} yet", f"--to {' or --to '.join(FORMATS)}")
    strange = ["--into"] * (into != "trained") + ["--dtype"] * bool(dtype) if to == "adapter" else []
    strange += ["--base"] * bool(base and to == "merged")
    if strange:
        raise UsageError(f"{strange[0]} says nothing of --to {to}", "leave it out")
