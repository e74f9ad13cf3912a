r"""Finding the final answer in a worked solution: the last box; else what follows the last 答案 that has a
value; else the last formula; else the last value of the text. `equality` then compares it with the label."""

from __future__ import annotations

import re

from doitune.evals.reading.equality import is_math
from doitune.evals.reading.letters import SPECIAL_TOKEN
from doitune.evals.reading.numerals import arabic
from doitune.evals.reading.spelling import FOLDED

BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
BOXES_TRIED = 20
"""How many unbalanced boxes are looked behind."""

BOX_EDGE = re.compile(r"\$|\\text\s*\{|\}")
BEFORE = re.compile(
    r"(?:^|[,。;\n])([^,。;\n]*?)\s*(?:就|便|即)?(?:是|为)(?:本题|最终|最后|正确|所求)?的?答案"
)
FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
JOINT = re.compile(r"\s*(?:或者?|和|与|及|以及|、|,|，|;|or|and)\s*")
LEAD = re.compile(
    r"^[\s:：,，。#*]*?(?:(?:所以|因此|故|即|因而|于是|从而|那么|则|综上|可得|得到|得|最终|最后|正确|本题|答案|答|结果|应该|应|就|我们)*"
    r"(?:是|为|等于|选择?|:|：|约为?|大约|共|一共|共有|有)*)[\s:：*]*"
)
TURN = re.compile(
    r"所以|因此|因而|于是|从而|故|综上|可得|得到|解得|求得|得出|等于|值为|结果为|结果是|为(?!了)|是|得|即|共有?|约"
)
DENIED = re.compile(r"(?:不是|不等于|并非|而非|不为|不能是|不可能是|不可能为)(?:(?!而是|[,，。;；]).)*")
COUNTED = re.compile(
    r"第\s*\d+\s*[题步章节问行页]|步骤\s*\d+|\bstep\s*\d+|[a-z)]\s*[-+*/^]\s*\d+(?:\.\d+)?", re.IGNORECASE
)
"""Numbers that count lines and questions or are a part of a formula, and answer none."""
REMARK = re.compile(r"[(（][^()（）]*(?:单位|注|约|其中|答案|保留)[^()（）]*[)）]")
NUMBER = re.compile(
    r"(?<![\w.])[-−+±]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\s+\d+/\d+|\d+/\d+|\d+(?:\.\d+)?|\.\d+)(?:\s*(?:\\?%|%|°))?|[-−+±]?\d+(?:\.\d+)?(?:/\d+)?",
    re.ASCII,
)
HAN = re.compile(r"[\u4e00-\u9fff]")


def final_answer(reply: str) -> str | None:
    """The answer that a worked solution ends with, as text to compare; None where it has none."""
    text = SPECIAL_TOKEN.sub(" ", reply).strip()
    boxed = last_box(text)
    if boxed is not None:
        return boxed
    tails = text.split("答案")
    for tail in reversed(tails[1:]):
        found = _of_tail(tail)
        if found is not None:
            return found
    for before in reversed(BEFORE.findall(text)):
        found = _value(before)
        if found is not None:
            return found
    return _last(text)


def wording(reply: str) -> str:
    """An answer in words ("无解"): what follows the last 答案, without lead-in and stops."""
    return LEAD.sub("", reply.rsplit("答案", 1)[-1], count=1).strip(" \n。.$")


def last_box(text: str) -> str | None:
    r"""The content of the last \boxed{} or \fbox{} whose braces balance, with those that "or" or a comma
    joins to it; None without one."""
    found: list[str] = []
    start = -1
    for box in reversed([*BOX.finditer(text)][-BOXES_TRIED:]):
        end = _closing(text, box.end())
        if end < 0 or (
            found and (end > start or not JOINT.fullmatch(BOX_EDGE.sub(" ", text[end + 1 : start])))
        ):
            if found:
                break
            continue
        found.insert(0, text[box.end() : end].strip())
        start = box.start()
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
        if not re.search(r"[^\W_]|[\\$√]", line):
            continue
        found = _formulas(line, last=False)
        if found is not None:
            return found
        bare = LEAD.sub("", _trimmed(line), count=1)
        if bare and _whole(bare):
            return bare
        clauses = [
            clause for clause in re.split(r"[,，;；。]", line) if not re.search(r"不是|并非|而非", clause)
        ]
        return next((value for value in map(_value, clauses) if value is not None), None)
    return None


def _last(text: str) -> str | None:
    """The last formula, else the value of the last line that has one."""
    found = _formulas(text, last=True)
    if found is not None:
        return found
    for line in reversed(text.splitlines()):
        found = _value(line)
        if found is not None:
            return found
    return None


def _formulas(text: str, *, last: bool) -> str | None:
    """The first or last group of formulas between dollar signs or LaTeX brackets; those joined by "or" or
    a comma are one group."""
    groups: list[list[str]] = []
    end = -1
    for found in FORMULA.finditer(text):
        content = next(part for part in found.groups() if part is not None).strip()
        if not content:
            continue
        if groups and JOINT.fullmatch(text[end : found.start()]):
            groups[-1].append(content)
        else:
            groups.append([content])
        end = found.end()
    if not groups:
        return None
    group = groups[-1] if last else groups[0]
    return ", ".join(group) if len(group) > 1 else group[0]


def _trimmed(line: str) -> str:
    """A line without remarks in brackets and without what ends a sentence; the exclamation mark behind a
    number is a factorial."""
    text = REMARK.sub("", line).strip().lstrip("*# ").rstrip("。.;；* ")
    return text if re.search(r"\d[!！]$", text) else text.rstrip("！! ")


def _value(line: str) -> str | None:
    """The value of one line without formulas: the whole of it, else what follows its last turn, else its
    last number."""
    text = _trimmed(line)
    for candidate in (text, LEAD.sub("", text, count=1)):
        if candidate and _whole(candidate):
            return candidate
    text = DENIED.sub(" ", text)
    if HAN.search(text.split(":")[0]) and ":" in (text := text.replace("：", ":")):
        listed = text.rsplit(":", 1)[-1].strip()
        if listed and "=" not in listed and _whole(listed):
            return listed
    for part in reversed(TURN.split(text)):
        part = LEAD.sub("", part, count=1).strip(" ,，。:：")
        if part and _whole(part):
            return part
    numbers = NUMBER.findall(COUNTED.sub(" ", text.translate(FOLDED)))
    return numbers[-1].strip().lstrip("+") if numbers else None


def _whole(text: str) -> bool:
    """Whether the text as it stands is a mathematical answer (a unit behind it, "or" inside it allowed)."""
    bare = arabic(re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}", "", text))
    if not re.search(r"[0-9\\π√∞±<>=^]", bare) and len(re.sub(r"[\W_]", "", bare)) > 1:
        return False
    return is_math(text)
