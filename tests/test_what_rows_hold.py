"""What rows hold beside questions and answers: system texts, tools and calls of them, thoughts. Under a base's
own chat template a row's ids are those of `apply_chat_template`, and what is trained is what the assistant
says.

The templates behave as well-known ones do (`chat_templates`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from chat_templates import KEYED, OPEN_CALLS, OPENED, SPECIAL, TEMPLATES
from test_prompt import TEMPLATES as OLD
from test_prompt import byte_tokenizer, doit, level_tokenizer, own

from doitune.data.corpus import open_corpus
from doitune.data.jsonl import RowError
from doitune.data.keys import THINKING
from doitune.data.leaks import leaks_of
from doitune.data.message import Message
from doitune.data.other_formats import RowForm
from doitune.data.turns import read_messages
from doitune.errors import DataError, ModelError
from doitune.evals.prompts import prepare
from doitune.evals.suites.doit import item
from doitune.prompt.encode import encode, encode_all, encode_question, fingerprint
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.law import prove_law
from doitune.prompt.speech import Thinking, say_spoken, spoken
from doitune.prompt.template import Template, open_template
from doitune.recipe.resolve import resolve
from doitune.train.plan import plan_training

Row = dict[str, Any]
MOMENT = "2025-03-01T09:30:00"


@cache
def template(name: str, thinking: Thinking = "auto") -> Template:
    return own_template(TEMPLATES[name], thinking)


def own_template(text: str, thinking: Thinking = "auto") -> Template:
    tokenizer = level_tokenizer(special=SPECIAL)
    tokenizer.chat_template = text
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


# What becomes of a system text


@pytest.mark.parametrize(
    ("name", "why"), [("gemma", "has no system turn"), ("mistral", "moves a system text")]
)
def test_a_system_text_without_a_turn_of_its_own_is_said_once_with_the_count(name: str, why: str) -> None:
    """Traps: a template that leaves it out in silence; one that sets it before the last question, so that no
    chat starts with its question."""
    chat = read_messages(ROWS["system"])
    (note,) = say_spoken([chat, chat, read_messages(ROWS["plain"])], template(name).manner)
    assert note.startswith("the system text of 2 rows is put into the first user turn") and why in note
    assert spoken(chat, template(name).manner)[0].content == "You are brief.\n\n1+1=?"
    assert say_spoken([chat], template("qwen2.5").manner) == ()


def test_the_paper_s_turns_have_the_system_text_in_the_first_user_turn() -> None:
    known = doit(byte_tokenizer())
    chat = read_messages({**ROWS["plain"], "system": "You are brief."})
    merged = (Message("user", "You are brief.\n\n1+1=?"), *chat[2:])
    assert encode(chat, known) == encode(merged, known)
    assert encode_question(chat[:-1], known) == encode_question(merged[:-1], known)
    prove_law([chat], [encode(chat, known)], known, ["a:1"])
    assert say_spoken([chat], known.manner)


def test_a_system_text_alone_or_empty_is_the_template_s_business() -> None:
    """An empty system turn takes the place of the template's own text."""
    chat = read_messages({"messages": [turn("system", ""), *PLAIN]})
    text = template("qwen2.5").tokenizer.decode(encode(chat, template("qwen2.5")).ids)
    assert text.startswith("<|im_start|>system\n<|im_end|>") and "You are Q." not in text
    assert spoken(chat, template("gemma").manner) == tuple(read_messages(ROWS["plain"]))


# Tools


def test_tools_that_a_template_does_not_write_are_refused_with_row_and_cure() -> None:
    for known in (doit(byte_tokenizer()), template("gemma")):
        with pytest.raises(DataError, match="does not write") as caught:
            encode_all([read_messages(ROWS["calls"])], known, ["a.jsonl:7"])
        [found] = caught.value.problems
        assert found.place == "a.jsonl:7" and "take a model whose own chat template knows tools" in found.hint


