"""`doitune eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doitune.cli.options import CorpusName, Json, Runs, words


def evaluate(
    targets: Annotated[list[str], typer.Argument(help="Runs (`last`, a name, a folder), checkpoint folders, or bases (demo, a hub name, a folder).")],
    suite: Annotated[str | None, typer.Option("--suite", help="doit-valid, doit-test; several with commas. Default: the recipe's.")] = None,
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, last, all or step numbers; several with commas.")] = "best",
    limit: Annotated[float | None, typer.Option("--limit", help="At most this many questions of each set, or a share below 1.")] = None,
    corpus: CorpusName = None,
    base: Annotated[bool, typer.Option("--base/--no-base", help="Ask the untrained base beside its adapter.")] = True,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Ask and score: the ten abilities, base beside adapter. An interrupted evaluation goes on where it was.

    Example: doitune eval last --checkpoint best,last
    """
    from doitune import console
    from doitune.evals.targets import Request, evaluate_target

    request = Request(words(suite), words(checkpoint), limit, corpus, base)
    with console.EvaluationDisplay() as display:
        found = [one for target in targets for one in evaluate_target(target, request, runs=runs, on_progress=display)]
    if as_json:
        entries = [entry for one in found for entry in one.report.evaluations(one.target, one.checkpoint, ("fixed",))]
        console.show_json({"schema": "doitune.eval/1", "evaluations": entries})
    else:
        console.show_evaluations(found)
