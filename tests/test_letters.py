"""Letters that a tokenizer writes as several tokens are scored by all of them; those that it cannot tell apart
are refused before a model is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_tiny_base
from forked import Desk
from test_evals_prefixes import LETTERS, replies, with_examples
from tiny_evals import tiny
from tokenizers import pre_tokenizers

from doitune.data.example import Message
from doitune.errors import ModelError
from doitune.evals.ask import Limits, cut
from doitune.evals.evaluate import evaluate
from doitune.evals.letters import answer_room, one_each, sequence_scores
from doitune.evals.prompts import prepare
from doitune.evals.saved import read_manifest
from doitune.evals.task import Item, Task
from doitune.prompt.encode import encode, encode_question, option_ids
from doitune.prompt.template import Template

MIXED = ("A", "BC", "甲", "乙")
"""Sequences that part at the second, third or fourth token, and are of different lengths."""


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Template]:
    """The tiny model with a tokenizer that puts a blank of its own before each text: `A` is `Ġ`, `A`."""
    model, template = tiny()
    template.tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return model, template


def by_hand(model: Any, template: Template, item: Item) -> list[float]:
    """Each option's sum of log-probabilities: one whole forward for each, by transformers alone."""
    start, found = len(encode_question(item.question, template)), []
    for letter in item.options:
        ids = encode((*item.question, Message("assistant", letter)), template).ids[:-1]
        with torch.no_grad():
            said = model.base(torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
        found.append(sum(float(said[place - 1, ids[place]]) for place in range(start, len(ids))))
    return found


@pytest.mark.parametrize("options", [LETTERS, MIXED], ids=["one blank first", "mixed"])
def test_the_score_is_the_sum_of_all_tokens_however_it_is_asked(
    loaded: tuple[Any, Template], options: tuple[str, ...]
) -> None:
    """Trap: the first tokens are all the same, and a score of them is a tie."""
    model, template = loaded
    items = [replace(item, options=options, label=options[0], bare=False) for item in with_examples(8)]
    sequences = option_ids(options, items[0].question, template)
    assert not one_each(sequences) and len({one[0] for one in sequences}) == 1
    together = Limits(batch_tokens=2000)
    assert any(batch[0].shared and len(batch) > 1 for batch in cut(prepare(items, template), together))
    shared = replies(model, template, items, together)
    alone = replies(model, template, items, Limits(exact=True))
    for item in items:
        wanted = by_hand(model, template, item)
        assert max(wanted) - min(wanted) > 0.01, "the model prefers one"
        assert shared[item.id].option_scores == pytest.approx(wanted, abs=1e-5)
        assert alone[item.id].option_scores == pytest.approx(wanted, abs=1e-5)


def test_one_token_each_is_asked_as_ever() -> None:
    """The sum over one token is its logit but for a constant of the question: verdicts are the same."""
    model, template = tiny()
    for item in with_examples(4):
        prompt = encode_question(item.question, template)
        sequences = option_ids(LETTERS, item.question, template)
        assert one_each(sequences) and answer_room(sequences) == 0
        (sums,) = sequence_scores(model, template, [prompt], sequences)
        logits = replies(model, template, [item], Limits())[item.id].option_scores
        gaps = [a - b for a, b in zip(sums, logits, strict=True)]
        assert max(gaps) - min(gaps) < 1e-5


def test_written_choices_and_bare_letters_go_on_beside_it(loaded: tuple[Any, Template]) -> None:
    model, template = loaded
    item = with_examples(1)[0]
    wanted = by_hand(model, template, item)
    reply = replies(model, template, [replace(item, way="write", max_new_tokens=4)], Limits())[item.id]
    assert reply.option_scores == pytest.approx(wanted, abs=1e-5) and reply.released_scores == ()
    asked = replies(model, template, [item], Limits())[item.id]
    assert asked.option_scores == pytest.approx(wanted, abs=1e-5)
    with torch.no_grad():
        logits = model.base(torch.tensor([encode_question(item.question, template)])).logits[0, -1]
    bare = template.tokenizer.convert_tokens_to_ids(list(LETTERS))
    assert asked.released_scores == pytest.approx(logits[bare].tolist(), abs=1e-4)


def test_a_prompt_whose_letters_pass_the_context_is_too_long(loaded: tuple[Any, Template]) -> None:
    """Trap: a letter's own tokens, behind the last place that the model can read."""
    _, template = loaded
    item = replace(with_examples(1)[0], fewer=None, shots=0)
    room = answer_room(option_ids(LETTERS, item.question, template))
    whole = len(encode_question(item.question, template)) + room
    assert room == 2 and [prepare([item], template, size)[0].too_long for size in (whole, whole - 1)] == [
        False,
        True,
    ]


def test_the_evaluation_records_every_token(loaded: tuple[Any, Template], tmp_path: Path) -> None:
    model, template = loaded
    items = tuple(with_examples(2))
    evaluate(model, template, Task("cmmlu", items, shots=3), tmp_path, identity={"base": "tiny"})
    manifest = read_manifest(tmp_path)
    assert manifest is not None and manifest.option_ids == {}
    assert manifest.option_tokens == dict(
        zip(LETTERS, option_ids(LETTERS, items[0].question, template), strict=True)
    )
    same = Task("cmmlu", (replace(items[0], options=("A", "A")),), shots=3)
    with pytest.raises(ModelError, match="cannot be told apart"):
        evaluate(model, template, same, tmp_path / "same", identity={"base": "tiny"})


def rewrite(base: Path, **parts: Any) -> None:
    """Replace parts of a base's tokenizer.json."""
    path = base / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, **parts}), encoding="utf-8")


