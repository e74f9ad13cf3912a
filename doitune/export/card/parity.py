"""What a card says of the export itself: how far it is the trained model, and what nobody has checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doitune.export.card.handed import ADAPTER, GGUF, GGUF_ADAPTER, MERGED, Handed, percent, plain, table
from doitune.run.layout import ORIGIN
from doitune.system.units import size_of

VALUES = {"nf4": "the base's 4-bit values", "own": "the base's own weights"}


def parity(handed: Handed) -> str:
    """Ids of prompts, likeliest tokens, divergence and scores, as export.json has them."""
    say = {ADAPTER: _adapter, MERGED: _merged, GGUF: _gguf, GGUF_ADAPTER: _gguf_adapter}[handed.to]
    document = handed.document
    parts = [] if document["same"] else ["**No: this is NOT the trained model.**"]
    parts += ["\n".join(f"- {plain(problem)}" for problem in document["problems"]), say(document)]
    if left := document.get("left_out"):
        parts.append("\n".join(f"- {plain(text)}" for text in left))
    return "\n\n".join(part for part in parts if part)


def _adapter(document: Mapping[str, Any]) -> str:
    return (
        f"Its weights are the checkpoint's own bytes, and its tokenizer gives {document['prompt']['chats']} "
        "chats (of the run's rows and others) the ids of training."
    )


def _merged(document: Mapping[str, Any]) -> str:
    """The folder was read back and asked what the trained model was asked."""
    trained, into = VALUES[document["trained_against"]], VALUES[document["merged_into"]]
    rows = [
        [f"{one['a']} / {one['b']}", one["positions"], *_agreement(one)]
        for one in document["parity"]
        if "unquantised" not in (one["a"], one["b"])
    ]
    said = [
        f"Trained on {trained}, merged into {into}, written in {document['dtype']}. Read back, it gives "
        f"{document['prompt']['chats']} chats the ids of training; over the same answers:",
        table(("models", "answer tokens", "same likeliest token", "mean KL, nats", "largest"), rows),
    ]
    if score := document["evaluation"]:
        before, after = (percent(score[side]["score"]) for side in ("before", "after"))
        said.append(
            f"{score['questions']} questions of {score['suite']}: {before} % before, {after} % after; "
            f"answers that gained credit: {score['flips_up']}, that lost: {score['flips_down']}."
        )
    return "\n\n".join(said)


def _agreement(pair: Mapping[str, Any]) -> list[str]:
    return [f"{percent(pair['agreement'])} %", *(f"{pair[key]:.3g}" for key in ("kl_nats", "most_kl_nats"))]


def _gguf_adapter(document: Mapping[str, Any]) -> str:
    """The same of the adapter on the base's file, and what that is worth."""
    asked = {name: one for name, one in document["files"].items() if "parity" in one}
    said = _files({**document, "files": asked})
    warning = plain(document["warning"])
    return (
        "llama.cpp read the adapter on the base's file, and was asked what the trained model was asked.\n\n"
        + said
        + (f"\n\n**{warning[:1].upper()}{warning[1:]}.**" if warning else "")
    )


def _gguf(document: Mapping[str, Any]) -> str:
    """Files that hold the model merged."""
    questions = next(
        (one["evaluation"]["questions"] for one in document["files"].values() if one["evaluation"]), 0
    )
    asked = f" and {questions} questions" if questions else ""
    return (
        f"Each file was read by llama.cpp and asked the same answers{asked} as the trained model. Files of "
        "16 and 32 bits may be called that model; quantised ones are judged by their score.\n\n"
        + _files(document)
    )


def _files(document: Mapping[str, Any]) -> str:
    """A line for each file, as llama.cpp itself answered."""
    rows = []
    for name, one in document["files"].items():
        score = one["evaluation"]
        scores = f"{percent(score['before'])} -> {percent(score['after'])}" if score else "not asked"
        span = f"[{100 * score['low']:+.1f} to {100 * score['high']:+.1f}]" if score else ""
        worse = score["no_worse"] if score else "not asked"
        rows.append(
            [f"`{name}`", size_of(one["bytes"]), one["prompt"]["chats"], *_agreement(one["parity"]), scores]
        )
        rows[-1] += [span, worse]
    columns = ("file", "size", "chats with the ids of training", "same likeliest token", "mean KL, nats")
    more = ("largest", "score, %", "difference, 95 %", "no worse than 2 points")
    return table((*columns, *more), rows)


def unchecked(handed: Handed) -> str:
    """What a reader might take for granted."""
    return "\n".join(f"- {one}" for one in (*_of_format(handed), *_of_run(handed)))


def _of_format(handed: Handed) -> list[str]:
    """What this form of it brings."""
    document, source = handed.document, handed.source
    otherwise = document.get("prompt", {}).get("tokenizer_json_otherwise", 0)
    said = []
    if handed.to == ADAPTER:
        said.append(
            "Other ways to load the base than the example's (other bits or number types) were not measured."
        )
    if handed.to == MERGED:
        said += [
            "vLLM, SGLang and TGI themselves were not tried: they need a card. What they read of this folder "
            "was: transformers gives its chats the ids of training; generation_config.json has every stop.",
            f"It was read back on {plain(document['measured_on']['device'])} and computed in "
            f"{plain(document['measured_on']['dtype'])}: elsewhere, and in other types, replies may part.",
        ]
    if "ollama" in document:
        said.append("The Modelfile was not tried in Ollama itself.")
    if handed.to == ADAPTER and source.quantised:
        said.append(
            "On CPUs with AVX512-BF16 bitsandbytes computes 4-bit layers in bf16 whatever is asked, and "
            "doitune keeps it from that: there, replies may part from those that were scored."
        )
    if otherwise:
        said.append(
            f"{otherwise} of the chats that were compared are cut otherwise by tokenizer.json than by "
            "tokenizer.model, under which it was trained."
        )
    if handed.to == ADAPTER and not handed.base.on_hub:
        said.append("Whether your copy of the base is the one that it was trained on.")
    return said


def _of_run(handed: Handed) -> list[str]:
    """What the training leaves open."""
    source = handed.source
    done, data = source.run.done() or {}, source.run.read_json(ORIGIN).get("data")
    said = ["Safety, bias, and whether what it says is true: nobody has looked."]
    if source.template.reads_clock:
        said.append(
            f"The chat template prints the time of its use; training always had {source.template.moment}."
        )
    if leaks := data.get("leaks") if isinstance(data, Mapping) else None:
        said.append(
            f"{leaks} rows that it learned from give away judged questions: those scores are too high."
        )
    if not done:
        said.append("The training had not ended.")
    elif isinstance(done.get("endings"), Mapping) and done["endings"].get("marked"):
        said.append("It has not learned to end its replies.")
    return said
