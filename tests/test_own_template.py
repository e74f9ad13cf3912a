"""Which turns a model is trained under where nobody named them: its own where it was tuned for chat, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
from transformers import AutoTokenizer

from doitune.backends.tokenizer import load_tokenizer, tokenizer_template
from doitune.base.find import find_base
from doitune.data.example import Message
from doitune.errors import ModelError
from doitune.prompt.encode import encode, encode_question
from doitune.recipe.fields import PromptSection
from doitune.recipe.resolve import resolve
from doitune.train.plan import plan_training

CHAT = (
    "{% for m in messages %}<reserved_0>{{ m.role }}\n{{ m.content }}END{% endfor %}"
    "{% if add_generation_prompt %}<reserved_0>assistant\n{% endif %}"
)
UNLAWFUL = CHAT.replace("<reserved_0>assistant\n", "<reserved_0>assistant\n<think>")


def base_with(folder: Path, tiny_base: Path, template: str, ends: object = None) -> Path:
    copytree(tiny_base, folder)
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "eos_token_id": ends}), encoding="utf-8")
    return folder


TUNED = CHAT.replace("END", "</s>\n")
"""Ends a turn with the tokenizer's own end token."""
OWN_END = CHAT.replace("END", "<reserved_1>\n")
"""Ends a turn with another token, 5."""

CASES = {
    "tuned": (TUNED, None, {}, "model", "it stops where its own chat template ends a turn"),
    "tuned, by generation_config": (OWN_END, [2, 5], {}, "model", "it stops where its own chat template"),
    "a base with a template": (OWN_END, 2, {}, "doit", "does not stop at <reserved_1>"),
    "a base": ("", 2, {}, "doit", "has no chat template of its own"),
    "unlawful": (UNLAWFUL.replace("END", "</s>"), 2, {}, "doit", "does not serve: this base's chat template"),
    "named roles": (TUNED, None, {"user_token": "<reserved_0>"}, "doit", "role tokens are named"),
    "new rows": (TUNED, None, {"tokens": "new"}, "doit", "role tokens are named"),
    "asked for": (TUNED, None, {"template": "doit"}, "doit", ""),
    "own asked for": (TUNED, None, {"template": "model"}, "model", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_the_turns_are_chosen_with_a_reason(tmp_path: Path, tiny_base: Path, name: str) -> None:
    text, ends, more, kind, why = CASES[name]
    base = find_base(str(base_with(tmp_path / "base", tiny_base, text, ends)))
    found = tokenizer_template(base, PromptSection(**more))  # type: ignore[arg-type]
    assert found.kind == kind and why in found.why and bool(found.why) == bool(why)


HABITS = {
    "llama3": (
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|eot_id|>",
    ),
    "gemma": (
        ["<start_of_turn>", "<end_of_turn>"],
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}\n"
        "{{ m.content }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<end_of_turn>",
    ),
    "phi3": (
        ["<|user|>", "<|assistant|>", "<|end|>"],
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        "<|end|>",
    ),
    "gpt_oss": (
        ["<|start|>", "<|channel|>", "<|message|>", "<|return|>"],
        "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
        "<|message|>{{ m.content }}{{ '<|return|>' if loop.last and m.role != 'user' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|return|>",
    ),
    "glm4": (
        ["<|user|>", "<|assistant|>"],
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "<|user|>",
    ),
}
"""How families end a turn: their tokens, a template of that kind, and the token at which they stop."""


@pytest.mark.parametrize("family", HABITS)
def test_a_family_tuned_for_chat_is_known_by_its_habit(tmp_path: Path, tiny_base: Path, family: str) -> None:
    """Traps: gpt-oss's control tokens before an answer, Phi-3's end of text behind the end of a turn. GLM-4
    puts nothing behind an answer: it stops at the next turn's beginning, which is no part of a row."""
    tokens, text, end = HABITS[family]
    folder = base_with(tmp_path / "base", tiny_base, text)
    own = AutoTokenizer.from_pretrained(folder)
    own.add_special_tokens({"additional_special_tokens": tokens})
    own.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    ends = {"eos_token_id": [2, own.convert_tokens_to_ids(end)]}
    (folder / "generation_config.json").write_text(json.dumps(ends), encoding="utf-8")
    found = tokenizer_template(find_base(str(folder)), PromptSection())
    if family == "glm4":
        assert found.kind == "doit" and "puts no end token after an answer" in found.why
        return
    assert found.kind == "model" and "tuned for chat" in found.why, found.why
    assert own.convert_ids_to_tokens(found.end_id) == end
    chat = (Message("user", "1+1=?"), Message("assistant", "2"))
    found = replace(found, rows=0)  # the tiny base has no rows for these tokens
    whole = encode(chat, found)
    assert whole.ids[: len(encode_question(chat[:1], found))] == encode_question(chat[:1], found)
    assert whole.labels[-1] == found.end_id


def test_a_template_that_was_asked_for_is_refused_where_it_does_not_serve(
    tmp_path: Path, tiny_base: Path
) -> None:
    base = find_base(str(base_with(tmp_path / "base", tiny_base, UNLAWFUL.replace("END", "</s>"))))
    with pytest.raises(ModelError, match="breaks the law"):
        tokenizer_template(base, PromptSection(template="model"))


def plan_of(base: Path, corpus: Path, *overrides: str):  # type: ignore[no-untyped-def]
    return plan_training(resolve("own", model=str(base), corpus=str(corpus), overrides=list(overrides)))


def rows_of(path: Path) -> Path:
    turns = [[f"第{n}问", f"第{n}答"] for n in range(30)]
    rows = [
        {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
        for ask, answer in turns
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_one_s_own_rows_keep_a_chat_model_s_turns_and_every_id(tmp_path: Path, tiny_base: Path) -> None:
    """Trap: an instruct model trained under other turn markers than its own, without a word."""
    base = base_with(tmp_path / "base", tiny_base, TUNED)
    corpus = rows_of(tmp_path / "own.jsonl")
    plan = plan_of(base, corpus, "data.holdout=0")
    assert plan.material.template.kind == "model" and len(plan.material.examples) == 30
    tokenizer = load_tokenizer(base)
    for example, encoded in zip(plan.material.examples, plan.material.encoded, strict=True):
        chat = [{"role": turn.role, "content": turn.content} for turn in example.messages]
        whole = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
        assert list(encoded.ids) == whole[: len(encoded.ids)]
        assert tokenizer.decode(whole[len(encoded.ids) :]) in ("", "\n"), "only what follows the last end"
        asked = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, return_dict=False)
        assert list(encode_question(example.question, plan.material.template)) == asked
    assert not [note for note in plan.material.notes if "tuned for chat" in note]
    # a recipe of the paper's keeps the paper's turns, and says what that means for such a model
    said = plan_of(base, corpus, "prompt.template=doit").material.notes
    assert any("prompt.template: doit trains it under other turns" in note for note in said)
    assert resolve("baseline").recipe.prompt.template == "doit"


def test_a_base_says_nothing_of_other_turns(tmp_path: Path, tiny_base: Path) -> None:
    base = base_with(tmp_path / "base", tiny_base, OWN_END, 2)
    plan = plan_of(base, rows_of(tmp_path / "own.jsonl"), "prompt.template=doit")
    assert not [note for note in plan.material.notes if "turns" in note]
    turns = (Message("user", "q"), Message("assistant", "a"))
    assert encode(turns, plan.material.template).trained == 2
