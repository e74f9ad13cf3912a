"""What came of an export: the merged model beside the trained one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from doitune.console.screen import say, show_table
from doitune.system.paths import as_argument
from doitune.system.units import size_of

if TYPE_CHECKING:
    from doitune.export.adapter import AdapterExport
    from doitune.export.push import Pushed
    from doitune.export.report import Export

VALUES = {"nf4": "the base's 4-bit values", "own": "the base's own weights"}
"""What export.json calls the values that an adapter was trained on, or merged into."""


def show_any(found: AdapterExport | Export) -> None:
    """What came of one format."""
    if found.document["to"] == "adapter":
        show_adapter(cast("AdapterExport", found))
    else:
        show = {"gguf": show_gguf, "gguf-adapter": show_lora}.get(found.document["to"], show_export)
        show(cast("Export", found))


def show_export(found: Export) -> None:
    """The parity report as a table, scores, what could not be measured, and the verdict."""
    document = found.document
    trained, merged = VALUES[document["trained_against"]], VALUES[document["merged_into"]]
    rows = [
        [
            f"{pair['a']} / {pair['b']}",
            str(pair["positions"]),
            f"{100 * pair['agreement']:.2f}",
            *(f"{pair[key]:.3g}" for key in ("kl_nats", "most_kl_nats")),
        ]
        for pair in document["parity"]
    ]
    title = f"{document['run']} {document['checkpoint']}: trained on {trained}, merged into {merged}"
    columns = ["models", "answer tokens", "same likeliest %", "mean KL (nats)", "most"]
    show_table(columns, rows, title=f"{title}, {document['dtype']}", right=range(1, 5))
    score = document["evaluation"]
    if score is not None:
        before, after = 100 * score["before"]["score"], 100 * score["after"]["score"]
        flips = f"answers that gained credit: {score['flips_up']}, lost: {score['flips_down']}"
        means = f"{before:.1f} before, {after:.1f} after"
        say(f"{score['suite']}, {score['questions']} questions: {means}; {flips}")
    for text in document["left_out"]:
        say(text)
    changed, compared = (document["matrices"][key] for key in ("changed", "compared"))
    matrices = f"{changed} of {compared} adapted matrices that were compared have changed"
    prompt = document["prompt"]
    say(f"{matrices}; {prompt['chats']} chats have the ids of training")
    if otherwise := prompt.get("tokenizer_json_otherwise"):
        say(
            f"that is by {prompt['cut_by']}, which doitune reads; programs with tokenizer.json alone cut "
            f"{otherwise} of these chats otherwise"
        )
    verdict = "the same model" if found.same else "NOT the same model"
    again = ", as an earlier export found" if found.again else ""
    say(f"{verdict}{again}: {found.folder} ({size_of(document['bytes'])})")
    if found.same:
        say(f"talk to it: {shlex.join(['doitune', 'chat', as_argument(found.folder)])}")
        say(f"next: {shlex.join(['doitune', 'base', 'check', as_argument(found.folder)])}")


def show_gguf(found: Export) -> None:
    """A line for each file: what llama.cpp makes of it beside the trained model; then what is not so."""
    document = found.document
    _show_files_asked(document, document["files"])
    if (ollama := document.get("ollama")) is not None:
        asked = f"{ollama['otherwise']} of {ollama['chats']} chats would be asked otherwise by it"
        say(f"Modelfile is of {ollama['modelfile_of']}: {asked}, since Ollama's templates cannot trim blanks")
        say("it was not tried in Ollama itself")
    verdict = "may be called the trained model" if found.same else "NOT the same model"
    whole = ", ".join(
        name for name, one in document["files"].items() if one["quant"] in ("f16", "bf16", "f32")
    )
    say(f"{whole}: {verdict}" if whole else "quantised files are judged by their score alone")
    say(f"the files are in {found.folder}{', as an earlier export left them' if found.again else ''}")


def show_lora(found: Export) -> None:
    """The adapter on the base's own file beside the trained model, and what that is worth."""
    document = found.document
    asked = {name: one for name, one in document["files"].items() if "parity" in one}
    _show_files_asked(document, asked)
    if document["warning"]:
        say(document["warning"])
    where = ", as an earlier export left them" if found.again else ""
    base = next(name for name in document["files"] if name not in asked)
    say(f"the files are in {found.folder}{where}: llama-server -m {base} --lora {next(iter(asked))}")


def _show_files_asked(document: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    rows = []
    for name, one in files.items():
        pair, score = one["parity"], one["evaluation"]
        scores = f"{100 * score['before']:.1f} -> {100 * score['after']:.1f}" if score else ""
        same = f"{100 * pair['agreement']:.1f}"
        no_worse = score["no_worse"] if score else "not asked"
        chats = f"{one['prompt']['chats']} of {one['prompt']['chats']}"
        rows.append([name, size_of(one["bytes"]), chats, same, f"{pair['kl_nats']:.3g}", scores, no_worse])
    columns = ["file", "size", "chats with equal ids", "same likeliest %", "mean KL (nats)", "score"]
    title = f"{document['run']} {document['checkpoint']}, in llama.cpp"
    show_table([*columns, "no worse than 2 points"], rows, title=title, right=range(1, 6))
    for text in (*document["left_out"], *document["problems"]):
        say(text)


def show_adapter(found: AdapterExport) -> None:
    """The files of an adapter that stands alone, and where they are."""
    show_files(found.files)
    document = found.document
    chats = f"{document['prompt']['chats']} chats have the ids of training"
    if otherwise := document["prompt"]["tokenizer_json_otherwise"]:
        chats += f" (by tokenizer.model; tokenizer.json alone cuts {otherwise} of them otherwise)"
    say(f"{document['run']} {document['checkpoint']}, its weights byte for byte; {chats}")
    base = document["base"]
    where = f"{base['name']} at {base['revision'] or 'its newest commit'}" if base["on_hub"] else base["name"]
    say(f"it names its base as {where}; README.md says how plain peft loads it")
    say(f"the adapter is in {found.folder}")
    more = ["--model", found.base_folder] if found.base_folder else []
    say(f"talk to it: {shlex.join(['doitune', 'chat', as_argument(found.folder), *more])}")


def show_files(files: Mapping[str, int]) -> None:
    """Each file with its size."""
    rows = [[name, size_of(size)] for name, size in files.items()]
    show_table(["file", "size"], [*rows, ["together", size_of(sum(files.values()))]], right=(1,))


def show_pushed(found: Pushed) -> None:
    """What was sent and where it is; or that nothing was."""
    who = "everybody" if found.public else "you, and whom you let (private)"
    if not found.commit:
        say(f"nothing was sent: these files would go to {found.repository}, readable by {who}")
        say("next: the same command without --dry-run")
        return
    say(f"sent to {found.repository}, readable by {who}: commit {found.commit[:12]}")
    say(found.address)


def pushed_document(found: Pushed) -> dict[str, Any]:
    """`doitune push --json`."""
    return {
        "schema": "doitune.push/1",
        "repository": found.repository,
        "public": found.public,
        "sent": bool(found.commit),
        "commit": found.commit,
        "address": found.address,
        "files": [{"name": name, "bytes": size} for name, size in found.files.items()],
    }
