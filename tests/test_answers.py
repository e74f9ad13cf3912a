"""Reading answers: `paper` is the released reader line by line, `fixed` is right, and neither takes long over
anything.

The golden cases lie outside the project (they quote the released code's results):
`../shared/data/parser_cases.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from soon import soon

from doitune.data.example import Message
from doitune.errors import UsageError
from doitune.evals.reading import paper, paper_maths
from doitune.evals.reading.answers import JUDGED, judge, judge_reply
from doitune.evals.task import Candidate, Item, Reply

CASES = Path(__file__).resolve().parents[2] / "shared" / "data" / "parser_cases.jsonl"
LEFT_OUT: dict[int, str] = {}
"""Golden cases that `fixed` does not reach, by id, each with its reason. Empty: it reaches all."""


def cases() -> list[dict[str, Any]]:
    if not CASES.is_file():
        pytest.skip(f"the golden cases are not here: {CASES}")
    found = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    assert len(found) > 300
    return found


def ways(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """How a case is handed to `judge`: text mode without scores, logits mode without a text or by name,
    both with both."""
    mode, scores = case.get("mode"), case.get("logits")
    options = list("ABCD")[: case["n_options"]] if "n_options" in case else None
    if mode == "text":
        yield {"reply": case["input"], "options": options}
    elif mode == "logits":
        yield {"reply": None, "option_scores": scores, "options": options}
        yield {"reply": case["input"], "option_scores": scores, "options": options, "mode": mode}
    elif mode == "both" and case["kind"] == "tf":
        yield {"reply": case["input"], "mode": mode}
    else:
        yield {"reply": case["input"], "option_scores": scores, "options": options}


def test_paper_agrees_with_the_released_reader_on_every_line():
    asked = 0
    for case in cases():
        if case["kind"] not in JUDGED:
            continue
        for way in ways(case):
            verdict = judge(case["kind"], way.pop("reply"), case["label"], protocol="paper", **way)
            assert (verdict.parsed, verdict.correct) == (case["parsed"], case["correct"]), case
            asked += 1
        if case["kind"] == "math":
            assert paper_maths.normalised(case["parsed"]) == case["normalised"], case
    assert asked > 300


RELEASED = [
    ("math", "\\boxed{ 5 }", " 5 "), ("math", "$ 5 $", " 5 "), ("math", "$$", None), ("math", "/", "/"), ("math", "甲/2", "2"), ("math", "\\boxed{5", "5"),
    ("math", "\\boxed{5 $7$", "7"), ("math", "\\fbox{5} \\boxed{6}", "6"), ("math", "\\boxed{x=  5 }", "5 "), ("math", "sqrt(2\n)", "sqrt(2\n)"),
    ("math", "x= 5. ", "5. "), ("math", "(1)[2](3", "[2]"), ("math", "[1\n](2)", "(2)"), ("math", "1.5a", "1"), ("math", "$3", "3"),
    ("math_equiv", "/", "!IndexError"), ("math_equiv", "-03/04", "-\\frac{3}{4}"), ("math_equiv", "1+\\frac{-1}{2}", "1+-\\frac{1}{2}"),
    ("math_equiv", "\\text{(B)}或", "B"), ("math_equiv", "\\text{(Z)}", "\\text{(Z)}"),
]  # fmt: skip


def test_paper_reads_spaces_and_broken_boxes_as_the_released_reader_does():
    """Compared with the released functions on random texts; these are the shortest that told a rewriting
    of them from them."""
    for form, reply, parsed in RELEASED:
        assert judge(form, reply, "5", protocol="paper").parsed == parsed, reply
    assert not judge("math", "$ 5 $", "5", protocol="paper").correct
    for mode in ("text", "both", "logits"):
        assert judge("tf", "错", "F", protocol="paper", mode=mode).correct is True, (
            "marks of one kind decide in every mode"
        )


def test_paper_counts_what_the_released_code_counts():
    found = cases()
    kept = [case for case in found if case["kind"] == "agieval_keep"]
    means = [case for case in found if case["kind"] == "aggregate"]
    assert kept and means
    assert all(paper.keeps(case["input"]) == case["parsed"] for case in kept)
    assert all(paper.released_average(case["input"]) == case["parsed"] for case in means)


def test_fixed_is_right_and_its_misses_are_known():
    judged = misses = 0
    for case in cases():
        if "want_correct" not in case or case["kind"] not in JUDGED:
            continue
        way = next(ways(case))
        verdict = judge(
            case["kind"],
            way.pop("reply"),
            case["label"],
            protocol="fixed",
            **{k: v for k, v in way.items() if k != "mode"},
        )
        judged += 1
        if verdict.correct != case["want_correct"]:
            misses += 1
            assert not verdict.correct, f"a wrong answer counted right: {case}"
            assert case["id"] in LEFT_OUT, case
    assert judged > 300 and misses <= 0.03 * judged


def test_every_mathematical_label_equals_itself():
    labels = [case["label"] for case in cases() if case["kind"] == "math"]
    assert labels
    assert all(judge("math", label, label, protocol="fixed").correct for label in labels)


RIGHT = [
    ("single_choice", "B", ["Ｂ", "b.", "【B】", "答案应该是B", "我选B", "故答案为：B", "The correct answer is (B).", "I think the answer is B because it fits",
        "B、汉武帝", "\\boxed{B}", "B<|im_end|>", "不是A，而是B", "A不对，C不对，所以B", "B，因为A不符合题意", "答案\nB", "不难看出选B", "B\n解析：A、C错误", "选B，因为其他不符合",
        "除了B之外都不正确", "A项错误。\nB项正确。"]),
    ("multi_choice", "AC", ["a,c", "Ａ、Ｃ", "A和C都正确", "A正确，B错误，C正确，D错误", "A. 正确\nB. 错误\nC. 正确", "AC，不选B", "AC，B错误", "【答案】AC\n【解析】B、D错误",
        "Both A and C", "A.尊重他人 C.诚实守信", "我选A，也选C", "排除B，选A、C", "首先A正确。其次C正确。"]),
    ("multi_choice", "ABCD", ["A-D", "A到D", "以上都对", "所有选项", "都选", "All of the above", "四个选项都正确", "ABCD全选"]),
    ("tf", "T", ["√", "没毛病", "不是错误的", "并没有错", "相对论是爱因斯坦提出的，正确", "Yes, that's right", "✅", "看似错误，其实正确", "确实如此"]),
    ("tf", "F", ["×", "不太正确", "并非正确", "不能说是正确的", "no", "It's not correct", "正确答案：错误", "该说法正确吗？不正确。", "看似正确，实则错误", "表述不当"]),
    ("cloze", "明月", ["“明月”。", "答案为明月", "应填入“明月”。", "填“明月”二字", "1.明月", "明月（出自李白）", "\\boxed{明月}", "明 月", "因此，答案为“明月”。", "答案：\n明月"]),
    ("cloze", "海上生明月，天涯共此时", ["海上生明月, 天涯共此时。", "“海上生明月，天涯共此时”"]),
    ("math", "\\frac{1}{2}", ["0.5", ".5", "1/2", "$\\frac12$", "答案：1/2", "\\boxed{\\dfrac12}", "50%", "所以概率是1/2。", "$\\frac{-1}{-2}$"]),
    ("math", "3,-3", ["±3", "x=3或x=-3", "-3，3", "$3$和$-3$", "$x=\\pm 3$"]),
    ("math", "10", ["步骤1：$2+3=5$\n步骤2：$5\\times2=10$", "一共有10个。", "10 km/h", "答案：10，不是11", "# 答案\n$10$", "最大值为10", "f(2)=10"]),
    ("math", "(-\\infty,1)\\cup(2,\\infty)", ["$(2,\\infty)\\cup(-\\infty,1)$", "(-∞,1)∪(2,∞)"]),
    ("math", "x^2-1", ["$(x-1)(x+1)$", "$-1+x^2$"]),
]  # fmt: skip
RIGHT += [
    ("single_choice", "A", ["B。不对，应为A", "答案是B？不，是A", "我先选B，后来改成A", "原以为是B，其实是A", "虽然B也有道理，但A更合适", "A没错", "A没有错误", "A显然正确", "A比B好",
        "排除B、C、D", "A、B两项中，A正确", "__A__", "<A>", "А", "答案選A", "A\u200b", "It's not D, B or C, so it must be A.", "A（B、C、D错误）", "A这个选项正确", "I'd go with A", "A，其余错误"]),
    ("single_choice", "D", ["D. 以上都不对", "D、以上说法都不正确", "D. A和B都对", "D. 错误\n因为A、B都对", "A×\nB×\nC×\nD√", "A项，错误；B项，错误；C项，错误；D项，正确",
        "首先看A，不对；再看B，不对；最后看D，正确。", "A? No. B? No. C? No. D? Yes.", "选项A、B、C均可排除，剩下D", "D比较合理", "由此可得D"]),
    ("multi_choice", "AC", ["A√B×C√D×", "A(√) B(×) C(√) D(×)", "A：是\nB：否\nC：是\nD：否", "除了B和D都正确", "不是BD，是AC", "AC，不选BD", "A.尊重他人、C.诚实守信", "1. A\n2. C",
        "①A ②C", "答案：A. 尊重他人 C. 诚实守信", "A（尊重他人）和C（诚实守信）", "答案是AB，不对，应为AC", "AB？不，AC", "A项体现了尊重，正确；B项违背了诚信，错误；C项体现了诚信，正确。",
        "选A；选C", "A选，C选", "A不仅正确，C也正确", "AC均可", "AC两项正确", "符合题意的有AC", "A、C这两项", "Options A and C", "AC（B、D错误）"]),
    ("multi_choice", "ABCD", ["我认为都对", "选择所有选项", "每一项都正确", "以上四项都正确", "都符合题意", "All of these", "【全选】", "全選", "没有错误的选项"]),
    ("tf", "T", ["错误？不，正确", "看起来不对，其实是对的", "与史实相符", "isn't wrong", "是否正确？是的", "對", "没有不正确"]),
    ("tf", "F", ["我不认为是正确的", "不见得对", "没有道理", "isn't correct", "是否正确？不正确", "正确还是错误？错误", "与史实不符", "不。", "看起来对，其实不对", "正确。不对，应为错误"]),
    ("cloze", "明月", ["这是明月", "应为明月", "第一空：明月", "Answer: 明月", "您好，答案是明月", "明月。明月。", "明月\u200b", "答案：明月。希望能帮到你", "$\\boxed{\\text{明月}}$"]),
    ("cloze", "床前明月光，疑是地上霜", ["床前明月光\n疑是地上霜", "床前明月光疑是地上霜", "床前明月光，疑是地上霜。——李白"]),
    ("cloze", "H2O", ["H_2O", "$H_2O$", "H₂O"]), ("cloze", "是", ["答案是是", "答案：是"]), ("cloze", "国", ["“国”字"]), ("cloze", "-5", ["-5", "−5", "答案：-5"]),
    ("math", "5", ["五", "5(cm)", "答案是4？不对，答案是5", "不是4而是5"]), ("math", "-5", ["负5", "−5", "负五"]),
    ("math", "\\frac{3}{4}", ["¾", "四分之三", "百分之七十五"]), ("math", "1\\frac{1}{2}", ["1又1/2", "1又\\frac{1}{2}", "一又二分之一"]),
    ("math", "1,000,000", ["10^6", "100万", "一百万", "1 000 000"]), ("math", "3,-3", ["{3,-3}", "\\boxed{3}和\\boxed{-3}", "两个解：3和-3"]),
    ("math", "(2,3)", ["点(2,3)", "P(2,3)", "(x,y)=(2,3)"]), ("math", "[1,5]", ["1≤x≤5", "5\\ge x\\ge 1"]), ("math", "x>3", ["(3,+∞)", "3<x"]),
    ("math", "y=2x+1", ["2x-y+1=0"]), ("math", "2\\sqrt{3}", ["2根号3", "√12"]), ("math", "12\\pi", ["12\\pi\\text{ cm}^2", "12π平方厘米"]), ("math", "无解", ["答案：无解"]),
    ("math", "3:4", ["3∶4", "6:8"]), ("math", "10101_2", ["10101_{2}", "(10101)_2"]),
]  # fmt: skip
WRONG = [
    ("single_choice", "A", ["AB", "A或B", "答案不是A", "不应选A", "A股市场", "Apple", "A good idea", "E", "1", "。", "无法判断", "A是错误的"]),
    ("single_choice", "C", ["维生素C", "CCTV", "C_3H_8", "除C外"]),
    ("multi_choice", "AD", ["DNA和RNA", "AIDS", "A-D", "以上都是", "不选A", "A", "", "都不对", "AC米兰"]),
    ("tf", "T", ["反对", "对不起，我不知道", "对错难辨", "无法判断是否正确", "TV", "不正确", "T恤", ""]),
    ("tf", "F", ["XX年", "没错", "没有错误", "Fine", "不知道", "1840年"]),
    ("cloze", "明月", ["不是明月", "我不认为是明月", "明月清风", "", "。", "不知道"]),
    ("math", "3", ["<3", "$x>3$", "-3", "31", "3, 4", "\\{3,4\\}", "", "无解", "0.3", "三角形"]),
    ("math", "3.14", ["14.3", "\\pi", "$\\pi$", "31.4"]),
    ("math", "(1,2)", ["(2,1)", "[1,2]", "1,2", "(1,2]"]),
    ("math", "5 cm", ["5 m", "6 cm"]),
]  # fmt: skip


WRONG += [
    ("single_choice", "A", ["A。更正：B", "A，不，B", "A。哦不，是B", "A×", "A（错误）", "A (wrong)", "我没选A", "无法选A", "the answer isn't A", "A不一定正确", "A并非答案", "A√B√", "A或者B",
        "A也有道理，但B更合适", "A. 北京\nB. 上海\nC. 广州\nD. 深圳", "A与题意无关", "A. 不对，应为B",
        "不一定是A", "很难说是A", "难道是A？", "A不如B", "A没有B好", "A对吗？不对", "A? No.", "A不全面", "A is unlikely", "eliminate A", "anything but A", "A, no, B", "A→B",
        "A=1", "sin A", "∠A", "Vitamin A", "猜B不猜A"]),
    ("multi_choice", "AC", ["A或C", "选A或者选C", "A对，B对，C对", "AC×", "AC。不对，应为BD", "A√B√C√"]),
    ("multi_choice", "ABCD", ["都对吗？", "全选吗", "All of them are wrong", "不都对", "全选？不，选AC", "全部选A"]),
    ("tf", "T", ["我不认为正确", "不见得正确", "没有道理", "isn't true", "正确？不，错误", "是否正确：否", "对还是错", "正确与否", "既对又错", "部分正确，部分错误", "T/F", "真空", "yes or no", "t = 3", "a v b"]),
    ("tf", "F", ["def f(x)", "def f(x):\n return x", "x = 5", "f(2)", "假期", "No.1", "不能算错", "没有不正确", "错误/正确"]),
    ("cloze", "10", ["-10", "0.10"]), ("cloze", "-5", ["5"]), ("cloze", "5", [".5"]), ("cloze", "非", ["是非"]),
    ("math", "5", ["不是5", "不等于5", "4，不是5", "答案不是5", "5:1", "第5题", "步骤5", "return y+5"]), ("math", "1,000,000", ["1,0,0"]), ("math", "2022", ["2024-01-01"]),
    ("math", "[1,5]", ["1<x<5", "1≤x<5"]), ("math", "x>3", ["[3,+∞)", "(-∞,3)"]), ("math", "3,-3", ["\\boxed{3}，所以\\boxed{-3}"]), ("math", "75", ["四分之三"]),
]  # fmt: skip


@pytest.mark.parametrize("form, label, replies", RIGHT)
def test_what_a_careful_reader_takes_for_right(form, label, replies):
    assert replies
    for reply in replies:
        assert judge(form, reply, label, protocol="fixed").correct is True, reply


@pytest.mark.parametrize("form, label, replies", WRONG)
def test_what_a_careful_reader_takes_for_wrong(form, label, replies):
    assert replies
    for reply in replies:
        assert judge(form, reply, label, protocol="fixed").correct is False, reply


def test_scores_decide_only_where_the_text_names_nothing():
    scores = {"A": 1.0, "B": 9.0, "C": 1.0, "D": 1.0}

    def parsed(reply, **more):
        return judge(
            "single_choice", reply, "B", protocol="fixed", option_scores=more.pop("scores", scores), **more
        ).parsed

    assert parsed("A") == "A" and parsed("答案是C") == "C"
    assert parsed("") == parsed(None) == "B"
    assert parsed("A和C") is None and parsed("不选A") is None and parsed("无法判断") is None
    assert parsed(None, options=("A", "C", "D"), scores={"A": 1.0, "B": 9.0, "C": 2.0}) == "C", (
        "absent options are masked"
    )
    assert parsed(None, options=("A", "B"), scores=[3.0, 1.0]) == "A"
    tie = judge("single_choice", None, "B", protocol="fixed", option_scores={"A": 2.0, "B": 2.0, "C": 1.0})
    assert tie.parsed is None and tie.correct == 0.5 and "tie" in tie.note
    assert not judge("single_choice", None, "B", protocol="fixed", option_scores={"A": float("nan")}).correct


def test_rankings_share_ties_and_refuse_what_is_not_finite():
    def right(losses, protocol="fixed"):
        return judge("ppl_rank", losses, 0, protocol=protocol).correct

    assert right([1.0, 2.0, 3.0]) is True and right([2.0, 1.0, 3.0]) is False
    assert right([1.0, 1.0, 3.0]) == 0.5 and right([2.0, 2.0, 2.0]) == pytest.approx(1 / 3)
    assert (
        right(["inf", "inf", "inf"]) is False
        and right(["nan", 1.0, 2.0]) is False
        and right([1.0, "nan", "inf"]) is True
    )
    assert right([1.0, 1.0, 3.0], "paper") is True and right(["inf"] * 3, "paper") is True
    assert (
        right(["x", None, 1.0]) is False
        and right([1.0, "x"]) is True
        and right("1.0") is False
        and right([]) is False
    )
    assert (
        judge("ppl_rank", [1.0, 2.0], "A", protocol="fixed").correct is False
        and judge("ppl_rank", [1.0, 2.0], "0", protocol="fixed").correct is True
    )


def test_an_item_is_judged_by_what_came_back():
    question = (Message("user", "?"),)
    rank = Item("r", "code", "ppl_rank", "rank", question, "", choices=("a", "b", "c"))
    losses = (Candidate(4.0, 4), Candidate(3.0, 2), Candidate(9.0, 3))
    assert judge_reply(rank, Reply("", 1, candidates=losses), "fixed").correct is True, "by mean, not by sum"
    letter = Item("l", "x", "single_choice", "letters", question, "B", options=("A", "B"))
    assert judge_reply(letter, Reply("", 1, option_scores=(0.0, 1.0)), "fixed").correct is True
    assert judge_reply(letter, Reply("", 1, option_scores=(0.0, 1.0)), "paper").correct is True
    assert judge_reply(letter, Reply("", 1, too_long=True), "paper").correct is False


def test_chance_as_released():
    def item(form, label="A", options=("A", "B", "C", "D")):
        return Item("i", "s", form, "write", (Message("user", "?"),), label, options=options)

    assert paper.paper_chance(item("single_choice", options=("A", "B", "C"))) == 0.33
    assert [
        paper.paper_chance(item("multi_choice", label)) for label in ("A", "AC", "ABC", "ABCD", "ABCDE")
    ] == [0.25, 1 / 6, 0.25, 1.0, 0.0]
    assert item("multi_choice").chance == 1 / 15


def test_unknown_forms_and_protocols_are_refused():
    with pytest.raises(UsageError, match="form"):
        judge("essay", "A", "A", protocol="fixed")
    with pytest.raises(UsageError, match="protocol"):
        judge("tf", "A", "A", protocol="lm-eval")


NASTY = ["A" * 60 + "1", "A" + " " * 3000, "A、" * 1500 + "1", "选" * 2000 + "A", "答案是" * 900, "(" * 390, "\\boxed{" * 400, "$" * 2000,
    "9^9^9^9^9", "1/" * 1500, "1!" * 190, "170!!!!", "\\frac" * 80, "x=1或" * 60, "±" * 60, "没有任何" * 500 + "错", "除A外" * 500, "“" * 2000,
    "答案:" + "x" * 3000, "1," * 1500, "2^" * 190 + "2", "\x00\ud800", "的" * 3000 + "吗?", "①", "²", "٣Ⅳ",
    "(" * 100_000, "[(" * 50_000, "1" * 100_000 + "a", "答案为" * 33_000, "A" * 100_000 + "当", "A，不对，" * 20_000, "A：是" * 33_000, "一" * 100_000, "9**9**9"]  # fmt: skip


@pytest.mark.parametrize("form", [form for form in JUDGED if form != "ppl_rank"])
def test_no_reply_takes_long_or_breaks_a_reader(form):
    for reply in NASTY:
        for protocol in ("fixed", "paper"):
            soon(partial(judge, form, reply, "A", protocol=protocol), 5, reply[:20])


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ABCDabT不对错正确是选答案：，。、0123456789.-+=/^\\{}()[]$frac sqrt pi\n", max_size=40),
    st.sampled_from(JUDGED[:-1]),
)
def test_any_text_can_be_read_and_a_label_is_right_for_itself(text, form):
    for protocol in ("fixed", "paper"):
        judge(form, text, "A", protocol=protocol)
    if text.strip() and form in ("math", "math_equiv"):
        assert judge(form, text, text, protocol="fixed").correct is True
