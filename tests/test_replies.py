"""Replies as chat models write them: what is right counts as right, nothing wrong does, and no reply takes long.

`replies.jsonl` was written before the readers saw it, `replies_fresh.jsonl` when it was read (90 of 100 and two
false positives at first sight). `replies_blind.jsonl` holds ten rounds, the first written before the readers were
read, the others without looking back at them, by whoever mended them. Each was measured before it was mended:
293 of 323 right and 7 false positives; 323 of 359 and 7; 318 of 341 and 6; 279 of 306 and 7; 254 of 271 and 5;
234 of 256 and 4; 153 of 164 and 1; 122 of 135 and 4; 96 of 102 and 2; 59 of 60 and none. Two cases of doubtful
truth were left out afterwards. Other cases lie outside the project (`../shared/data/reader_cases_2.jsonl`);
`replies_second_half.jsonl` was written after their pattern, in their proportions, before the readers were read:
295 of 300 right and one false positive at first sight.
"""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

import pytest
from soon import soon

from doitune.evals.reading.answers import judge
from doitune.evals.reading.equality import equal, is_math

TESTS = Path(__file__).parent
SHARED = TESTS.resolve().parents[1] / "shared" / "data" / "reader_cases_2.jsonl"
FORMS = ("single_choice", "multi_choice", "tf", "cloze", "math")


