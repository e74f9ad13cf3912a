"""What rows hold beside questions and answers: system texts, tools and calls of them, thoughts. Under a base's
own chat template a row's ids are those of `apply_chat_template`, and what is trained is what the assistant
says.

The templates behave as well-known ones do (`chat_templates`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import Any

import pytest
from chat_templates import SPECIAL, TEMPLATES
from test_prompt import level_tokenizer

from doitune.data.message import Message
from doitune.data.turns import read_messages
from doitune.errors import DataError, ModelError
from doitune.prompt.encode import encode_all, encode_question
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.law import prove_law
from doitune.prompt.speech import Thinking
from doitune.prompt.template import Template, open_template

Row = dict[str, Any]
MOMENT = "2025-03-01T09:30:00"


@cache
def template(name: str, thinking: Thinking = "auto") -> Template:
    from dataclasses import replace

    tokenizer = level_tokenizer(special=SPECIAL)
    tokenizer.chat_template = TEMPLATES[name]
    opened = open_template(
        tokenizer, kind="model", tokens="reuse", vocabulary_rows=len(tokenizer), moment=MOMENT
    )
    return replace(opened, thinking=thinking)


def turn(role: str, content: str | None, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def call(name: str, number: int = 0, **arguments: Any) -> Row:
    return {
        "id": f"call{number:05d}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
CALLED = [
    turn("user", "How is it in 杭州?"),
    turn("assistant", None, tool_calls=[call("weather", place="杭州", days=2)]),
    turn("tool", '{"sky": "rain"}', tool_call_id="call00000"),
    turn("assistant", "It rains."),
]
TWICE = [
    turn("user", "And both?"),
    turn("assistant", None, tool_calls=[call("weather", 0, place="北京"), call("weather", 1, place="Oslo")]),
    turn("tool", '"sun"', tool_call_id="call00000"),
    turn("tool", '"snow"', tool_call_id="call00001"),
    turn("assistant", "Sun and snow."),
]
PLAIN = [turn("user", "1+1=?"), turn("assistant", "2"), turn("user", "2+2=?"), turn("assistant", "4")]
THOUGHT = "<think>\nTwo and two.\n</think>\n\n4"

ROWS: dict[str, Row] = {
    "plain": {"messages": PLAIN},
    "system": {"messages": [turn("system", "You are brief."), *PLAIN]},
    "not learnt": {"messages": [PLAIN[0], {**PLAIN[1], "train": False}, *PLAIN[2:]]},
    "parts": {"messages": [turn("user", [{"type": "text", "text": "1+"}, {"type": "text", "text": "1"}]), PLAIN[1]]},  # type: ignore[arg-type]
    "calls": {"messages": CALLED, "tools": [TOOL]},
    "two calls": {"messages": TWICE, "tools": [TOOL]},
    "ends with a call": {"messages": CALLED[:2], "tools": [TOOL]},
    "system and calls": {"messages": [turn("system", "Be kind."), *CALLED], "tools": [TOOL]},
    "thoughts": {"messages": [*PLAIN[:3], turn("assistant", THOUGHT)]},
    "earlier thoughts": {"messages": [PLAIN[0], turn("assistant", "<think>\nEasy.\n</think>\n\n2"), *PLAIN[2:]]},
    "a field of thoughts": {"messages": [*PLAIN[:3], turn("assistant", "4", reasoning_content="Two and two.")]},
    "thoughts and calls": {"messages": [CALLED[0], {**CALLED[1], "reasoning_content": "Ask."}, *CALLED[2:]], "tools": [TOOL]},
}  # fmt: skip

REFUSED = {
    ("gemma", "calls"): "which the base's own chat template does not write",
    ("gemma", "two calls"): "has `tools`",
    ("gemma", "ends with a call"): "has `tools`",
    ("gemma", "system and calls"): "has `tools`",
    ("gemma", "thoughts and calls"): "has `tools`",
    ("llama3.1", "two calls"): "one call at a time",
    ("llama3.1", "thoughts and calls"): "leaves something of this turn out, which calls tools",
    ("mistral", "thoughts and calls"): "leaves something of this turn out, which calls tools",
    ("as text", "thoughts and calls"): "leaves something of this turn out, which calls tools",
}
"""What a template cannot write is said, with the row."""

PAIRS = [(name, row) for name in TEMPLATES for row in ROWS]


def given(messages: Sequence[Message], raw: Row, known: Template) -> list[Row]:
    """The row as a user of the library would give it to this template: by hand, not by our code."""
    turns = [{key: value for key, value in one.items() if key != "train"} for one in raw["messages"]]
    for one in turns:
        if isinstance(one["content"], list):
            one["content"] = "\n".join(part["text"] for part in one["content"])
    if turns[0]["role"] == "system" and name_of(known) in ("gemma", "mistral"):
        turns[1]["content"] = turns[0]["content"] + "\n\n" + turns[1]["content"]
        del turns[0]
    for one in turns:
        if name_of(known) != "qwen3" and (thought := one.pop("reasoning_content", "")):
            one["content"] = f"<think>\n{thought}\n</think>\n\n{one['content'] or ''}".strip()
        if name_of(known) == "as text":
            for made in one.get("tool_calls", ()):
                made["function"] = {
                    **made["function"],
                    "arguments": json.dumps(made["function"]["arguments"], ensure_ascii=False),
                }
    return turns


def name_of(known: Template) -> str:
    return next(name for name, text in TEMPLATES.items() if text == known.tokenizer.chat_template)


def trained_texts(whole: Encoded, known: Template) -> list[str]:
    """The trained parts as text, control tokens and all."""
    runs = groupby(zip(whole.ids, whole.labels, strict=True), lambda pair: pair[1] != IGNORED)
    return [known.tokenizer.decode([token for token, _ in run]) for trained, run in runs if trained]


@pytest.mark.parametrize(("name", "row"), PAIRS)
def test_ids_are_the_template_s_and_what_is_trained_is_what_the_assistant_says(name: str, row: str) -> None:
    """Traps: a tool's result that is learnt, a call that is not; a system text that is dropped; arguments in
    quotes within quotes; thoughts that were never rendered."""
    known, raw = template(name), json.loads(json.dumps(ROWS[row]))
    messages = read_messages(raw)
    if problem := REFUSED.get((name, row)):
        with pytest.raises((DataError, ModelError)) as caught:
            prove_law([messages], encode_all([messages], known, ["a.jsonl:7"]), known, ["a.jsonl:7"])
        assert problem in str(caught.value) and caught.value.problems[0].place == "a.jsonl:7"
        return
    (whole,) = encode_all([messages], known, ["a.jsonl:7"])
    prove_law([messages], [whole], known, ["a.jsonl:7"])
    turns, tools = given(messages, raw, known), raw.get("tools")
    text = rendered(known, turns, tools)
    ids = known.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert list(whole.ids) == ids[: len(whole.ids)]
    assert known.tokenizer.decode(ids[len(whole.ids) :]).strip() == "", "only what follows the last end"
    asked = rendered(known, turns[:-1], tools, opened=True)
    assert (
        list(encode_question(messages[:-1], known))
        == known.tokenizer(asked, add_special_tokens=False)["input_ids"]
    )
    assert trained_texts(whole, known) == by_masks(known, turns, tools, raw)


def rendered(known: Template, turns: list[Row], tools: Any, *, opened: bool = False) -> str:
    """By transformers, at our moment."""
    text = known.tokenizer.chat_template.replace("strftime_now('%d %b %Y')", "'01 Mar 2025'")
    return str(
        known.tokenizer.apply_chat_template(
            turns, tools=tools, chat_template=text, tokenize=False, add_generation_prompt=opened
        )
    )


def by_masks(known: Template, turns: list[Row], tools: Any, raw: Row) -> list[str]:
    """The assistant's parts, found another way: each stretch between an opening of its turn and the next end,
    in the text of the whole."""
    opens, end = MARKS[name_of(known)]
    text = rendered(known, turns, tools)
    parts = [part.partition(end)[0] + end for part in text.split(opens)[1:]]
    answers = [one for one in raw["messages"] if one["role"] == "assistant"]
    if name_of(known) == "mistral":  # has no mark of its own before an answer: all but what is in brackets
        parts = mistral_parts(text)
    assert len(parts) == len(answers)
    return [part for part, one in zip(parts, answers, strict=True) if one.get("train", True)]


MARKS = {
    "qwen2.5": ("<|im_start|>assistant\n", "<|im_end|>"),
    "qwen3": ("<|im_start|>assistant\n", "<|im_end|>"),
    "llama3.1": ("<|header|>assistant\n\n", "<|eot|>"),
    "gemma": ("<turn>model\n", "</turn>"),
    "mistral": ("[/INST]", "</s>"),
    "as text": ("<|header|>A", "</s>"),
}


def mistral_parts(text: str) -> list[str]:
    parts = []
    for piece in text.split("</s>")[:-1]:
        parts.append(piece.rpartition("[/INST]")[2].rpartition("[/RESULTS]")[2] + "</s>")
    return parts
