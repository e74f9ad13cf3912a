"""A run as GGUF files: 100 prompts of its validation rows in llama.cpp, beside the merged model in transformers.
    python tests/bench/bench_export_answers.py RUN_FOLDER OUT [--quants f16,q8_0] [--prompts 100] [--tokens 32]

The export itself is made, or recognised, and its own figures are printed (likeliest tokens, divergence, paired score). Target:
prompt ids equal in all, the whole greedy answer of the F16 file equal in 98 of 100.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.backends.llama_cpp import LlamaCppModel, running
from doitune.base.folder import find_whole
from doitune.console.export import show_gguf
from doitune.export.gguf.export import Files, export_gguf
from doitune.export.gguf.measure import ROOM_TOKENS
from doitune.export.measure import Listener
from doitune.export.merged import Wish
from doitune.export.source import Source, open_source
from doitune.export.tokenizer import exported_template, rendered_text
from doitune.prepare.draw import recipe_corpus, validation_rows
from doitune.prompt.encode import encode_question
from doitune.run.find import find_run
from doitune.run.model import load_model
from doitune.run.places import at_its_corpus

WANTED = 0.98


@dataclass(frozen=True)
class Asked:
    """A prompt: its text by the exported template, and the ids that training gave it."""

    text: str
    ids: tuple[int, ...]


def prompts(source: Source, merged: Path, count: int) -> list[Asked]:
    """Of the run's validation rows, in turn from each ability."""
    section = at_its_corpus(source.run, source.recipe).data
    found = [list(rows) for rows in validation_rows(recipe_corpus(section), count, section.seed).values()]
    rows = [group[turn] for turn in range(count) for group in found if turn < len(group)][:count]
    template = exported_template(merged, source.template)
    return [
        Asked(
            rendered_text(template, row.messages[:-1], True),
            encode_question(row.messages[:-1], source.template),
        )
        for row in rows
    ]


def answers_of_merged(
    source: Source, merged: Path, asked: Sequence[Asked], tokens: int
) -> list[tuple[int, ...]]:
    """Greedy ids of the merged folder, loaded back as anybody loads it."""
    model_section = source.recipe.model.model_copy(
        update={"quantise": "none", "name": str(merged), "revision": ""}
    )
    _, model = load_model(
        source.recipe.model_copy(update={"model": model_section}), find_whole(merged), 0, training=False
    )
    with model.without_adapter():
        replies = [
            model.generate([one.ids], max_new_tokens=tokens, stop_ids=source.template.stop_ids)[0]
            for one in asked
        ]
    return [tuple(reply.ids) for reply in replies]


def compare(
    path: Path, source: Source, asked: Sequence[Asked], wanted: Sequence[tuple[int, ...]], tokens: int
) -> tuple[int, int, int]:
    """Prompts with equal ids, answers with an equal first token, and equal whole answers."""
    with running(path, source.recipe.train.max_tokens + ROOM_TOKENS) as server:
        rows = find_whole(path.parent.parent / "merged").size("vocabulary")
        model = LlamaCppModel(server, source.template.tokenizer, rows)
        equal = sum(
            tuple(server.ask("tokenize", content=one.text, add_special=False, parse_special=True)["tokens"])
            == tuple(one.ids)
            for one in asked
        )
        replies = [
            tuple(model.generate([one.ids], max_new_tokens=tokens, stop_ids=source.template.stop_ids)[0].ids)
            for one in asked
        ]
    pairs = list(zip(replies, wanted, strict=True))
    return equal, sum(a[:1] == b[:1] for a, b in pairs), sum(a == b for a, b in pairs)


def main(given: Any) -> None:
    """Export, ask, print; exit 1 where a target is missed."""
    source, quants = (
        open_source(find_run(str(given.run), given.run.parent), "best"),
        tuple(given.quants.split(",")),
    )
    made = export_gguf(
        Files(Wish(source.run, given.out, questions=given.questions), quants, llama_cpp=given.llama_cpp),
        Listener(note=print),
    )
    show_gguf(made)
    merged = made.folder.parent / "merged"
    asked = prompts(source, merged, given.prompts)
    assert asked, "the run has no validation rows"
    wanted = answers_of_merged(source, merged, asked, given.tokens)
    missed = []
    for kind in quants:
        ids, first, whole = compare(made.folder / f"model-{kind}.gguf", source, asked, wanted, given.tokens)
        print(
            f"{kind}: of {len(asked)} prompts {ids} with equal ids, {first} with an equal first token, {whole} with an equal answer",
            flush=True,
        )
        if ids < len(asked) or (kind == "f16" and whole < WANTED * len(asked)):
            missed.append(kind)
    print(f"TARGET MISSED by {', '.join(missed)}" if missed else "target met")
    sys.exit(bool(missed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--quants", default="f16,q8_0")
    parser.add_argument("--llama-cpp", type=Path, help="a folder with llama-quantize, for k-quants")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--questions", type=int, default=200)
    main(parser.parse_args())
