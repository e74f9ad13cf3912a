"""Own rows in the forms of other trainers become the same examples, or say why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doitune.data.corpus import open_corpus
from doitune.data.example import Message
from doitune.data.other_formats import OwnForm, RowForm
from doitune.errors import DataError

TURNS = [("user", "鲸是鱼吗"), ("assistant", "不是"), ("user", "那是什么\n选一个"), ("assistant", "哺乳动物")]
MESSAGES = {"messages": [{"role": role, "content": text} for role, text in TURNS]}
SHAREGPT = {
    "conversations": [{"from": {"user": "human"}.get(role, "gpt"), "value": text} for role, text in TURNS]
}
ALPACA = {"instruction": "那是什么", "input": "选一个", "output": "哺乳动物"}


def write(path: Path, *rows: object) -> str:
    """A JSONL file of the rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("form", "row", "turns"),
    [("messages", MESSAGES, TURNS), ("sharegpt", SHAREGPT, TURNS), ("alpaca", ALPACA, TURNS[2:])],
)
def test_the_three_forms_give_the_same_turns(
    tmp_path: Path, form: OwnForm, row: dict[str, object], turns: list[tuple[str, str]]
) -> None:
    path = write(tmp_path / "我的 rows.jsonl", {**row, "ability": "math", "idx": 4})
    (example,) = open_corpus(path, RowForm(form)).read("curated/full")["math"]
    assert example.messages == tuple(Message(role, text) for role, text in turns)  # type: ignore[arg-type]
    assert example.id == "我的 rows/math#4"
    assert list(open_corpus(path, RowForm(form, "math")).read("curated/1000")) == ["math"]


def test_a_folder_of_own_rows_is_one_corpus_with_ids_by_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "mine" / f"{name}.jsonl", ALPACA)
    corpus = open_corpus(str(tmp_path / "mine"), RowForm("alpaca", "law"))
    assert corpus.sources() == ("curated/1000", "curated/full")
    examples = corpus.read("curated/full")["law"]
    assert len(examples) == 2 and len({example.id for example in examples}) == 2
    assert {example.source for example in examples} == {"mine/a", "mine/b"}
    assert list(corpus.sha256("curated/full")) == ["a.jsonl", "b.jsonl"]


def test_an_empty_input_adds_no_line(tmp_path: Path) -> None:
    rows = [{**ALPACA, "input": " "}, {"instruction": "那是什么", "output": "x"}, {**ALPACA, "input": None}]
    examples = open_corpus(write(tmp_path / "x.jsonl", *rows), RowForm("alpaca", "law")).read("curated/full")[
        "law"
    ]
    assert [example.messages[0].content for example in examples] == ["那是什么"] * 3


@pytest.mark.parametrize(
    ("form", "ability", "row", "problem"),
    [
        ("messages", "law", ALPACA, "no `messages`"),
        (
            "messages",
            "law",
            {"messages": [{"role": "tool", "content": "x"}] * 2},
            "turn 1 is a tool's result, but no call stands before it",
        ),
        ("alpaca", "law", MESSAGES, "`instruction` is missing, not a text"),
        ("alpaca", "law", {**ALPACA, "output": 3}, "`output` is 3, not a text"),
        ("alpaca", "law", {**ALPACA, "output": " "}, "turn 2 says nothing (' ')"),
        ("alpaca", "law", {**ALPACA, "input": ["x"]}, "`input` is ['x'], not a text"),
        ("alpaca", "law", {**ALPACA, "history": [["a"]]}, "`history` is [['a']], not a list of pairs"),
        ("alpaca", "law", {**ALPACA, "system": ["你是"]}, "`system` is ['你是'], not a text"),
        (
            "alpaca",
            "law",
            {**ALPACA, "ability": "math"},
            "`ability` is 'math', but every row was declared law",
        ),
        ("alpaca", "", {**ALPACA, "ability": 1}, "`ability` is 1, not a name"),
        ("sharegpt", "law", ALPACA, "`conversations` is missing, not a list of turns"),
        ("sharegpt", "law", {"conversations": ["x"]}, "turn 1 is 'x', not an object"),
        (
            "sharegpt",
            "law",
            {"conversations": [{"from": "narrator", "value": "x"}]},
            "`from` of turn 1 is 'narrator'",
        ),
        ("sharegpt", "law", {"conversations": [{"value": "x"}]}, "`from` of turn 1 is missing"),
        (
            "sharegpt",
            "law",
            {"conversations": [{"from": "human", "value": None}] * 2},
            "the content of turn 1 is null, not a text",
        ),
        (
            "sharegpt",
            "law",
            {"conversations": [{"from": "system", "value": "y"}, *SHAREGPT["conversations"]], "system": "x"},
            "`system` of the row and a system turn: two system texts",
        ),
        (
            "sharegpt",
            "law",
            {"conversations": SHAREGPT["conversations"][1:]},
            "turn 1 is the assistant's, the user's is due",
        ),
    ],
)
def test_a_row_that_the_form_has_no_place_for_is_refused(
    tmp_path: Path, form: OwnForm, ability: str, row: object, problem: str
) -> None:
    path = write(tmp_path / "x.jsonl", row)
    with pytest.raises(DataError) as caught:
        open_corpus(path, RowForm(form, ability)).read("curated/full")
    assert str(caught.value) == f"{path}:1: {problem}"
    assert caught.value.hint


def test_a_folder_without_rows_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of rows in the folder"):
        open_corpus(str(tmp_path), RowForm("alpaca", "law"))
