r"""Mathematical answers, pair by pair: which are one answer and which are two.

Each kind has both: a comparison that says yes to everything, or no, fails every one of them.
"""

from __future__ import annotations

import pytest

from doitune.evals.reading.equality import equal, is_math
from doitune.evals.reading.expression import MAX_DEPTH, read, same
from doitune.evals.reading.tokens import MAX_CHARACTERS, Unreadable

# kind: (pairs that are equal, pairs that are not)
PAIRS: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "numbers": (
        [("5", "5.0"), ("5.", "5"), (".5", "0.5"), ("５", "5"), ("−5", "-5"), ("+5", "5"), ("1.5e3", "1500"), ("2^{10}", "1024"), ("5。", "5")],
        [("5", "6"), ("5", "-5"), ("0.5", "5"), ("3.14", "14.3"), ("3.14", "\\pi"), ("2024-01-01", "2022"), ("5!", "5"), ("①", "1")],
    ),
    "thousands": (
        [("1,000", "1000"), ("1 000 000", "10^6"), ("1{,}000", "1000"), ("1，000", "1000"), ("1\\,000", "1000"), ("1,234.5", "1234.5")],
        [("1,000", "1,0,0"), ("1,000", "1,0"), ("1,000", "100"), ("1,0,0", "1000"), ("12,34", "1234")],
    ),
    "fractions": (
        [("1/2", "\\frac{1}{2}"), ("\\frac12", "0.5"), ("\\dfrac{2}{4}", "\\tfrac{1}{2}"), ("-\\frac{1}{2}", "\\frac{-1}{2}"), ("\\frac{1}{-2}", "-1/2"), ("½", "0.5"), ("⅔", "2/3"),
            ("4/2", "2"), ("\\frac{x}{2}", "x/2")],
        [("1/2", "2/1"), ("1/3", "0.33"), ("\\frac12", "12"), ("\\frac{1}{0}", "0"), ("1/2", "-1/2")],
    ),
    "mixed numbers": (
        [("1\\frac{1}{2}", "3/2"), ("1 1/2", "1.5"), ("1又1/2", "1.5"), ("-1 1/2", "-1.5"), ("1\\frac12", "1.5"), ("2又\\frac{1}{3}", "7/3")],
        [("1\\frac{1}{2}", "1/2"), ("-1 1/2", "-1/2"), ("1又1/2", "0.5")],
    ),
    "percents": (
        [("50%", "0.5"), ("50\\%", "50%"), ("50", "50%"), ("50％", "1/2"), ("12.5%", "1/8"), ("100%", "1")],
        [("50%", "5"), ("50%", "0.05"), ("5%", "0.5"), ("50%", "50 cm")],
    ),
    "units": (
        [("5 cm", "5"), ("5cm", "5厘米"), ("5\\text{ cm}", "5"), ("5 公斤", "5kg"), ("5(cm)", "5"), ("12π平方厘米", "12\\pi"), ("12\\text{ cm}^2", "12"), ("10 km/h", "10"), ("5 meters", "5 meter"),
            ("90^\\circ", "90"), ("90°", "90度"), ("￥5", "5元"), ("5个", "5")],
        [("5 cm", "5 m"), ("5厘米", "5千米"), ("5 cm", "6 cm"), ("5元", "5个"), ("90°", "90 cm"), ("5 kg", "5 g")],
    ),
    "Chinese numerals": (
        [("五", "5"), ("十二", "12"), ("一百二十", "120"), ("三百零五", "305"), ("一万", "10000"), ("100万", "1000000"), ("1.5亿", "150000000"), ("四分之三", "0.75"), ("百分之五十", "50%"), ("一又二分之一", "1.5"),
            ("负三点五", "-3.5"), ("三个", "3"), ("二〇二四", "2024"), ("负5", "-5")],
        [("五", "6"), ("四分之三", "4/3"), ("四分之三", "75"), ("一百二十", "100"), ("十百", "1000"), ("三角形", "3"), ("一万", "1000")],
    ),
    "roots": (
        [("\\sqrt{12}", "2\\sqrt{3}"), ("√12", "2√3"), ("2根号3", "\\sqrt{12}"), ("\\sqrt2", "2^{1/2}"), ("sqrt(2)", "\\sqrt{2}"), ("\\sqrt[3]{-8}", "-2"), ("\\frac{1}{\\sqrt{2}}", "\\frac{\\sqrt{2}}{2}"),
            ("\\sqrt{4}", "2"), ("\\sqrt{\\frac{1}{4}}", "0.5")],
        [("\\sqrt{2}", "2"), ("\\sqrt{2}", "1.41"), ("\\sqrt{23}", "\\sqrt23"), ("\\sqrt[3]{8}", "\\sqrt{8}"), ("\\sqrt{2}", "-\\sqrt{2}")],
    ),
    "powers and functions": (
        [("2^10", "1024"), ("x^{2}", "x^2"), ("x²", "x\\cdot x"), ("\\sin 30^\\circ", "\\sin 30°"), ("\\sin^2 x+\\cos^2 x", "1"), ("\\log_2 8", "3"), ("\\ln e", "1"), ("\\lg 100", "2"), ("5!", "120"),
            ("\\binom{5}{2}", "10"), ("e^{i\\pi}", "-1"), ("\\tan x", "\\frac{\\sin x}{\\cos x}"), ("2^{-1}", "0.5")],
        [("2^10", "20"), ("x^2", "2x"), ("\\sin x", "\\cos x"), ("\\log_2 8", "8"), ("5!", "24"), ("\\binom{5}{2}", "5/2"), ("e", "2.718"), ("9^9^9", "9")],
    ),
    "expressions": (
        [("(x-1)(x+1)", "x^2-1"), ("2x+1", "1+2x"), ("2(a+b)", "2a+2b"), ("x\\times y", "xy"), ("a_1+a_2", "a_2+a_{1}"), ("\\alpha+1", "1+α"), ("\\left(x+1\\right)", "x+1"), ("a·b", "ab"), ("6÷2", "3")],
        [("x^2-1", "x^2+1"), ("2x", "2y"), ("a-b", "b-a"), ("a_1", "a_2"), ("\\alpha", "\\beta"), ("ab", "a+b"), ("x/y", "y/x")],
    ),
    "ratios": (
        [("3:4", "3∶4"), ("6:8", "3:4"), ("3：4", "3:4"), ("2:1", "4:2")],
        [("3:4", "4:3"), ("5:1", "5"), ("3:4", "0.75"), ("1:2:3", "3:2:1")],
    ),
    "signs": (
        [("±3", "3,-3"), ("\\pm 3", "3或-3"), ("1±\\sqrt{2}", "1+\\sqrt{2},1-\\sqrt{2}"), ("x=±2", "x=2或x=-2"), ("--3", "3")],
        [("±3", "3"), ("±3", "-3"), ("\\pm 3", "\\pm 4"), ("1±2", "1,2")],
    ),
    "lists": (
        [("3,-3", "-3，3"), ("1,2,3", "3,2,1"), ("1、2", "2,1"), ("1和2", "1,2"), ("1 or 2", "2,1"), ("1;2", "1,2"), ("x=1或x=2", "1,2"), ("1,\\text{ or }2", "1,2"), ("1/2, 3", "3, 0.5"), ("2,2", "2,2")],
        [("1,2", "1,3"), ("1,2", "1,2,3"), ("1,1", "1,2"), ("1,2", "12"), ("1,2", "1"), ("1,2", "(1,2)")],
    ),
    "sets": (
        [("\\{1,2\\}", "\\{2,1\\}"), ("\\{1,2\\}", "1,2"), ("{1,2}", "{2,1}"), ("\\{1\\}", "\\{1.0\\}"), ("\\emptyset", "∅"), ("\\varnothing", "\\emptyset"), ("\\{\\frac12\\}", "\\{0.5\\}")],
        [("\\{1,2\\}", "\\{1,3\\}"), ("\\{1,2\\}", "(1,2)"), ("\\{1,1\\}", "\\{1,2\\}"), ("\\{1\\}", "1,2"), ("\\{1,2\\}", "[1,2]"), ("\\emptyset", "0")],
    ),
    "tuples": (
        [("(1,2)", "(1, 2)"), ("(1,2)", "(\\frac{2}{2},2.0)"), ("点P(2,3)", "(2,3)"), ("(x,y)=(2,3)", "(2,3)"), ("\\left(1,2\\right)", "(1,2)"), ("(1,2),(3,4)", "(3,4),(1,2)"), ("坐标(2,3)", "(2,3)")],
        [("(1,2)", "(2,1)"), ("(1,2)", "(1,2,3)"), ("(1,2)", "[1,2]"), ("(1,2),(3,4)", "(1,2)"), ("(1,2)", "1")],
    ),
    "intervals": (
        [("(-∞,1)", "(-\\infty,1)"), ("(3,+∞)", "(3,\\infty)"), ("x>3", "(3,+\\infty)"), ("1≤x<5", "[1,5)"), ("5≥x≥1", "[1,5]"), ("x\\le 2", "(-\\infty,2]"), ("3<x", "(3,\\infty)"), ("x\\in(1,2)", "(1,2)"),
            ("(2,\\infty)\\cup(-\\infty,1)", "(-∞,1)∪(2,∞)"), ("[\\frac12,1]", "[0.5,1]")],
        [("(1,5)", "[1,5]"), ("(1,5]", "[1,5)"), ("1<x<5", "[1,5]"), ("x>3", "[3,+\\infty)"), ("x>3", "(-\\infty,3)"), ("(1,2)\\cup(3,4)", "(1,2)"), ("(1,2)\\cup(3,4)", "(1,2)\\cup(3,5)")],
    ),
    "inequalities": (
        [("x>3", "3<x"), ("x\\geq 3", "x≥3"), ("x>=3", "3\\le x"), ("1<x<3", "1 < x < 3"), ("x\\neq 0", "x≠0"), ("y>2x", "2x<y")],
        [("x>3", "x<3"), ("x>3", "x≥3"), ("x>3", "3"), ("x>3", "y>3"), ("x>3", "x>4"), ("x≠0", "x=0"), ("<3", ">3"), ("1<x<3", "1<x<4")],
    ),
    "equations": (
        [("x=5", "5"), ("5", "x=5"), ("5=x", "x=5"), ("y=2x+1", "2x-y+1=0"), ("y=2x+1", "y-2x=1"), ("a_1=3", "3"), ("x^2+y^2=1", "y^2+x^2=1"), ("f(x)=2x", "2x")],
        [("x=5", "6"), ("x=5", "y=5"), ("y=2x+1", "y=2x-1"), ("y=2x", "x=2y"), ("x=5", "x>5")],
    ),
    "matrices": (
        [("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{bmatrix}1.0&2\\\\3&4\\end{bmatrix}"), ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 4/2 \\end{pmatrix}")],
        [("\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}"), ("\\begin{pmatrix}1&2\\end{pmatrix}", "\\begin{pmatrix}2&1\\end{pmatrix}"), ("\\begin{pmatrix}1\\end{pmatrix}", "1")],
    ),
    "numerals of a base": (
        [("10101_2", "10101_{2}"), ("(10101)_2", "10101_2"), ("10101_2", "10101")],
        [("101_2", "100_2"), ("101_2", "101_3"), ("101_2", "5")],
    ),
    "words": (
        [("无解", "无解。"), ("\\text{B}", "B"), ("(B)", "B"), ("\\text{(B)}", "B"), ("\\mathrm{odd}", "odd"), ("\\text{Monday}", "Monday")],
        [("无解", "有解"), ("B", "C"), ("yes", "no"), ("无解", "0"), ("Monday", "Sunday"), ("奇函数", "偶函数")],
    ),
    "layout": (
        [("$5$", "5"), ("\\(5\\)", "5"), ("**5**", "5"), ("5\\quad", "5"), ("\\displaystyle\\frac12", "\\frac12"), ("1 + 2", "1+2"), ("x\\cdot y", "x \\times y"), ("（1，2）", "(1,2)")],
        [("", "5"), ("。", "5"), ("$", "5"), ("\\frac", "1"), ("(", ")"), ("\\boxed{", "5")],
    ),
}  # fmt: skip


