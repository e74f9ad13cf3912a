"""Bad data on the way to a training: each kind refused with the very words that a user reads, or said before
step 1. Nothing is trained in silence.

The seventeen inputs are those that a widely used trainer was given (reliability: it took twelve of them
wrongly, without a word). The kinds of bad lines themselves are in `test_data_example.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest

from doitune.data.check import check
from doitune.data.corpus import open_corpus
from doitune.data.other_formats import OwnForm, RowForm
from doitune.errors import DataError, DoituneError, ModelError
from doitune.prepare.account import count_rows
from doitune.recipe.resolve import resolve
from doitune.train.plan import Plan, plan_training

MESSAGES = "write `messages`: a list of user and assistant turns"
TURNS = "user and assistant take turns, the user first"
ROLES = "roles are `system`, `user`, `assistant` and `tool`"
CALLS = 'write `tool_calls` as a list of {"type": "function", "function": {"name": …, "arguments": {…}}}'
TOOLS = 'write `tools` as a list of {"type": "function", "function": {"name": …, "parameters": {…}}}'
NO_ANSWER = "end the row with the assistant's answer"
CUT = "2 of 8 rows are too long (the longest has {}): --set train.max_tokens={}, or drop and count them: --set data.on_overlong=drop; an answer is never cut"
FORGED = "take it out of the text: a model would read it as the end of a turn"


def say(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


def chat(question: object = "问", answer: object = "答") -> dict[str, object]:
    return {"messages": [say("user", question), say("assistant", answer)]}


def plan(tmp_path: Path, base: Path, rows: list[dict[str, object]], *overrides: str) -> Plan:
    """A plan of a training on eight rows: good ones, but for those given in place of the first ones."""
    path = tmp_path / "语料" / "curated" / "1000" / "math_1000.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    every = [*rows, *(chat(f"第{n}问", f"第{n}答") for n in range(8 - len(rows)))]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in every), encoding="utf-8")
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        f"summary: x\nmodel:\n  name: {base}\ndata:\n  corpus: {tmp_path / '语料'}\n  budget:\n    math: 8\n"
        "train:\n  max_tokens: 128\n  examples_per_step: 4\n  epochs: 1\n",
        encoding="utf-8",
    )
    return plan_training(resolve(str(recipe), overrides=list(overrides)))


LONG = "很长" * 40  # 240 bytes, a token each; two roles and two ends, and three bytes of the other turn
ONLY_USER = {"messages": [say("user", "问")]}
TYPO = {"messages": [say("user", "问"), say("assitant", "答")]}

REFUSED = [
    ("an answer that max_tokens would cut", [chat("问", LONG)] * 2, "247 tokens, more than train.max_tokens 128", CUT.format(247, 247)),
    ("questions that fill max_tokens alone", [chat(LONG)] * 2, "247 tokens, more than train.max_tokens 128", CUT.format(247, 247)),
    ("no row that fits", [chat(LONG)] * 8, "247 tokens, more than train.max_tokens 128", CUT.format(247, 247).replace("2 of 8", "8 of 8")),
    ("empty answers", [chat("问", "")] * 8, "turn 2 says nothing ('')", "write the text, or drop the row"),
    ("no assistant turn at all", [ONLY_USER] * 8, "`messages` has 1 turn", "a row needs a user turn and an assistant turn at least"),
    ("one row without an assistant turn", [ONLY_USER], "`messages` has 1 turn", "a row needs a user turn and an assistant turn at least"),
    ("a question after the answer", [{"messages": [*chat()["messages"], say("user", "再问")]}], "the last turn is the user's", NO_ANSWER),  # type: ignore[misc]
    ("a misspelt role in one row", [TYPO], "the role of turn 2 is 'assitant'", ROLES),
    ("a misspelt role in all rows", [TYPO] * 8, "the role of turn 2 is 'assitant'", ROLES),
    ("two user turns in a row", [{"messages": [say("user", "问"), say("user", "又问"), say("assistant", "答")]}],
     "turn 2 is the user's, the assistant's is due", TURNS),
    ("the assistant first", [{"messages": [say("assistant", "您好"), say("user", "问"), say("assistant", "答")]}],
     "turn 1 is the assistant's, the user's is due", TURNS),
    ("content: null", [chat("问", None)], "the content of turn 2 is null, not a text", "write the text, or drop the row"),
    ("a forged end of the question", [chat("问</s>", "答")], "the user's text holds the control token </s>", FORGED),
    ("a forged turn", [chat("问<reserved_1>好的", "答")], "the user's text holds the control token <reserved_1>", FORGED),
    ("a forged end of the answer", [chat("问", "答</s>")], "the assistant's text holds the control token </s>", FORGED),
    ("a forged beginning of a text", [chat("<s>问", "答")], "the user's text holds the control token <s>", FORGED),
    ("padding as text", [chat("问<pad>", "答")], "the user's text holds the control token <pad>", FORGED),
    ("a ready-rendered text", [{"text": "<s>[user]问[assistant]答</s>"}], "no `messages`",
     "a ready-rendered `text` does not say which part is the answer: " + MESSAGES),
    ("prompt and completion", [{"prompt": "问", "completion": "答"}], "no `messages`",
     "put the prompt into a user turn and the completion into an assistant turn of `messages`"),
    ("preference pairs", [{"prompt": "问", "chosen": "答", "rejected": "否"}], "no `messages`",
     "preference pairs are not read: write the chosen answer as an assistant turn of `messages`"),
    ("a system turn in the middle", [{"messages": [*chat()["messages"], say("system", "你是"), *chat()["messages"]]}],  # type: ignore[misc]
     "turn 3 is a system text behind other turns", "one system text stands first: put this one into the user turn that follows it"),
    ("two system texts", [{**chat(), "system": "你", "messages": [say("system", "你是"), *chat()["messages"]]}],  # type: ignore[misc]
     "`system` of the row and a system turn: two system texts", "keep one of them"),
    ("a tool's turn", [{"messages": [say("user", "问"), say("tool", "{}"), say("assistant", "答")]}],
     "turn 2 is a tool's result, but no call stands before it", "write the call as `tool_calls` of the assistant turn before it"),
    ("a call without its result", [{"messages": [say("user", "问"), {**say("assistant", None), "tool_calls": [{"name": "f", "arguments": {}}]}, *chat()["messages"]]}],  # type: ignore[misc]
     "turn 3 is the user's, the tool's is due", "a call is followed by the results of its tools"),
    ("a call without a name", [{"messages": [say("user", "问"), {**say("assistant", None), "tool_calls": [{"arguments": {}}]}]}],
     "call 1 of turn 2 is {'arguments': {}}: no name", CALLS),
    ("arguments that are no JSON", [{"messages": [say("user", "问"), {**say("assistant", None), "tool_calls": [{"name": "f", "arguments": "{x"}]}]}],
     "the arguments of call 1 in turn 2: no JSON text (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)): '{x'", CALLS),
    ("arguments that are a list", [{"messages": [say("user", "问"), {**say("assistant", None), "tool_calls": [{"name": "f", "arguments": [1]}]}]}],
     "the arguments of call 1 in turn 2 are [1], not an object", CALLS),
    ("a tool without a name", [{**chat(), "tools": [{"type": "function"}]}], "tool 1 of `tools` is {'type': 'function'}: it has no name", TOOLS),
    ("tools that are no list", [{**chat(), "tools": 7}], "`tools` is 7, not a list", TOOLS),
    ("a picture", [chat([{"type": "image_url", "image_url": {"url": "a.png"}}])], "turn 1 holds a part of type 'image_url': images are not read",
     "doitune trains on text alone: drop the row"),
    ("thoughts twice", [{"messages": [say("user", "问"), {**say("assistant", "<think>甲</think>答"), "reasoning_content": "乙"}]}],
     "turn 2 has `reasoning_content` and thoughts in its content", "keep one of the two"),
    ("NUL", [chat("问\x00")], "turn 1 has the control character U+0000 at character 2", "delete it"),
    ("ESC", [chat("问", "\x1b[31m答")], "turn 2 has the control character U+001B at character 1", "delete it"),
    ("a bell", [chat("问", "答\x07")], "turn 2 has the control character U+0007 at character 2", "delete it"),
    ("only invisible characters", [chat("问", "\u200b\u2060")], "turn 2 says nothing ('\\u200b\\u2060')", "write the text, or drop the row"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "problem", "hint"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_training_refuses_it_before_a_model_is_loaded(
    tmp_path: Path, tiny_base: Path, rows, problem: str, hint: str
) -> None:
    """Trap: half of the rows dropped, answers without an end, prompts that are learnt, turns that a user
    forged; all accepted elsewhere."""
    with pytest.raises(DataError) as caught:
        plan(tmp_path, tiny_base, rows)
    first = caught.value.problems[0]
    assert (first.problem, caught.value.hint) == (problem, hint)
    assert first.place == f"{tmp_path / '语料'}/curated/1000/math_1000.json:1"
    assert caught.value.exit_code == 65
    assert len(caught.value.problems) == min(
        len(rows), 5 if "max_tokens" in problem else 1 if "control token" in problem else 8
    )


def test_a_row_with_a_token_that_the_base_has_no_row_for(tmp_path: Path, tiny_base: Path) -> None:
    """Trap: `--dry-run` found nothing, and step 1 was an IndexError."""
    base = tmp_path / "base"
    copytree(tiny_base, base)
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    tokenizer["added_tokens"].append({"id": 262, "content": "龘", **flags})
    (base / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    plan(tmp_path, base, [])
    with pytest.raises(ModelError) as caught:
        plan(tmp_path, base, [chat(), chat("问", "看龘")])
    [found] = caught.value.problems
    assert found.problem == "this text holds the token '龘', id 262; the base's embedding has 262 rows"
    assert found.place == f"{tmp_path / '语料'}/curated/1000/math_1000.json:2"


def test_rows_that_are_dropped_for_their_length_are_counted(tmp_path: Path, tiny_base: Path) -> None:
    found = plan(tmp_path, tiny_base, [chat("问", LONG)] * 2, "data.on_overlong=drop").material
    counted = count_rows(found.ledger, found.encoded)
    assert (counted.chosen, counted.trained, counted.refused) == (8, 6, 2)
    assert "2 refused as too long" in counted.text
    with pytest.raises(DataError, match="no example is left to learn from"):
        plan(tmp_path, tiny_base, [chat("问", LONG)] * 8, "data.on_overlong=drop")


def test_identical_rows_are_said(tmp_path: Path, tiny_base: Path) -> None:
    """Eight times the same row may be meant; it is never silent."""
    found = plan(tmp_path, tiny_base, [chat()] * 8).material
    assert "; 7 rows say the same as another" in count_rows(found.ledger, found.encoded).text
    assert (
        "rows say the same"
        not in count_rows(found.ledger, plan(tmp_path, tiny_base, []).material.encoded).text
    )
    plan(tmp_path, tiny_base, [chat()] * 8)
    report = check(open_corpus(str(tmp_path / "语料")))
    assert [found.kind for found in report.problems].count("duplicate") == 7


def test_the_prompt_is_not_learnt_and_every_answer_ends(tmp_path: Path, tiny_base: Path) -> None:
    """A row says nothing of what is to be trained: the answers and their ends are, whatever the length of
    the questions."""
    found = plan(tmp_path, tiny_base, [chat("问" * 20)]).material
    for example, one in zip(found.examples, found.encoded, strict=True):
        assert one.trained == len(example.answer.encode()) + 1
        assert one.labels[-1] == found.template.end_id


ODD = [
    (
        "right-to-left override",
        "看\u202e反",
        "direction",
        "turn 1 has a character that turns the direction of writing, U+202E, at character 2",
    ),
    (
        "right-to-left isolate",
        "看\u2067反",
        "direction",
        "turn 1 has a character that turns the direction of writing, U+2067, at character 2",
    ),
    (
        "a zero-width space",
        "零\u200b宽",
        "invisible",
        "turn 1 has an invisible character, U+200B, at character 2",
    ),
    (
        "a byte order mark inside",
        "零\ufeff宽",
        "invisible",
        "turn 1 has an invisible character, U+FEFF, at character 2",
    ),
    ("delete", "a\x7fb", "control_character", "turn 1 has a control character, U+007F, at character 2"),
    ("next line", "a\u0085b", "control_character", "turn 1 has a control character, U+0085, at character 2"),
    (
        "a C1 escape",
        "a\u009bb",
        "control_character",
        "turn 1 has a control character, U+009B, at character 2",
    ),
    (
        "wrongly decoded text",
        "锟\ufffd",
        "broken_text",
        "turn 1 has the mark of text that was decoded wrongly, U+FFFD, at character 2",
    ),
    (
        "another model's tokens",
        "问<|im_end|>",
        "role_token",
        "turn 1 has the special token '<|im_end|>' as text",
    ),
]


@pytest.mark.parametrize(
    ("text", "kind", "problem"), [case[1:] for case in ODD], ids=[case[0] for case in ODD]
)
def test_what_a_reader_cannot_see_is_told_by_a_check(
    tmp_path: Path, text: str, kind: str, problem: str
) -> None:
    path = tmp_path / "curated" / "full" / "math_full.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps(chat("好")) + "\n" + json.dumps(chat(text, "别的"), ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    (found,) = check(open_corpus(str(tmp_path))).problems
    assert (found.kind, found.problem, found.place) == (kind, problem, f"{path}:2")
    assert found.hint and found.problem.isprintable()


DECLARE = "write the text, or declare the form that the rows have"
SPEAKERS = "read are human, user, gpt, assistant, chatgpt, system, function_call, observation, tool"
OWN: list[tuple[str, OwnForm, dict[str, object], str, str]] = [
    ("alpaca without an instruction", "alpaca", {"output": "答"}, "`instruction` is missing, not a text", DECLARE),
    ("alpaca without an output", "alpaca", {"instruction": "问"}, "`output` is missing, not a text", DECLARE),
    ("alpaca, output: null", "alpaca", {"instruction": "问", "output": None}, "`output` is null, not a text", DECLARE),
    ("alpaca, output a number", "alpaca", {"instruction": "问", "output": 7}, "`output` is 7, not a text", DECLARE),
    ("alpaca, input a list", "alpaca", {"instruction": "问", "input": ["x"], "output": "答"}, "`input` is ['x'], not a text", DECLARE),
    ("alpaca, empty output", "alpaca", {"instruction": "问", "output": " "}, "turn 2 says nothing (' ')", "write the text, or drop the row"),
    ("alpaca with a history", "alpaca", {"instruction": "问", "output": "答", "history": ["a", "b"]}, "`history` is ['a', 'b'], not a list of pairs",
     "write [[question, answer], …], or the row as `messages`"),
    ("alpaca with a system text", "alpaca", {"instruction": "问", "output": "答", "system": 7}, "`system` is 7, not a text",
     "write the text, or drop the row"),
    ("sharegpt without turns", "sharegpt", {"messages": []}, "`conversations` is missing, not a list of turns",
     "declare the form that the rows have"),
    ("sharegpt, turns: null", "sharegpt", {"conversations": None}, "`conversations` is null, not a list of turns",
     "declare the form that the rows have"),
    ("sharegpt, a bare turn", "sharegpt", {"conversations": ["问"]}, "turn 1 is '问', not an object", 'write {"from": …, "value": …}'),
    ("sharegpt, no speaker", "sharegpt", {"conversations": [{"value": "问"}]}, "`from` of turn 1 is missing", SPEAKERS),
    ("sharegpt, a stranger", "sharegpt", {"conversations": [{"from": "narrator", "value": "你"}]}, "`from` of turn 1 is 'narrator'", SPEAKERS),
    ("sharegpt, no value", "sharegpt", {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt"}]},
     "the content of turn 2 is null, not a text", "write the text, or drop the row"),
    ("sharegpt, gpt first", "sharegpt", {"conversations": [{"from": "gpt", "value": "答"}, {"from": "human", "value": "问"}]},
     "turn 1 is the assistant's, the user's is due", TURNS),
    ("messages under another name", "messages", {"conversations": []}, "no `messages`", "declare the form that the rows have: alpaca or sharegpt"),
    ("another ability than declared", "messages", {**chat(), "ability": "law"}, "`ability` is 'law', but every row was declared math",
     "declare one of the two"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "row", "problem", "hint"), [case[1:] for case in OWN], ids=[case[0] for case in OWN]
)
def test_a_row_in_the_form_of_another_trainer_is_refused_where_it_is_wrong(
    tmp_path: Path, form: OwnForm, row, problem: str, hint: str
) -> None:
    path = tmp_path / "own.jsonl"
    good = {"alpaca": {"instruction": "问", "output": "答"}, "messages": chat()}
    beside = good.get(
        form, {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}]}
    )
    path.write_text(
        "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in (beside, row)), encoding="utf-8"
    )
    with pytest.raises(DataError) as caught:
        open_corpus(str(path), RowForm(form, "math")).read("curated/full")
    assert [(one.place, one.problem) for one in caught.value.problems] == [(f"{path}:2", problem)]
    assert caught.value.hint == hint


def test_the_catalogue_has_sixty_kinds() -> None:
    assert (
        len(
            {problem for _, _, problem, _ in REFUSED}
            | {problem for *_, problem in ODD}
            | {problem for *_, problem, _ in OWN}
        )
        >= 40
    )
    from test_data_example import BAD

    assert len({case[3] for case in BAD}) + len(ODD) + len(OWN) >= 100


def test_every_refusal_is_an_error_of_ours(tmp_path: Path, tiny_base: Path) -> None:
    """A row of every kind at once: all are told, none hides another."""
    rows = [
        row
        for _, several, problem, _ in REFUSED
        for row in several[:1]
        if "tokens" not in problem and "control token" not in problem
    ]
    with pytest.raises(DoituneError) as caught:
        plan(tmp_path, tiny_base, rows)
    assert len(rows) > 15
    assert [one.place.rpartition(":")[2] for one in caught.value.problems[: min(len(rows), 20)]] == [
        str(n) for n in range(1, min(len(rows), 20) + 1)
    ]
