"""Measures of likeness between two texts, against values of sacreBLEU 2.6 (chrF2) and a plain subsequence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doitune.evals.reading.answers import judge
from doitune.evals.reading.texts import chrf, rouge_l

SACREBLEU = [
    ("订单已经在路上了。", "订单在路上。", 27.718799),
    ("the cat sat", "the cat sat on the mat", 49.593484),
    ("今天下雨", "明天不下雨", 22.206592),
    ("a", "b", 0.0),
    ("x = 1", "x=1", 100.0),
    ("春", "春", 100.0),
    ("春天", "春", 83.333333),
    ("第12次下雨。大家都在家", "概括：第12次下雨", 46.087935),
    ("HELLO World", "hello world", 18.769841),
]


@pytest.mark.parametrize(("text", "reference", "score"), SACREBLEU)
def test_chrf_is_sacrebleus(text: str, reference: str, score: float) -> None:
    assert chrf(text, reference) == pytest.approx(score / 100, abs=5e-7)


def common(one: str, other: str) -> int:
    """Length of the longest common subsequence, by the textbook."""
    row = [0] * (len(other) + 1)
    for char in one:
        before = list(row)
        for place, wanted in enumerate(other):
            row[place + 1] = before[place] + 1 if char == wanted else max(before[place + 1], row[place])
    return row[-1]


@given(st.text("ab中文 c", max_size=40), st.text("ab中文 c", max_size=40))
def test_rouge_l_is_the_common_subsequence(one: str, other: str) -> None:
    plain, wanted = "".join(one.split()), "".join(other.split())
    expected = 2 * common(plain, wanted) / (len(plain) + len(wanted)) if plain and wanted else 0.0
    assert rouge_l(one, other) == pytest.approx(expected)
    assert rouge_l(one, other) == pytest.approx(rouge_l(other, one))


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_likeness_is_a_share_and_whole_for_the_same(one: str, other: str) -> None:
    for measure in (chrf, rouge_l):
        assert 0.0 <= measure(one, other) <= 1.0
        assert measure(one, one) == pytest.approx(1.0 if one.split() else 0.0)


def test_a_free_answer_is_judged_by_its_text_under_both_protocols() -> None:
    for protocol in ("fixed", "paper"):
        assert judge("open", "订单在路上。", "订单在路上。", protocol=protocol).correct == 1
        partly = judge("open", "<think>想</think>订单已在路上。", "订单在路上。", protocol=protocol)
        assert 0.4 < partly.correct < 0.5 and partly.note.startswith("ROUGE-L 9")
        nothing = judge("open", "", "订单在路上。", protocol=protocol)
        assert (nothing.correct, nothing.parsed) == (0, None)
        assert judge("open", "<think>订单在路上。", "订单在路上。", protocol=protocol).correct == 0