BLANK_FIRST = {
    "normalizer": {"type": "Prepend", "prepend": "▁"},
    "decoder": {
        "type": "Sequence",
        "decoders": [
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        ],
    },
}
"""`A` is the three bytes of `▁`, and `A`."""

ALL_ALIKE = {"normalizer": {"type": "Replace", "pattern": {"Regex": "^[A-D]$"}, "content": "A"}}


@pytest.fixture
def desk(tmp_path: Path, tiny_recipe: Path, tiny_corpus: Path) -> Desk:
    """The tiny recipe on a base whose tokenizer a test may rewrite."""
    made = Desk(tmp_path)
    base = tmp_path / "base"
    make_tiny_base(base)
    text = tiny_recipe.read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("  name:"))
    tiny_recipe.write_text(text.replace(line, f"  name: {base}"), encoding="utf-8")
    made.recipe = tiny_recipe
    return made


def test_such_a_base_is_trained_validated_and_asked(desk: Desk, tiny_corpus: Path) -> None:
    """Trap: every validation failed, the training went on without a score, and eval refused."""
    rewrite(desk.folder / "base", **BLANK_FIRST)
    ended = desk.do(*desk.train("runs"))
    assert ended.code == 0 and "failed" not in ended.said, ended.said
    run = desk.run("runs")
    assert run is not None
    found = [line for line in run.log.lines() if line["event"].startswith("validation")]
    assert len(found) == 2 and all("biology" in line["score_by_ability"] for line in found)
    ended = desk.do("eval", "last", "--suite", "doit-test", "--runs", str(desk.folder / "runs"))
    assert ended.code == 0, ended.said
    for place in (desk.folder / "runs").glob("**/evaluation.json"):
        tokens = json.loads(place.read_text(encoding="utf-8"))["option_tokens"]
        assert sorted(tokens) == list("ABCD") and {len(one) for one in tokens.values()} == {4}
        lines = (place.parent / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
        scores = [one["reply"]["option_scores"] for one in map(json.loads, lines) if one["way"] == "letters"]
        assert len(scores) == 8 and all(len(set(one)) == 4 for one in scores), "no tie"


def test_letters_that_are_the_same_are_refused_before_the_weights_are_read(
    desk: Desk, tiny_corpus: Path
) -> None:
    """Trap: the first validation fails, hours later."""
    base = desk.folder / "base"
    rewrite(base, **ALL_ALIKE)
    weights = base / "model.safetensors"
    content = weights.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    weights.write_bytes(content[:size] + b"\xff" * (len(content) - size))  # no number: loading it is refused
    asked = ("--suite", "doit-test", "--corpus", str(tiny_corpus), "--runs", str(desk.folder / "bases"))
    budget = "data.budget.biology=0"  # no letter is trained
    for command in (desk.train("runs", "--set", budget), ("eval", str(base), *asked)):
        ended = desk.do(*command)
        assert ended.code == 65 and "cannot be told apart" in ended.said, ended.said
        assert "tokenizer that belongs to it" in ended.said.replace("\n", " ")
