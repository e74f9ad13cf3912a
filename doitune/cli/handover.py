"""`doitune export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doitune.cli.options import Json, Runs
from doitune.errors import UsageError

if TYPE_CHECKING:
    from doitune.export.merged import Export

GIB = 2**30


def export(
    run: Annotated[str, typer.Argument(help="A run: its folder, a part of its name, or `last`.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; a new or an empty one.")],
    to: Annotated[
        str, typer.Option("--to", help="merged: one folder of safetensors that plain transformers loads.")
    ] = "merged",
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, last or a step number.")] = "best",
    into: Annotated[
        str,
        typer.Option(
            "--into",
            help="trained: the values that the adapter was trained on, 4-bit ones too. base: the base's own weights.",
        ),
    ] = "trained",
    dtype: Annotated[str, typer.Option("--dtype", help="bf16, fp16 or fp32. Default: the base's own.")] = "",
    questions: Annotated[
        int,
        typer.Option(
            "--questions", min=0, help="At most so many validation questions are scored before and after."
        ),
    ] = 200,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Merge a run's adapter into its base and prove that the result is the trained model: exit 70, and a mark
    in export.json, where it is not.

    Stopped or killed, the same command goes on. A merged model whose likeliest token differs for more than 2
    % of the answers is refused.

    Example: doitune export last --to merged --out my-model
    """
    from doitune.console import progress, screen
    from doitune.export.merged import Wish, export_merged
    from doitune.run.folder import find_run

    if to != "merged":
        raise UsageError(
            f"there is no export to {to!r} yet", "--to merged writes a folder that other tools convert"
        )
    with progress.ExportDisplay() as display:
        found = export_merged(
            Wish(find_run(run, runs), out, checkpoint, into, dtype, questions),
            display.note,
            display.shard,
            display.question,
        )
    if not as_json:
        _show(found)
    found.refuse_other()
    if as_json:
        screen.show_json({**found.document, "folder": str(found.folder)})


def _show(found: Export) -> None:
    """The parity report as a table."""
    from doitune.console import screen

    said = found.document
    held = {"nf4": "the base's 4-bit values", "own": "the base's own weights"}
    rows = []
    for pair in said["parity"]:
        numbers = (
            f"{100 * pair['agreement']:.2f}",
            *(f"{pair[key]:.3g}" for key in ("kl_nats", "most_kl_nats")),
        )
        rows.append([f"{pair['a']} / {pair['b']}", str(pair["positions"]), *numbers])
    what = f"trained on {held[said['trained_against']]}, merged into {held[said['merged_into']]}, {said['dtype']}"
    title = f"{said['run']} {said['checkpoint']}: {what}"
    screen.show_table(
        ["models", "answer tokens", "same likeliest %", "mean KL (nats)", "most"],
        rows,
        title=title,
        right=(1, 2, 3, 4),
    )
    score = said["evaluation"]
    if score is not None:
        before, after = 100 * score["before"]["score"], 100 * score["after"]["score"]
        flips = f"answers that became right: {score['flips_up']}, wrong: {score['flips_down']}"
        screen.say(
            f"{score['suite']}, {score['questions']} questions: {before:.1f} before, {after:.1f} after; {flips}"
        )
    for text in said["left_out"]:
        screen.say(text)
    changed, compared = (said["matrices"][key] for key in ("changed", "compared"))
    screen.say(
        f"{changed} of {compared} adapted matrices that were compared have changed; {said['prompt']['chats']} chats have the ids of training"
    )
    verdict = "the same model" if found.same else "NOT the same model"
    screen.say(
        f"{verdict}{', as an earlier export found' if found.again else ''}: {found.folder} ({said['bytes'] / GIB:.2f} GiB)"
    )
