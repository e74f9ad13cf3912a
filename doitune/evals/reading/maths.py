r"""Finding the final answer in a worked solution: the last box; else what follows the last 答案 that has a
value; else the last formula; else the last value of the text. `equality` then compares it with the label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from doitune.evals.reading.endings import (
    FOUND_YET,
    GIVES_UP,
    NO_SOLUTION,
    SAYS_SOMETHING,
    SOLUTIONS,
    in_words,
    numbered,
    without_asides,
)
from doitune.evals.reading.equality import is_math
from doitune.evals.reading.numerals import arabic
from doitune.evals.reading.patterns import Pattern, Phrase, Rewrite, pattern
from doitune.evals.reading.plain import SPECIAL_TOKEN
from doitune.evals.reading.spelling import FOLDED

BOXES_TRIED = 20
"""How many unbalanced boxes are looked behind."""

BOX = pattern("box", r"\\(?:boxed|fbox)\s*\{", r"\boxed{5}", r"\boxed5")
BOX_EDGE = pattern("edge of a box", r"\$|\\text\s*\{|\}", "$", "和")
FORMULA = Pattern(
    (
        Phrase("two dollar signs", r"\$\$(.+?)\$\$", "$$5$$", "$$5"),
        Phrase(
            "dollar signs",
            r"(?<!\\)\$(?!\s*\d[\d.,]*[^$]*?\s[a-zA-Z]{2,}\s)([^$]+?)(?<!\\)\$(?!\d)",
            "$5$",
            "$5 + $7",
        ),
        Phrase("round LaTeX brackets", r"\\\((.+?)\\\)", r"\(5\)", "(5)"),
        Phrase("square LaTeX brackets", r"\\\[(.+?)\\\]", r"\[5\]", "[5]"),
    ),
    flags=re.DOTALL,
)
"""A formula, in the group that is not None."""

JOINT = pattern(
    "joins formulas",
    r"^\s*(?:[,，;；]?\s*(?:有?(?:最[小大]值|极[小大]值)(?:是|为)|[乙丙丁](?:的[^\W\d]{1,4})?(?:是|为|有|得|[:：])|或者?|和|与|及|以及|、|,|，|;|or|and))\s*\Z",
    " 或 ",
    "，所以",
)
AFTER_HASHES = pattern(
    "the last line, behind four hashes", r"(?:^|\n)[ \t]*####[ \t]*([^\n]+)\s*\Z", "#### 72", "#### 解\n5"
)
ANSWER = pattern("the answer", r"答案|(?i:\banswer\s*(?:is|:|=)|\banswer\*+:)", "The answer is", "answers")
BEFORE = pattern(
    "is the answer",
    r"(?:^|[,。;\n])([^,。;\n]{0,60}?)(?<![不非])\s*(?:就|便|即)?(?:是|为)(?:本题|最终|最后|正确|所求)?的?答案",
    "5就是正确的答案",
    "答案是5",
)
LEAD = Rewrite(
    "what leads to a value",
    r"^[\s,，、;；]*(?:所以|因此|故|即|因而|于是|从而|那么|则|综上|可得|得到|得|最终|最后|正确|本题|答案|答|结果|应该|应|就|我们)*"
    r"(?:是|为|等于|选择?|:|：|约为?|大约|共|一共|总共|共计|共有|还?有|需要?|花[了费]?|用了?|还?剩下?)*[\s:：*]*",
    "",
    "所以答案是 5",
    "5",
    "5是答案",
)
TURN = Pattern(
    (
        Phrase("it follows", "所以|因此|因而|于是|从而|故|综上", "因此5", "由于5"),
        Phrase("one gets", "可得|得到|解得|求得|得出|得", "解得5", "解5"),
        Phrase("equals", "等于|值为|结果为|结果是|为(?!了)|是|即", "等于5", "为了5"),
        Phrase("amounts to", "(?:一|总|合)?共(?:计|有|是)?|约", "共有5", "有5"),
    )
)
"""Behind the last of these stands the value of a sentence."""

DENIED = pattern(
    "denied",
    r"(?:不应该?是|不应当是|不应为|不是|不等于|并非|而非|不为|不能是|不可能是|不可能为)(?:(?!而是|[,，。;；]).)*",
    "不是4而是5",
    "是4",
)
NOT_THE_ANSWER = pattern(
    "denied to be the answer",
    r"[^,，。;；\n]{0,12}(?:不是|并非|而非)(?:本题|最终|正确)?的?答案",
    "5不是答案",
    "答案不是5",
)
DENIAL = pattern("denied in a clause", "不应[该当]?[是为]|不是|并非|而非", "不是5", "是5")
COUNTED = Pattern(
    (
        Phrase("place", r"第\s*\d+\s*[题步章节问行页]|步骤\s*\d+|\bstep\s*\d+", "第5题", "5题"),
        Phrase("part of a formula", r"[a-z)]\s*[-+*/^]\s*\d+(?:\.\d+)?", "y+5", "5+5"),
    ),
    flags=re.IGNORECASE,
)
"""Numbers that count lines and questions or are a part of a formula, and answer none."""

REMARK = pattern(
    "remark in brackets",
    r"[(（][^()（）]*(?:单位|注|约|其中|答案|保留)[^()（）]*[)）]",
    "5（单位：米）",
    "(5)",
)
NUMBER = Pattern(
    (
        Phrase(
            "with parts in smaller units",
            r"(?<![\w.])\d+\s*个?(?:元|块|小时|时|分钟?|天|周|月|米|分米|厘米|千米|千克|吨|斤|度|年|岁)\s*零?\s*\d+(?:\.\d+)?\s*"
            r"(?:角|毛|分钟?|秒|小时|天|日|号|厘米|分米|毫米|米|千克|克|两|个月|月)(?:\s*\d+\s*(?:分|秒|毫米))?",
            "1小时30分",
            "٣",
        ),
        Phrase(
            "with parts in smaller tens",
            r"(?<![\w.])\d+\s*[千万亿]\s*\d+\s*[百千万](?![克米瓦])",
            "3 万 5 千",
            "٣",
        ),
        Phrase("range", r"(?<![\w.])\d+(?:\.\d+)?\s*[-~～–—至到]\s*\d+(?:\.\d+)?", "10-15", "٣"),
        Phrase(
            "on its own",
            r"(?<![\w.])[-−+±]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\s+\d+/\d+|\d+/\d+|\d+(?:\.\d+)?|\.\d+)"
            r"(?:\s*(?:\\?%|%|°|万亿|[百千]?万|亿|(?:thousand|million|billion|trillion)\b))?",
            "1,000.5%",
            "٣",
        ),
        Phrase("behind a word", r"[-−+±]?\d+(?:\.\d+)?(?:/\d+)?", "x5", "x"),
    ),
    flags=re.ASCII,
)
EACH = Pattern(
    (
        Phrase(
            "what each is or has",
            r"^(?![^,，、;；]*[,，、;；]\s*(?:也就是|也即|换算|折合)[^,，、;；]*\Z)(?:所以|因此|故|答\s*[:：])?[,，]?\s*(?:[^\W\d共剩总还原比每不非没答果所故即前先第]{1,8}?[有是为得年]\s*(?:\d+(?:\.\d+)?|[一二三四五六七八九十百千零]{1,7})\s*[^\W\d]{0,3}(?:[,，、;；]|[。.]?\Z)){2,6}\Z",
            "甲有3个，乙有4个。",
            "路长是2千米，也就是2000米",
        ),
        Phrase(
            "what there is to each",
            r"^(?:所以|因此|故|答\s*[:：])?[,，]?\s*(?:每[^\W\d]{1,6}?\s*\d+(?:\.\d+)?\s*[^\W\d]{1,3}(?:[,，、;；]|[。.]?\Z)){2,4}\Z",
            "每人3个，每组12个。",
            "甲有3个，一共有4个",
        ),
        Phrase(
            "two of one unit, in an answer",
            r"^答\s*[:：]\s*[^\d,，;；]{1,12}\d+(?:\.\d+)?\s*([^\W\d]{1,3})[,，;；][^\d,，;；共总还剩比每]{1,8}\d+(?:\.\d+)?\s*\1[。.]?\Z",
            "答：甲队修12米，乙队修8米。",
            "答：甲队修12米，还剩8米。",
        ),
    )
)
ONE_NUMBER = pattern(
    "a number", r"\d+(?:\.\d+)?|(?<=[有是为得年])[一二三四五六七八九十百千零]+", "有十二个", "一个"
)
NEAR = 24
"""Characters before and behind a number in which it can be made another."""

BOUND = pattern(
    "a bound before a number",
    r"(?:不足|不到|小于|大于|超过|少于|多于|高于|低于"
    r"|(?i:\bnot|\bbetween\s+\S{1,8}\s+and|(?:more|less|fewer) than))\s*\Z",
    "不足",
    "足",
)
MORE = pattern(
    "more than the number",
    r"\s*(?:[\u4e00-\u9fff]{0,2}?(?:以[上下内外]|多(?=[\W\u4e00-\u9fff]|\Z)|半|余(?=\W|\Z))|dozen|[-+*/^=]\s*\Z)",
    "个半",
    "个",
)
SAID_BEHIND = pattern(
    "a conclusion without formulas, behind the last one",
    r"(?:\$|\\\)|\\\])[^$\\]{0,40}?[\s,，。;；]((?:答\s*[:：]|所以|因此|故|最终结果|一?共|得|即(?=\s*\d)|[^\W\d约]{1,4}[为是](?=\s*\d))[^$\\\n]{0,40}\d[^$\\\n]{0,10})\Z",
    "$y=12$，因此共有18个。",
    "$y=12$，因此 $x=6$",
)
SMALL_UNIT = pattern(
    "a unit beside which a larger one is usual",
    r"\s*(角|毛|厘米|毫米|克)(?![/每的\u4e00-\u9fff])",
    " 角",
    "元",
)
COLON = pattern("colon of a list", r"(?<!\d):|:(?!\s*\d)", "答: 5", "3:2")
HAN = pattern("a Chinese character", r"[\u4e00-\u9fff]", "答:5", "x:5")
CLAUSE_END = pattern("end of a clause", "[,，;；。]", "5,", "5、6")
MATHS_SIGN = pattern("a sign of mathematics", r"[0-9\\π√∞±<>=^]", "x=y", "解")
TEXT = pattern("text in LaTeX", r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}", r"5\text{ cm}", r"\sqrt{5}")


def final_answer(reply: str) -> str | None:
    """The answer that a worked solution ends with, as text to compare; None where it has none, or where the
    last thing it says of it is that there is too little to find it."""
    if (gives_up := GIVES_UP.regex.search(reply)) and not FOUND_YET.regex.search(reply, gives_up.end()):
        return None
    return _first(_candidates(without_asides(SPECIAL_TOKEN.regex.sub(" ", reply)).strip()))


def _candidates(text: str) -> Iterator[str | None]:
    """What may be the final answer, the best first; None for each place where there is none."""
    yield last_box(text)
    if found := AFTER_HASHES.regex.search(text):
        yield _value(found[1]) if _whole(LEAD.apply(_trimmed(found[1]))) else None
    if EACH.regex.search(last := (text.splitlines() or [""])[-1].strip(" *_\t")):
        yield ", ".join(map(arabic, ONE_NUMBER.regex.findall(last)))
    yield from map(_of_tail, reversed(ANSWER.regex.split(text)[1:]))
    yield from map(_value, reversed(BEFORE.regex.findall(text)))
    if parts := numbered(text):
        yield parts
    if NO_SOLUTION.regex.search(last):
        yield "无解"
    if listed := SOLUTIONS.regex.search(last):
        yield listed[1]
    if said := SAID_BEHIND.regex.search(text):
        yield _value(said[1])
    yield _formulas(text, last=True)
    yield from map(_value, reversed(text.splitlines()))


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value is not None), None)


def wording(reply: str) -> str:
    """An answer in words ("无解"): what follows the last 答案, without lead-in and stops."""
    return LEAD.apply(reply.rsplit("答案", 1)[-1]).strip(" \n。.$")


def last_box(text: str) -> str | None:
    r"""The content of the last \boxed{} or \fbox{} whose braces balance, with those that "or" or a comma
    joins to it; None without one."""
    found: list[str] = []
    start = -1
    for box in reversed([*BOX.regex.finditer(text)][-BOXES_TRIED:]):
        end = _closing(text, box.end())
        between = BOX_EDGE.regex.sub(" ", text[end + 1 : start])
        if end >= 0 and (not found or (end <= start and JOINT.regex.match(between))):
            found.insert(0, text[box.end() : end].strip())
            start = box.start()
        elif found:
            break
    return ", ".join(found) or None


def _closing(text: str, start: int) -> int:
    """Where the brace closes that was opened before `start`; -1 where it does not."""
    depth = 1
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if depth == 0:
            return at
    return -1


def _of_tail(tail: str) -> str | None:
    """The value of the first line behind 答案 that holds anything: its first formula, the whole of it, or
    its first clause with a value."""
    for line in tail.splitlines():
        if not SAYS_SOMETHING.regex.search(line):
            continue
        found = _formulas(line, last=False)
        if found is not None:
            return found
        bare = LEAD.apply(_trimmed(line))
        if bare and _whole(bare):
            return bare
        clauses = CLAUSE_END.regex.split(line)
        return _first(_value(clause) for clause in clauses if not DENIAL.regex.search(clause))
    return None


def _formulas(text: str, *, last: bool) -> str | None:
    """The first or last group of formulas between dollar signs or LaTeX brackets; those joined by "or" or
    a comma are one group."""
    groups: list[list[str]] = []
    end = -1
    for found in FORMULA.regex.finditer(text):
        content = next(part for part in found.groups() if part is not None).strip()
        if not content:
            continue
        if groups and JOINT.regex.match(text[end : found.start()]):
            groups[-1].append(content)
        else:
            groups.append([content])
        end = found.end()
    return ", ".join(groups[-1 if last else 0]) if groups else None


def _trimmed(line: str) -> str:
    """A line without remarks in brackets and without what ends a sentence; the exclamation mark behind a
    number is a factorial."""
    text = REMARK.regex.sub("", line).strip().lstrip("*# ").rstrip("。.;；* ")
    return text if re.search(r"\d[!！]$", text) else text.rstrip("！! ")


def _value(line: str) -> str | None:
    """The value of one line without formulas: the whole of it, else what follows its last turn, else its
    last number."""
    text = _trimmed(line)
    for candidate in (text, LEAD.apply(text)):
        if candidate and _whole(candidate):
            return candidate
    text = DENIED.regex.sub(" ", NOT_THE_ANSWER.regex.sub(" ", text))
    text = text.replace("：", ":")
    if HAN.regex.search(text.split(":")[0]) and (colons := list(COLON.regex.finditer(text))):
        listed = text[colons[-1].end() :].strip()
        if listed and "=" not in listed and _whole(listed):
            return listed
    for part in reversed(TURN.regex.split(text)):
        part = LEAD.apply(part).strip(" ,，。:：")
        if part and _whole(part):
            return part
        if NUMBER.regex.search(part):
            break
    number = _last_number(COUNTED.regex.sub(" ", text.translate(FOLDED)))
    return in_words(text) if number is None else number


def _last_number(text: str) -> str | None:
    """The last number of a text; with the words that make it a bound or more than itself, where it has any,
    so that it equals no number."""
    numbers = list(NUMBER.regex.finditer(text))
    if not numbers:
        return None
    start, end = numbers[-1].span()
    bound = BOUND.regex.search(text[max(0, start - NEAR) : start])
    more = MORE.regex.match(text[end : end + NEAR])
    unit = SMALL_UNIT.regex.match(text[end : end + NEAR])
    behind = more[0] if more else unit[1] if unit else ""
    return f"{bound[0] if bound else ''}{numbers[-1][0].strip().lstrip('+')}{behind}"


def _whole(text: str) -> bool:
    """Whether the text as it stands is a mathematical answer (a unit behind it, "or" inside it allowed)."""
    bare = arabic(TEXT.regex.sub("", text))
    if not MATHS_SIGN.regex.search(bare) and len(re.sub(r"[\W_]", "", bare)) > 1:
        return False
    return is_math(text)
