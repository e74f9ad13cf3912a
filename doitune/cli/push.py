"""`doitune push`."""

from __future__ import annotations

from typing import Annotated

import typer

from doitune.cli.options import BaseName, Json, RunName, Runs
from doitune.run.default import RUNS


def push(
    run: RunName,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the hub.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, last or a step number.")] = "best",
    base: BaseName = "",
    public: Annotated[
        bool, typer.Option("--public", help="Everybody may read it. Without it a new repository is private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show each file with its size; nothing is sent.")
    ] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Send a run's adapter, its tokenizer and its model card to the Hugging Face hub: no data, no state of
    the optimiser, no path of this machine.

    The login is that of `hf auth login` or HF_TOKEN; HF_ENDPOINT is honoured.

    Example: doitune push last OWNER/NAME --dry-run
    """
    from doitune.console import progress, screen
    from doitune.console.export import pushed_document, show_files, show_pushed
    from doitune.export.push import Parcel
    from doitune.export.push import push as send
    from doitune.run.find import find_run
    from doitune.run.model import one_checkpoint

    pushed = find_run(run, runs)
    with one_checkpoint(pushed, checkpoint) as step, progress.LiveLine() as line:
        found = send(
            Parcel(pushed, repository, step, base, public),
            dry_run=dry_run,
            on_files=lambda files: None if as_json else show_files(files),
            on_note=line.note,
        )
    if as_json:
        screen.show_json(pushed_document(found))
    else:
        show_pushed(found)