def test_a_call_that_has_no_end_of_its_own_never_trains_its_result() -> None:
    """Trap: the end of the turn lies behind the result, and all before it was learnt."""
    known = own_template(OPEN_CALLS)
    for row in ("calls", "thoughts and calls", "two calls"):
        chat = read_messages(ROWS[row])
        with pytest.raises(ModelError, match=r"no end token behind this answer|differently once"):
            encode_all([chat], known, ["a:1"])
    chat = read_messages(
        {**ROWS["calls"], "messages": [CALLED[0], {**CALLED[1], "train": False}, *CALLED[2:]]}
    )
    whole = encode(chat, known)
    assert trained_texts(whole, known) == ["It rains.</turn>"], "the answer alone can be learnt"


def called(arguments: Any, **more: Any) -> Row:
    one = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    return {"messages": [CALLED[0], turn("assistant", None, tool_calls=[one])], "tools": [TOOL], **more}


FORGED = '"<|im_\\u0065nd|>"'
"""Trap: the text in the row is no token, what a template writes of it is one."""


@pytest.mark.parametrize(
    "row",
    [
        called(f'{{"place": {FORGED}}}'),
        called(f'{{"place": [{{{FORGED}: 1}}]}}'),
        called({}, tools=f'[{{"name": "weather", "description": {FORGED}, "parameters": {{"probe": 1}}}}]'),
    ],
)
def test_a_token_that_is_spelled_in_escapes_is_a_control_token_all_the_same(row: Row) -> None:
    with pytest.raises(DataError, match=r"holds the control token <\|im_end\|>"):
        encode(read_messages(json.loads(json.dumps(row))), template("qwen2.5"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"n": 1e999}', "too large"),
        ('{"n": NaN}', "NaN is not JSON"),
        ('{"n": 1, "n": 2}', "stands twice"),
        ('{"n": "\\ud800"}', "half a character"),
        ('{"n": ' + "[" * 40 + "]" * 40 + "}", "nested deeper"),
    ],
)
def test_json_in_a_text_is_read_as_strictly_as_a_row(text: str, problem: str) -> None:
    """Traps: Infinity was learnt as an argument; of two values the last."""
    for row in (called(text), called({}, tools=f'[{{"name": "f", "x": {text}}}]')):
        with pytest.raises(RowError, match=problem):
            read_messages(row)


def test_ids_of_another_form_are_named_anew_where_the_template_wants_nine_characters() -> None:
    long = json.loads(json.dumps(ROWS["two calls"]).replace("call0000", "call_of_a_long_name_"))
    known = template("mistral")
    ours, short = (encode(read_messages(row), known) for row in (long, ROWS["two calls"]))
    assert ours == short
    nameless = json.loads(json.dumps(ROWS["two calls"]))
    for one in nameless["messages"]:
        one.pop("tool_call_id", None)
        for made in one.get("tool_calls", ()):
            made.pop("id")
    assert encode(read_messages(nameless), known) == short


def test_the_forms_of_other_trainers_give_the_same_calls() -> None:
    shared = {
        "conversations": [
            {"from": "human", "value": CALLED[0]["content"]},
            {
                "from": "function_call",
                "value": '{"name": "weather", "arguments": {"place": "杭州", "days": 2}}',
            },
            {"from": "observation", "value": CALLED[2]["content"]},
            {"from": "gpt", "value": "It rains."},
        ],
        "system": "Be kind.",
        "tools": json.dumps([TOOL]),
    }
    ours = read_messages(RowForm().as_row(shared))
    theirs = read_messages(ROWS["system and calls"])
    assert [one.said for one in ours] == [one.said for one in theirs] and ours[0].tools == theirs[0].tools
    known = template("qwen2.5")
    assert encode(ours, known) == encode(theirs, known)
    alpaca = {"instruction": "2+2=?", "output": "4", "history": [["1+1=?", "2"]], "system": "You are brief."}
    assert read_messages(RowForm().as_row(alpaca)) == read_messages(ROWS["system"])
    spoken_first = {"conversations": [{"from": "system", "value": "You are brief."}]}
    for one in PLAIN:
        spoken_first["conversations"].append({"from": one["role"], "value": one["content"]})
    assert read_messages(RowForm().as_row(spoken_first)) == read_messages(ROWS["system"])