def pairs(wanted: bool):
    found = [
        pytest.param(*pair, id=f"{kind}: {pair[0]} {'is' if wanted else 'is not'} {pair[1]}")
        for kind, both in PAIRS.items()
        for pair in both[0 if wanted else 1]
    ]
    assert len(found) > 100 and all(both[0] and both[1] for both in PAIRS.values())
    return found


@pytest.mark.parametrize("one, other", pairs(True))
def test_one_answer_whichever_is_the_label(one, other):
    assert equal(one, other) and equal(other, one)


@pytest.mark.parametrize("one, other", pairs(False))
def test_two_answers_whichever_is_the_label(one, other):
    assert not equal(one, other) and not equal(other, one)


@pytest.mark.parametrize("answer, label", [("2x+3y=7", "7")])
def test_an_equation_answers_what_it_ends_with_but_a_label_asks_for_the_whole(answer, label):
    assert equal(answer, label) and not equal(label, answer)


@pytest.mark.parametrize("whole", ["5\\times 2=10", "f(2)=10"])
def test_an_equation_without_a_free_name_is_its_value_on_either_side(whole):
    assert equal(whole, "10") and equal("10", whole) and not equal("11", whole)


def test_nothing_equals_nothing_alone():
    """As in the released scorer: no answer against no label."""
    assert equal(None, None) and not equal(None, "5") and not equal("5", None) and not equal("", "0")


