"""`doitune export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doitune.cli.options import BaseName, Json, Moved, RunName, Runs
from doitune.errors import UsageError
from doitune.run.default import RUNS

if TYPE_CHECKING:
    from doitune.export.adapter import AdapterExport
    from doitune.export.measure import Listener
    from doitune.export.merged import Wish
    from doitune.export.report import Export

FORMATS = "merged", "adapter", "gguf", "ollama", "gguf-adapter"
To = Annotated[
    str,
    typer.Option(
        "--to",
        help="merged: one folder of safetensors that plain transformers loads. adapter: the adapter alone, "
        "that plain peft loads, with tokenizer, chat template and model card. gguf: the merged folder, and a "
        "file for llama.cpp. ollama: the same with a Modelfile. gguf-adapter: the base's own F16 file and "
        "the adapter beside it for llama.cpp's --lora. Several, with commas: a folder each.",
    ),
]
Into = Annotated[
    str,
    typer.Option(
        "--into",
        help="trained: the values that the adapter was trained on, 4-bit ones too. "
        "base: the base's own weights.",
    ),
]
Questions = Annotated[
    int,
    typer.Option(
        "--questions", min=0, help="At most so many validation questions are scored before and after."
    ),
]
Quant = Annotated[
    str,
    typer.Option(
        "--quant",
        help="Types of GGUF files, with commas: f16 (the default), bf16, f32, q8_0; by llama.cpp's own "
        "quantiser q2_k to q6_k.",
    ),
]
LlamaCpp = Annotated[
    Path | None, typer.Option("--llama-cpp", help="A folder with llama.cpp's llama-quantize.")
]


def export(
    run: RunName,
    out: Annotated[Path, typer.Option("--out", help="The folder to write; a new or an empty one.")],
    to: To = "merged",
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="best, last or a step number.")] = "best",
    into: Into = "trained",
    dtype: Annotated[str, typer.Option("--dtype", help="bf16, fp16 or fp32. Default: the base's own.")] = "",
    questions: Questions = 200,
    quant: Quant = "",
    llama_cpp: LlamaCpp = None,
    base: BaseName = "",
    model: Moved = "",
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Merge a run's adapter into its base and prove that the result is the trained model: exit 70, and a mark
    in export.json, where it is not. --to adapter writes the adapter alone; --to gguf goes on to files for
    llama.cpp, which have to give prompts the ids of training.

    Stopped or killed, the same command goes on. A merged model or 16-bit file whose likeliest token differs
    for more than 2 % of the answers is refused; a quantised file is judged by its score.

    Example: doitune export last --to merged --out my-model
    """
    from doitune.console import progress, screen
    from doitune.console.export import show_any
    from doitune.export.measure import Listener
    from doitune.export.merged import Wish
    from doitune.run.find import find_run
    from doitune.run.model import one_checkpoint

    given = {
        "--into": into != "trained",
        "--dtype": dtype,
        "--base": base,
        "--quant": quant,
        "--llama-cpp": llama_cpp,
    }
    formats = _formats(to, [name for name, value in given.items() if value])
    found = find_run(run, runs)
    with one_checkpoint(found, checkpoint) as step, progress.LiveLine() as line:
        wish = Wish(found, out, step, into, dtype, questions, model)
        made = _made(formats, wish, base, (quant, llama_cpp), Listener(line.note, line.file, line.questions))
    for one in made if not as_json else ():
        show_any(one)
    for one in made:
        one.refuse_other()
    if as_json:
        documents = [{**one.document, "folder": str(one.folder)} for one in made]
        screen.show_json(documents[0] if len(documents) == 1 else {"exports": documents})


def _made(
    formats: tuple[str, ...], wish: Wish, base: str, how: tuple[str, Path | None], listener: Listener
) -> list[AdapterExport | Export]:
    """Every format: in `--out` itself where it is the only one, else in a folder of its own below. `how`: the
    types of GGUF files and llama.cpp's folder."""
    from doitune.export.adapter import export_adapter
    from doitune.export.merged import export_merged

    made: list[AdapterExport | Export] = []
    places = {one: wish.out if formats == (one,) else wish.out / one for one in FORMATS}
    if "adapter" in formats:
        which = {"checkpoint": wish.checkpoint, "moved_to": wish.moved_to}
        made.append(export_adapter(wish.run, places["adapter"], **which, base=base, on_note=listener.note))
    if {"gguf", "ollama"} & {*formats}:
        from doitune.export.gguf.export import Files, export_gguf

        quants = tuple(dict.fromkeys(one.strip().lower() for one in (how[0] or "f16").split(",")))
        made.append(export_gguf(Files(wish, quants, "ollama" in formats, how[1]), listener))
    elif "merged" in formats:
        made.append(export_merged(replace(wish, out=places["merged"]), listener))
    if "gguf-adapter" in formats:
        from doitune.export.gguf.lora import export_lora

        made.append(export_lora(replace(wish, out=places["gguf-adapter"]), listener))
    return made


BESIDE = {
    "--into": ("merged", "gguf", "ollama"),
    "--dtype": ("merged", "gguf", "ollama"),
    "--base": ("adapter",),
    "--quant": ("gguf", "ollama"),
    "--llama-cpp": ("gguf", "ollama"),
}
"""The formats that an option says something of."""


def _formats(to: str, given: list[str]) -> tuple[str, ...]:
    """The formats of `--to`. UsageError for an unknown one, and for an option that says nothing of them."""
    formats = tuple(dict.fromkeys(one.strip() for one in to.split(",")))
    unknown = [one for one in formats if one not in FORMATS]
    if unknown:
        raise UsageError(f"there is no export to {unknown[0]!r}", f"--to {' or --to '.join(FORMATS)}")
    strange = [name for name in given if not {*BESIDE[name]} & {*formats}]
    if strange:
        raise UsageError(f"{strange[0]} says nothing of --to {','.join(formats)}", "leave it out")
    return formats