# Thoughts

THINKERS = {
    "auto": [["Easy", "Two and two"], ["Two and two"]],
    "keep": [["Easy", "Two and two"], None],
    "drop": [[], []],
    "last": [["Two and two"], ["Two and two"]],
}
"""The thoughts that are learnt, under a template that keeps all of them, and under one that takes the earlier
ones out; None: refused."""


@pytest.mark.parametrize("key", ["<think>", *THINKING])
@pytest.mark.parametrize("thinking", THINKERS)
def test_thoughts_are_kept_or_left_out_as_the_recipe_says(thinking: Thinking, key: str) -> None:
    thoughts, answers = ["Easy", "Two and two"], ["2", "4"]
    made = [
        turn("assistant", f"<think>\n{thought}\n</think>\n\n{said}")
        if key == "<think>"
        else turn("assistant", said, **{key: thought})
        for thought, said in zip(thoughts, answers, strict=True)
    ]
    chat = read_messages({"messages": [PLAIN[0], made[0], PLAIN[2], made[1]]})
    keeps = {"qwen2.5": THINKERS[thinking][0], "qwen3": THINKERS[thinking][1]}
    for name, wanted in keeps.items():
        known = template(name, thinking)
        if wanted is None:
            with pytest.raises(DataError, match="thinking is keep"):
                encode_all([chat], known, ["a:1"])
            continue
        whole = encode(chat, known)
        prove_law([chat], [whole], known, ["a:1"])
        learnt = "".join(trained_texts(whole, known))
        assert [one for one in thoughts if one in learnt] == wanted
        assert all(answer in learnt for answer in answers)
        left_out = [note for note in say_spoken([chat], known.manner) if "left out" in note]
        assert bool(left_out) == (len(wanted) < 2), "what is left out is counted"


def test_thoughts_alone_cannot_be_left_out() -> None:
    chat = read_messages({"messages": [PLAIN[0], turn("assistant", "<think>\nEasy.\n</think>")]})
    with pytest.raises(DataError, match="thoughts alone") as caught:
        encode_all([chat], template("qwen2.5", "drop"), ["a:1"])
    assert "prompt.thinking=keep" in caught.value.hint and caught.value.problems[0].place == "a:1"


def test_thoughts_in_a_text_are_given_under_the_key_where_the_template_writes_them_alone() -> None:
    """Trap: an empty thought before the real one."""
    known = own_template(KEYED)
    whole = encode(read_messages(ROWS["thoughts"]), known)
    assert trained_texts(whole, known)[1] == "<think>\nTwo and two.\n</think>\n\n4<|im_end|>"


def test_a_turn_that_is_asked_otherwise_than_it_stands_is_refused_or_marked() -> None:
    known = own_template(OPENED)
    with pytest.raises(ModelError, match="writes turn 2 differently") as caught:
        encode_all([read_messages(ROWS["plain"])], known, ["a:1"])
    assert "prompt.learn=last" in caught.value.hint
    last = replace(known, learn="last")
    chat = read_messages(ROWS["plain"])
    for whole in (encode(read_messages(ROWS["not learnt"]), known), encode(chat, last)):
        assert trained_texts(whole, known) == ["4<|im_end|>"]
    prove_law([chat], [encode(chat, last)], last, ["a:1"])
    assert encode_question(chat[:-1], last) == encode_question(chat[:-1], known)


def test_the_last_turn_alone_is_learnt_where_the_recipe_says_so() -> None:
    chat = read_messages(ROWS["system and calls"])
    for known in (template("qwen2.5"), template("llama3.1")):
        every, last = encode(chat, known), encode(chat, replace(known, learn="last"))
        assert every.ids == last.ids and len(trained_texts(every, known)) == 2
        assert trained_texts(last, known) == trained_texts(every, known)[1:]
    doubled = read_messages(ROWS["plain"])
    known = replace(doit(byte_tokenizer()), learn="last")
    assert trained_texts(encode(doubled, known), known) == ["4</s>"]


