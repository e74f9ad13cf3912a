"""A planted copy is found, a clean pair stays clean, and the index says what counting every pair would
say."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from soon import soon

from doitune.data import leaks
from doitune.data.example import Example, Message
from doitune.data.leaks import MAX_LEAKS_A_ROW, Leak, duplicates, normalised, whole_text
from doitune.data.shingles import COVERAGE, SHINGLE_CHARACTERS

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]


def leaks_of(train: list[Example], judged: list[Example], suite: str = "doit-test") -> list[Leak]:
    return leaks.leaks_of(train, {suite: judged})


def example(name: str, question: str, answer: str, ability: str = "math") -> Example:
    """A row of one question and one answer."""
    return Example(
        name, ability, (Message("user", question), Message("assistant", answer)), "open", f"{name}.json:1"
    )


def some(dice: random.Random, name: str, count: int) -> list[Example]:
    """Rows of random Han text, 20 to 219 characters of question, with short and long answers."""

    def text(length: int) -> str:
        return "".join(dice.choices(HAN, k=length))

    return [
        example(f"{name}{n}", text(dice.randrange(20, 220)), text(dice.choice([1, 100])))
        for n in range(count)
    ]


def pairs(found: list[Leak]) -> list[tuple[str, str]]:
    """The ids of each leak."""
    return [(leak.train_id, leak.other_id) for leak in found]


def test_normalising_leaves_letters_digits_and_signs() -> None:
    assert normalised("Ｗhat　 IS\t“１＋１”？\r\n") == "whatis1+1"
    assert normalised("a\u200bb\u202e·—_（）") == "ab"


def test_exact_recased_and_near_copies_among_ten_thousand_rows_are_found_and_nothing_else() -> None:
    dice = random.Random(1)
    train, judged = some(dice, "t", 10_000), some(dice, "o", 1_000)
    question = "In which year did Sichuan's giant Panda reserve open? " + judged[3].messages[0].content
    judged[3] = example("o3", question, "A")
    near = judged[5].messages[0].content + judged[5].answer
    middle = len(judged[5].messages[0].content) // 2
    assert len(near) > 80
    train[17] = replace(judged[1], id="exact")
    train[4_000] = example("recased", question.upper().replace(" ", "，").replace("'", ""), "另一个答案")
    train[9_999] = example(
        "near",
        judged[5].messages[0].content[:middle] + "改" + judged[5].messages[0].content[middle + 1 :],
        judged[5].answer,
    )
    found = leaks_of(train, judged, suite="doit-test")
    assert pairs(found) == [("exact", "o1"), ("recased", "o3"), ("near", "o5")]
    assert found[0] == Leak("exact", "o1", "doit-test", 1.0, "o1.json:1", "o1.json:1")
    assert found[1].coverage == 1.0 and COVERAGE <= found[2].coverage < 1.0


def test_a_clean_pair_has_no_leak() -> None:
    dice = random.Random(2)
    assert leaks_of(some(dice, "t", 3_000), some(dice, "o", 3_000)) == []
    assert leaks_of([], some(dice, "o", 3)) == []
    assert leaks_of(some(dice, "t", 3), []) == []


def test_short_rows_must_be_equal_as_a_whole() -> None:
    train = [
        example("t0", "3 + 4 = ?", "7"),
        example("t1", "3+4=", "8"),
        example("t2", "对 吗", "对"),
        example("t3", "他说3+4=7，对。", "嗯"),
    ]
    judged = [example("o0", "3+4＝？", "7。"), example("o1", "对吗？", "错")]
    assert pairs(leaks_of(train, judged)) == [("t0", "o0")]


def test_the_same_question_with_another_answer_and_the_same_answer_to_a_short_question_leak() -> None:
    dice = random.Random(3)
    question, long = ("".join(dice.choices(HAN, k=length)) for length in (40, 300))
    assert leaks_of([example("t", question, "甲")], [example("o", question, long)])
    assert leaks_of([example("t", "写一首诗吧", long)], [example("o", "写首诗", long)])
    assert not leaks_of([example("t", "写首诗", "好")], [example("o", "写首诗", long)])


def test_the_demonstrations_of_a_few_shot_row_are_not_what_is_judged() -> None:
    dice = random.Random(4)
    texts = ["".join(dice.choices(HAN, k=60)) for _ in range(6)]
    turns = tuple(
        Message(role, text) for text in texts for role, text in (("user", text), ("assistant", "A"))
    )  # type: ignore[arg-type]
    shots = Example("o", "ceval_physician", turns, "single_choice", "o.json:1")
    assert leaks_of([example("demo", texts[0], "A")], [shots]) == []
    assert pairs(leaks_of([example("asked", texts[5], "甲")], [shots])) == [("asked", "o")]


def test_rows_that_share_a_frame_do_not_leak_but_copies_within_it_do() -> None:
    dice = random.Random(5)
    frame, own = "".join(dice.choices(HAN, k=60)), ["".join(dice.choices(HAN, k=40)) for _ in range(600)]
    train = [example(f"t{n}", frame + text, "甲") for n, text in enumerate(own[:500])]
    judged = [example(f"o{n}", frame + text, "乙") for n, text in enumerate(own[450:])]
    assert pairs(leaks_of(train, judged)) == [(f"t{450 + n}", f"o{n}") for n in range(50)]


def test_one_judged_row_tells_its_fullest_copies_only() -> None:
    dice = random.Random(6)
    text = "".join(dice.choices(HAN, k=200))
    train = [example(f"t{n}", text[: 170 + n // 2], "甲") for n in range(60)]
    found = leaks_of(train, [example("o", text, "乙")])
    assert len(found) == MAX_LEAKS_A_ROW
    assert [leak.coverage for leak in found] == sorted((leak.coverage for leak in found), reverse=True)
    assert found[0].train_id == "t58"


def counted(train: list[Example], judged: list[Example]) -> dict[tuple[str, str], float]:
    """Every leak by comparing every pair, shingle by shingle."""

    def shingles(text: str) -> set[str]:
        return {text[n : n + SHINGLE_CHARACTERS] for n in range(len(text) - SHINGLE_CHARACTERS + 1)}

    found = {}
    for other in judged:
        question, answer = (normalised(turn.content) for turn in other.messages)
        texts = ([question] if len(question) >= 13 else []) + (
            [question + answer] if len(answer) >= 13 or len(question) < 13 else []
        )
        for row in train:
            held = shingles(whole_text(row))
            shares = [len(shingles(text) & held) / len(shingles(text)) for text in texts if len(text) >= 13]
            shares += [1.0 for text in texts if 0 < len(text) < 13 and text == whole_text(row)]
            if shares and max(shares) >= COVERAGE:
                found[(row.id, other.id)] = round(max(shares), 4)
    return found


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_index_agrees_with_counting_every_pair(dice: random.Random, letters: int) -> None:
    stems = ["".join(dice.choices("甲乙丙"[:letters] + "丁", k=dice.randrange(4, 60))) for _ in range(4)]

    def text() -> str:
        stem = dice.choice(stems)
        cut = dice.randrange(len(stem))
        return dice.choice(
            [stem, stem[cut:] or "丁", stem[:cut] + "戊" + stem[cut:], stem + dice.choice(stems)]
        )

    train, judged = ([example(f"{name}{n}", text(), text()) for n in range(8)] for name in "to")
    assert {(leak.train_id, leak.other_id): leak.coverage for leak in leaks_of(train, judged)} == counted(
        train, judged
    )


def test_duplicates_are_told_apart_from_rows_alike_once_normalised() -> None:
    rows = [
        example("a", "What is it?", "好"),
        example("b", "what is it", "好。"),
        example("c", "What is it?", "好"),
        example("d", "other", "x"),
    ]
    assert [(row.id, first.id, exact) for row, first, exact in duplicates(rows)] == [
        ("b", "a", False),
        ("c", "a", True),
    ]


def test_public_questions_planted_in_a_train_set_are_found(request: pytest.FixtureRequest) -> None:
    folder = Path(request.config.rootpath).parent / "shared" / "data" / "cmmlu" / "test"
    if not folder.is_dir():
        pytest.skip("the public CMMLU questions are not beside the checkout (../shared/data/cmmlu)")
    judged = []
    for path in sorted(folder.glob("*.csv"))[:12]:
        with path.open(encoding="utf-8", newline="") as file:
            for n, row in enumerate(csv.DictReader(file)):
                options = "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")
                judged.append(example(f"{path.stem}#{n}", f"{row['Question']}\n{options}", row["Answer"]))
    assert len(judged) > 1_000
    dice = random.Random(7)
    train = some(dice, "t", 2_000)
    planted = dice.sample([row for row in judged if len(row.messages[0].content) > 60], 50)
    train += [replace(row, id=f"copy of {row.id}") for row in planted]
    found = soon(lambda: leaks_of(train, judged, suite="cmmlu"), 20)
    assert {row.id for row in planted} <= {leak.other_id for leak in found}
    assert all(leak.train_id.startswith("copy of") for leak in found)