VALUES = [
    "5",
    "1,000",
    "-1 1/2",
    "\\frac12",
    "x^2-1",
    "(1,2)",
    "1,2",
    "x>3",
    "=5",
    "(-∞,1)∪(2,3)",
    "5 cm",
    "五",
    "101_2",
    "2根号3",
    "\\begin{pmatrix}1\\end{pmatrix}",
]
NO_VALUES = [
    "",
    "。",
    "无解",
    "三角形",
    "the answer",
    "5 and that",
    "(",
    "\\frac",
    "2024-01-01",
    "1)(",
    "x >",
    "\\unknown",
]


@pytest.mark.parametrize("text", VALUES)
def test_what_can_be_compared_by_value(text):
    assert is_math(text)


@pytest.mark.parametrize("text", NO_VALUES)
def test_what_can_not(text):
    assert not is_math(text)


@pytest.mark.parametrize(
    "text",
    ["1" * (MAX_CHARACTERS + 1), "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), "", "1 2", "1+", ")", "²", "\\frac{1}", "{1", "2024-01-01", "1}"],
)  # fmt: skip
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(Unreadable):
        read(text)


@pytest.mark.parametrize("text", ["1/0", "(-1)!", "171!", "1.5!", "\\binom{2000}{1}", "0^{-1}", "\\ln 0"])
def test_what_has_no_value_is_refused(text):
    with pytest.raises(Unreadable):
        same(text, "1")


def test_depth_counts_brackets_within_brackets_and_not_all_of_them():
    side_by_side = "+".join(["(1)"] * (MAX_DEPTH + 1))
    assert same(side_by_side, str(MAX_DEPTH + 1))
    deep = MAX_DEPTH - 1
    assert same("(" * deep + "1" + ")" * deep, "1")