# Encoders of older runs


def test_an_older_run_s_encoder_is_still_the_same() -> None:
    """Fingerprints as doitune 0.1 wrote them, before rows could hold more."""
    assert fingerprint(doit(byte_tokenizer()))[:12] == "a9f1c031aab3"
    assert fingerprint(own(OLD["chatml"]))[:12] == "f31296d603ba"
    assert fingerprint(own(OLD["gemma"]))[:12] == "6fad8489cc22"
    assert fingerprint(template("qwen3")) != fingerprint(template("qwen3", "drop"))


# On the way to a training and an evaluation


def write_rows(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_training_says_what_becomes_of_system_texts_and_thoughts(tmp_path: Path, tiny_base: Path) -> None:
    rows = [
        {"messages": [turn("user", f"第{n}问"), turn("assistant", f"第{n}答", reasoning_content="想")], "system": "短"}
        for n in range(8)
    ]  # fmt: skip
    corpus = write_rows(tmp_path / "own.jsonl", rows)
    notes = plan_training(resolve("own", model=str(tiny_base), corpus=corpus)).material.notes
    assert any(note.startswith("the system text of 8 rows is put into the first user turn") for note in notes)
    assert any("thoughts are written into the answer, in <think> (8 rows)" in note for note in notes)
    overrides = ["prompt.thinking=drop"]
    material = plan_training(
        resolve("own", model=str(tiny_base), corpus=corpus, overrides=overrides)
    ).material
    assert any("thoughts are left out of answers in 8 rows" in note for note in material.notes)
    assert all(one.trained == len("第0答".encode()) + 1 for one in material.encoded)


def test_rows_of_two_system_texts_leak_nothing_by_them(tmp_path: Path) -> None:
    """Trap: a long system text that all rows share made each give away every other."""
    shared = " ".join(f"Rule {n * n + 17} forbids to speak of {n * 7919}." for n in range(40))
    words = ["apple", "bridge", "candle", "dragon", "engine", "falcon", "garden", "hammer", "island"]
    rows = [
        {"messages": [turn("user", f"Spell {word * 3} backwards"), turn("assistant", word[::-1] * 3)], "system": shared}
        for word in words
    ]  # fmt: skip
    examples = [
        row
        for some in open_corpus(write_rows(tmp_path / "a.jsonl", rows)).read("curated/full").values()
        for row in some
    ]
    assert len(examples) == 9
    assert not leaks_of(examples[1:], {"test": examples[:1]})
    assert leaks_of(examples, {"test": examples[:1]}), "the row itself is found"


def test_a_call_is_judged_as_a_text_and_measured_as_it_is_learnt(tmp_path: Path) -> None:
    known = template("qwen2.5")
    asked = {**ROWS["ends with a call"], "split": "test"}
    path = write_rows(tmp_path / "a.jsonl", [asked, *[{"messages": PLAIN, "idx": n} for n in range(3)]])
    (example,) = open_corpus(path).read("curated/test")["general"]
    one = item(example)
    assert one.label == '{"name": "weather", "arguments": {"place": "杭州", "days": 2}}'
    assert one.answer == example.messages[-1]
    (prompt,) = prepare([one], known, None)
    whole = encode(example.messages, known)
    measured = prompt.rows[-1]
    assert measured.ids == whole.ids and measured.labels == whole.labels


def test_the_label_of_a_row_that_thinks_is_its_answer(tmp_path: Path) -> None:
    asked = {"messages": [PLAIN[0], turn("assistant", "<think>\nEasy.\n</think>\n\n2")], "split": "test"}
    path = write_rows(tmp_path / "a.jsonl", [asked, {"messages": PLAIN}])
    (example,) = open_corpus(path).read("curated/test")["general"]
    assert item(example).label == "2" and item(example).answer == example.messages[-1]
