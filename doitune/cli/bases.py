"""`doitune base`: base models on this machine: which there are, fetch, assemble, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doitune.cli import completion
from doitune.cli.group import group
from doitune.cli.options import Json
from doitune.errors import ModelError
from doitune.system.units import several, size_of

base_app = group("Base models on this machine: list, fetch, assemble, check.")

COMPARED_WITH = {
    "record": "its record",
    "hub": "the hub's digests",
    "": "their headers only: there is no record",
}
"""What a check of a base names as the other side, in words."""


@base_app.command("list")
def base_list(as_json: Json = False) -> None:
    """The bases that recipes name, whether they are on this disk and whole. The hub is not asked.

    Example: doitune base list
    """
    from dataclasses import asdict

    from doitune.base.known import list_bases
    from doitune.console import screen

    bases = list_bases()
    if as_json:
        screen.show_json({"schema": "doitune.bases/1", "bases": [asdict(one) for one in bases]})
        return
    rows = [
        [one.name, one.model, one.state, size_of(one.bytes) if one.bytes else "", one.folder or one.get]
        for one in bases
    ]
    screen.show_table(["name", "model", "state", "GiB", "folder, or how to get it"], rows, right=(3,))


@base_app.command("fetch")
def base_fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="A model of recipes/models, or owner/name on the hub.", autocompletion=completion.models
        ),
    ],
    revision: Annotated[
        str, typer.Option("--revision", help="A commit, tag or branch; default: the recipe's, or the newest.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring a base from the hub into its cache: continued after a break, every file compared with the hub's
    digest, and recorded.

    Example: doitune base fetch qwen1.5-7b
    """
    from doitune.base.fetch import fetch_base, look_up
    from doitune.base.known import on_the_hub
    from doitune.console import progress, screen

    with progress.LiveLine():
        wanted = look_up(*on_the_hub(name, revision))
    here = wanted.bytes - wanted.missing_bytes
    size = f"{size_of(wanted.bytes)}, {size_of(here)} of them here"
    screen.note(f"{wanted.name} at {wanted.revision[:12]}: {size}; into {wanted.folder}")
    with progress.LiveLine() as line:
        base = fetch_base(wanted, line.file)
    if as_json:
        found = {
            "schema": "doitune.base-fetch/1",
            "name": wanted.name,
            "revision": wanted.revision,
            "folder": str(base.folder),
            "bytes": wanted.bytes,
            "files": len(wanted.files),
        }
        screen.show_json(found)
    else:
        screen.say(f"{wanted.name} is whole in {base.folder}")


@base_app.command("make")
def base_make(
    name: Annotated[
        str,
        typer.Argument(
            help="The model recipe that the base is for, e.g. 33b.", autocompletion=completion.models
        ),
    ],
    source: Annotated[
        str,
        typer.Option("--from", help="The LLaMA to start from: a folder or a hub name, safetensors or .bin."),
    ],
    loras: Annotated[
        list[str] | None,
        typer.Option("--lora", help="A language LoRA: folder or hub name. Repeatable, in order."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write here; default: the folder that the recipe names.")
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="nf4: 4 bits, as training loads it; bf16, fp16: 16 bits.")
    ] = "nf4",
    as_json: Json = False,
) -> None:
    """Merge a language LoRA with its own vocabulary into a LLaMA and quantise it, in a stream, never
    loading the whole model.

    Stopped or killed, the same command goes on. .bin files are opened as tensors only; nothing in them is
    run.

    Example: doitune base make 33b --from huggyllama/llama-30b --lora hfl/chinese-llama-plus-lora-33b
    """
    from doitune.base.make import make_base
    from doitune.base.order import Wish, take_order
    from doitune.console import progress, screen

    with progress.LiveLine() as line:
        order = take_order(Wish(name, source, tuple(loras or ()), out, to), screen.note, line.file)
        made = make_base(order, line.file)
    if as_json:
        found = {
            "schema": "doitune.base-make/1",
            "name": name,
            "folder": str(made.folder),
            "bytes": made.bytes,
            "shards": made.shards,
            "kept_shards": made.kept_shards,
        }
        screen.show_json(found)
    else:
        screen.say(f"{name} is in {made.folder}: {size_of(made.bytes)} in {several(made.shards, 'file')}")


@base_app.command("check")
def base_check(
    name: Annotated[
        str,
        typer.Argument(
            help="A folder, a model of recipes/models, or owner/name in the hub's cache.",
            autocompletion=completion.models,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Compare a base with its record, byte for byte, and its weights files with their headers; prove
    that texts are cut as its tokenizer.model says. Exit 65 where something differs.

    Example: doitune base check bases/chinese-llama-plus-33b
    """
    from dataclasses import asdict

    from doitune.backends.tokenizer_check import check_texts
    from doitune.base.known import folder_called
    from doitune.base.record import check_folder
    from doitune.console import progress, screen

    folder, texts = folder_called(name), None
    with progress.LiveLine() as line:
        report = check_folder(folder)
        if not report.differences:
            texts = check_texts(report.folder, line.note)
    if as_json:
        screen.show_json({**report.to_json(), "texts": asdict(texts) if texts else None})
    else:
        for one in report.differences:
            screen.say(f"{one.file}: {one.problem}" if one.file else one.problem)
        against = COMPARED_WITH[report.compared_with]
        verdict = f"{len(report.differences)} difference(s)" if report.differences else "whole"
        size = f"{several(report.files, 'file')}, {size_of(report.bytes)}"
        screen.say(f"{report.folder}: {size}, compared with {against}: {verdict}")
        if texts is not None:
            screen.say(texts.text)
    if report.differences or (texts is not None and not texts.exact):
        raise typer.Exit(ModelError.exit_code)
