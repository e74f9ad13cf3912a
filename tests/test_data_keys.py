"""What other trainers write into a row beside its text is obeyed, refused or named, never dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doitune.data.corpus import open_corpus
from doitune.data.example import Example
from doitune.data.keys import LEARNT, name_unread
from doitune.data.other_formats import OwnForm, RowForm
from doitune.errors import DataError

ASKED = {"role": "user", "content": "2+2=?"}
WRONG, RIGHT = {"role": "assistant", "content": "5"}, {"role": "assistant", "content": "4"}


def read(
    path: Path, row: dict[str, Any], form: OwnForm = "messages", source: str = "curated/full"
) -> Example:
    """The only row of a file."""
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (example,) = open_corpus(str(path), RowForm(form, "math")).read(source)["math"]
    return example


def refusal(path: Path, row: dict[str, Any], form: OwnForm = "messages", source: str = "curated/full") -> str:
    with pytest.raises(DataError) as caught:
        read(path, row, form, source)
    (problem,) = caught.value.problems
    assert problem.place == f"{path}:1" and problem.hint
    return problem.problem


@pytest.mark.parametrize("key", LEARNT)
@pytest.mark.parametrize("value", [0, False, 0.0])
def test_a_turn_marked_as_not_learnt_stands_there_untrained(tmp_path: Path, key: str, value: object) -> None:
    turns = [ASKED, {**WRONG, key: value}, ASKED, {**RIGHT, key: 1}]
    example = read(tmp_path / "x.jsonl", {"messages": turns})
    assert [(turn.content, turn.learnt) for turn in example.messages if turn.role == "assistant"] == [
        ("5", False),
        ("4", True),
    ]


def test_sharegpt_turns_carry_their_marks(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "2+2=?"},
        {"from": "gpt", "value": "5", "weight": 0},
        {"from": "human", "value": "2+2=?"},
        {"from": "gpt", "value": "4", "weight": 1},
    ]
    example = read(tmp_path / "x.jsonl", {"conversations": turns}, "sharegpt")
    assert [turn.learnt for turn in example.messages[1::2]] == [False, True]


def test_turns_behind_the_last_learnt_one_are_left_out(tmp_path: Path) -> None:
    """They stand before nothing that is trained; trained they would be what their author did not want."""
    example = read(tmp_path / "x.jsonl", {"messages": [ASKED, RIGHT, ASKED, {**WRONG, "weight": 0}]})
    assert [turn.content for turn in example.messages] == ["2+2=?", "4"]


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        ([ASKED, {**RIGHT, "weight": 0.5}], "neither 0 nor 1"),
        ([ASKED, {**RIGHT, "loss": "no"}], "neither 0 nor 1"),
        ([ASKED, {**RIGHT, "loss": True, "train": False}], "disagree"),
        ([{**ASKED, "train": True}, RIGHT], "the user's and is marked to be learnt"),
        ([ASKED, {**RIGHT, "train": False}], "every assistant turn is marked as not learnt"),
    ],
)
def test_marks_that_cannot_be_obeyed_are_refused(tmp_path: Path, turns: list[Any], said: str) -> None:
    assert said in refusal(tmp_path / "x.jsonl", {"messages": turns})


def test_an_answer_that_is_compared_cannot_be_marked_as_not_learnt(tmp_path: Path) -> None:
    row = {"messages": [ASKED, {**RIGHT, "weight": 0}], "split": "test", "question_format": 0, "answer": "4"}
    assert "the answer compared" in refusal(tmp_path / "x.jsonl", row, source="curated/test")


@pytest.mark.parametrize(
    "more",
    [
        {"System": "Be brief."},
        {"system_prompt": "Be brief."},
        {"tools": [{"type": "function"}]},
        {"functions": [{"name": "add"}]},
        {"images": ["a.png"]},
        {"weight": 0},
        {"weight": 0.3},
        {"loss_mask": [0, 1]},
    ],
)
@pytest.mark.parametrize("form", ["messages", "sharegpt", "alpaca"])
def test_a_row_key_that_carries_meaning_is_refused(
    tmp_path: Path, form: OwnForm, more: dict[str, Any]
) -> None:
    rows: dict[OwnForm, dict[str, Any]] = {
        "messages": {"messages": [ASKED, RIGHT]},
        "sharegpt": {"conversations": [{"from": "human", "value": "2+2=?"}, {"from": "gpt", "value": "4"}]},
        "alpaca": {"instruction": "2+2=?", "output": "4"},
    }
    assert next(iter(more)) in refusal(tmp_path / "x.jsonl", {**rows[form], **more}, form)
    silent = {key: type(value)() for key, value in more.items() if key != "weight"}
    assert read(tmp_path / "x.jsonl", {**rows[form], **silent, "weight": 1}, form).unread == ()


@pytest.mark.parametrize(
    "more", [{"function_call": {"name": "add"}}, {"thoughts": "2 and 2"}, {"images": ["a.png"]}]
)
def test_a_turn_key_that_carries_meaning_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    said = refusal(tmp_path / "x.jsonl", {"messages": [ASKED, {**RIGHT, **more}]})
    assert next(iter(more)) in said and "turn 2" in said


def test_an_unknown_key_is_named_with_its_first_row_and_count(tmp_path: Path) -> None:
    row = {"messages": [{**ASKED, "mood": "glad"}, RIGHT], "id": 7, "lang": "en", "persona": "a pirate"}
    example = read(tmp_path / "x.jsonl", row)
    assert example.unread == ("persona", "mood")
    named = name_unread([(example.place, example.unread), ("y.jsonl:9", ("mood",))])
    assert named == (
        f"the key 'persona' is not read (1 row, first {example.place})",
        f"the key 'mood' is not read (2 rows, first {example.place})",
    )