@pytest.mark.parametrize(
    "path, least",
    [
        (TESTS / "replies.jsonl", 0.97),
        (TESTS / "replies_fresh.jsonl", 0.97),
        (TESTS / "replies_blind.jsonl", 0.99),
        (TESTS / "replies_second_half.jsonl", 0.99),
        (SHARED, 0.99),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_is_right_counts_and_nothing_wrong_does(path, least):
    if not path.is_file():
        pytest.skip(f"the cases are not here: {path}")
    cases = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(cases) >= 100
    assert sum(not case["want_correct"] for case in cases) > 0.2 * len(cases)
    given = [judge(case["kind"], case["input"], case["label"], protocol="fixed").correct for case in cases]
    false = [case for case, verdict in zip(cases, given, strict=True) if verdict and not case["want_correct"]]
    assert not false
    right = sum(verdict == case["want_correct"] for case, verdict in zip(cases, given, strict=True))
    assert right >= least * len(cases)


DIFFERENT = [
    ("1 1/2", "11/2"), ("1 2", "12"), ("cat", "tac"), ("on", "no"), ("\\ge", "\\le"), ("≥", "≤"), (">", "‹"), ("10-15", "-5"), ("3.2亿元", "3.2"),
    ("2万", "2"), ("5以上", "5"), ("5多个", "5"), ("3百", "3"), ("2个半", "2"), ("5不", "5"), ("a_1=2,a_2=3", "a_1=3,a_2=2"), ("3 million", "3"),
]  # fmt: skip
EQUAL = [
    ("1 1/2", "3/2"), ("3.2亿元", "320000000"), ("2 万", "20000"), ("约18", "18"), ("\\text{18 dollars}", "18"), ("2元5角", "2.5"), ("方程无解", "无解"),
    ("x_1=2,x_2=3", "x=2,x=3"), ("10", "f(2)=10"), ("10", "5\\times 2=10"), ("xe^x", "e^x x"), ("10~15", "10-15"), ("2ab", "2ba"), ("1.5 million", "1500000"),
]  # fmt: skip


@pytest.mark.parametrize("answer, label", DIFFERENT)
def test_what_only_looks_alike_is_not_equal(answer, label):
    assert not equal(answer, label) and not equal(label, answer)
    assert equal(answer, answer)


@pytest.mark.parametrize("answer, label", EQUAL)
def test_one_value_in_two_spellings_is_equal(answer, label):
    assert equal(answer, label)


def test_words_are_no_products_of_their_letters():
    assert is_math("2ab") and not is_math("3 of 4")


def test_what_has_no_error_is_not_ruled_out():
    """The trap: 没有错误的 read as 没有错 and 误的."""
    assert judge("single_choice", "A没有错误的地方，B有误，C有误，D有误。", "A", protocol="fixed").correct


def test_what_was_only_thought_is_no_answer():
    for form, thought, label in (
        ("single_choice", "答案是A", "A"),
        ("tf", "正确", "T"),
        ("math", "答案是5", "5"),
    ):
        assert not judge(form, f"<think>{thought}", label, protocol="fixed").correct
        assert not judge(form, f"<think>{thought}</think>不好说", label, protocol="fixed").correct
        assert judge(form, f"<think>不好说</think>{thought}", label, protocol="fixed").correct


WRONG = [
    ("tf", "T", ["正确错误", "错误正确", "说法基本正确，但“全部”一词过于绝对。", "这种说法很难说是对的", "前者正确，后者错误"]),
    ("tf", "F", ["正确错误", "题目没有写错", "这个说法没什么不对。"]),
    ("math", "5", ["3.5万", "5万", "5个以上", "不足5", "小于5", "超过5元", "5倍多", "5-", "not 5", "5不是答案", "答案不是5", "2元5角", "3小时5分", "7月5日", "between 1 and 5"]),
    ("math", "3", ["3个半", "3 or 4", "2^3", "3千米到4千米"]),
    ("cloze", "明月", ["不应填明月", "我本想填“明月”，但正确的是“清风”。", "填“清风”而不是“明月”", "“明月”或“清风”"]),
    ("single_choice", "A", ["有人选A，这是错误的。", "若选A则矛盾，所以B", "A项缺主语，B项不当，C项不当，D项没有语病。", "选A的同学忽略了条件，应选B", "答案是C。不要把答案改为A。", "答案是C。若选错误项，答案改为A。"]),
    ("multi_choice", "AB", ["A和B都不对", "AB或者AC", "答案不是AB", "AB错，CD对"]),
]  # fmt: skip


@pytest.mark.parametrize(
    "form, label, replies", WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_trap_is_not_right(form, label, replies):
    for reply in replies:
        assert not judge(form, reply, label, protocol="fixed").correct, reply


AROUND = {
    "greeting": "好的，让我们一步一步来分析这道题。\n\n{}",
    "farewell": "{}\n\n希望对你有所帮助！如果还有其他问题，欢迎随时提问。",
    "farewell in English": "{}\n\nLet me know if you have any questions!",
    "thought": "<think>\n可能是A，也可能是错误，3+4=7。\n</think>\n\n{}",
    "special token": "{}<|im_end|>",
}


@pytest.mark.parametrize("around", AROUND)
def test_what_stands_around_an_answer_changes_nothing(around):
    cases = [json.loads(line) for line in (TESTS / "replies_blind.jsonl").read_text("utf-8").splitlines()]
    assert cases
    for case in cases:
        form, text, label = case["kind"], case["input"], case["label"]
        bare = judge(form, text, label, protocol="fixed").correct
        assert judge(form, AROUND[around].format(text), label, protocol="fixed").correct == bare, text


RIGHT = [
    "正确", "说法正确", "符合题意", "与史实相符", "表述准确", "没有问题", "是对的", "成立", "正确，这是课本原话", "正是题目所问", "当选", "能够从材料中得出", "说法无误", "是正确选项", "✓",
]  # fmt: skip
FALSE = [
    "错误", "说法错误", "不符合题意", "与史实不符", "表述不准确", "有问题", "是错的", "不成立", "错误，时间不对", "曲解了原文", "与题干无关", "不当选", "无法从材料中得出", "过于绝对", "张冠李戴",
    "✗", "混淆了概念", "无中生有", "遗漏了关键信息", "不是根本原因", "应为“隋朝”，说法有误",
]  # fmt: skip
JUDGED = [
    "{}项{}",
    "{}选项{}",
    "选项{}{}",
    "{}. 光合作用：{}",
    "{}、光合作用——{}",
    "**{}**：{}",
    "- {}. 光合作用，{}",
    "（{}）{}",
    "{}项“光合作用”{}",
]


@pytest.mark.parametrize("form", ["single_choice", "multi_choice"])
def test_options_judged_one_after_another_are_read(form):
    """The trap: 当选 before the next option read as the choice of that."""
    chance = random.Random(5)
    for _ in range(1_500):
        letters = sorted(chance.sample("ABCD", 1 if form == "single_choice" else chance.randrange(2, 4)))
        judged = chance.choice(JUDGED)
        between = "\n" if judged[0] in "-*" or "光合" in judged else chance.choice(["；", "。", "\n"])
        parts = [judged.format(one, chance.choice(RIGHT if one in letters else FALSE)) for one in "ABCD"]
        end = chance.choice(["", f"\n所以选{''.join(letters)}。", f"\n\n$\\boxed{{{', '.join(letters)}}}$"])
        reply = chance.choice(["", "逐项分析：\n", "解析："]) + between.join(parts) + end
        assert judge(form, reply, "".join(letters), protocol="fixed").correct, reply


CHOSEN = [
    "答案是C", "故选C", "C正确", "C项符合题意", "我选C", "应该是C", "C当选", "综合来看，C最恰当", "结论：C", "C才是正确答案", "只有C符合题意", "还是C比较准确", "此题的正解是C", "C没有错误",
]  # fmt: skip
DISMISSED = [
    "A错误", "不选A", "A与题意无关", "A是干扰项", "很多人会选A", "A看似正确，实则错误", "A过于绝对", "并不是A", "A缺乏依据", "乍一看A也对", "A虽然有道理，但不全面", "选A就错了", "如果选A则矛盾",
    "千万不要选A", "我一度想选A", "A可以首先排除", "不少人误以为A正确", "A本身没错，但不是题目要求的", "A项颠倒了因果", "A容易让人误选",
]  # fmt: skip
FILLED = [
    "应填“明月”",
    "答案是“明月”",
    "空格处填：明月",
    "正确答案为明月",
    "此处应为“明月”",
    "答案：**明月**",
    "这里应该是“明月”",
    "横线处应补充“明月”",
]
UNFILLED = [
    "不是“清风”", "有人填“清风”", "“清风”不合语境", "而非清风", "填“清风”则不通", "原先以为是“清风”", "很容易误填“清风”", "如果填“清风”，则与上文矛盾", "上一句是“清风”", "曾想过填“清风”",
]  # fmt: skip
HELD = [
    "该说法正确",
    "所以判断为正确",
    "答案：正确",
    "应判为对",
    "这个说法没有错误",
    "判断：√",
    "这句话说得没错",
]
DOUBTED = [
    "有人认为它是错的",
    "乍一看似乎是错误的",
    "并不存在错误",
    "有同学误判为错误",
    "若把“可能”改成“一定”则错误",
    "不要误判为错",
    "不能因为个别现象就说它错",
]


@pytest.mark.parametrize(
    "form, said, other, label, wrong",
    [
        ("single_choice", CHOSEN, DISMISSED, "C", "A"),
        ("cloze", FILLED, UNFILLED, "明月", "清风"),
        ("tf", HELD, DOUBTED, "T", "F"),
    ],
    ids=["single_choice", "cloze", "tf"],
)
def test_what_is_dismissed_beside_the_answer_is_not_right(form, said, other, label, wrong):
    pairs = [(one, two) for one in said for two in other]
    replies = [
        f"{a}{between}{b}。"
        for one, two in pairs
        for a, b in ((one, two), (two, one))
        for between in "，；。\n"
    ]
    assert len(replies) > 300
    assert [reply for reply in replies if judge(form, reply, wrong, protocol="fixed").correct] == []
    right = sum(judge(form, reply, label, protocol="fixed").correct for reply in replies)
    assert right >= 0.95 * len(replies)


PIECES = [
    "A", "B", "C", "D", "A、B", "AC", "选", "答案是", "答案：", "正确", "错误", "不", "没有", "对", "错", "所以", "因此", "但是", "该说法", "一共", "共有", "“", "”", "。", "，",
    "：", "；", "(", ")", "[", "]", "{", "}", "$", "\\(", "\\)", "\\boxed{", "\\frac{", "\\text{", "1", "2", "3.5", "1/2", "10-15", "亿", "万元", "元",
    "角", "x", "x_1=", "=", "<", ">", "≥", "±", "π", "√", "####", "|", "**", "<think>", "</think>", "填", "下一句是", "而是", "不是", "The", "answer", "is",
    "true", "false", "明月",
]  # fmt: skip


def test_ten_thousand_random_replies_are_read():
    """Ends and starts of everything meet everything; the label is never None, so that no reply without a
    reading is right."""
    chance = random.Random(7)
    for _ in range(2_000):
        reply = "".join(chance.choice([*PIECES, " ", "\n"]) for _ in range(chance.randrange(25)))
        for form in FORMS:
            verdict = judge(form, reply, "A" if "choice" in form else "T", protocol="fixed")
            assert verdict.parsed is not None or not verdict.correct, reply


@pytest.mark.parametrize(
    "piece", [*PIECES, " ", "\n", "3.2亿", "1 ", "A，不对，", "2元5角", "$1 ", "| A | ✓ |\n"]
)
def test_a_reply_of_a_hundred_thousand_characters_is_read_at_once(piece):
    reply = (piece * 100_000)[:100_000]
    for form in FORMS:
        soon(partial(judge, form, reply, "A", protocol="fixed"), 2, form)


def test_what_takes_long_is_said_to_take_long():
    """Trap: a helper that forgives every machine everything."""
    with pytest.raises(AssertionError, match="of CPU"):
        soon(lambda: sum(number % 7 for number in range(2_000_000)), 0.001)
