"""Whether two mathematical answers are the same: numbers, expressions, lists, sets, tuples, intervals,
equations, inequalities, words.

Text equality comes first, so every label equals itself. Lists and sets have no order, tuples and intervals
do. Units and degree signs may be left out on one side, but two different units are two answers. Work is
bounded by `expression`, which refuses what would take long.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from doitune.evals.reading.expression import read, same
from doitune.evals.reading.tokens import MAX_CHARACTERS, Unreadable
from doitune.evals.reading.numerals import arabic

FOLDED = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | {
        "、": ",",
        "，": ",",
        "−": "-",
        "–": "-",
        "—": "-",
        "﹣": "-",
        "：": ":",
        "∶": ":",
        "；": ";",
        "　": " ",
        "\u00a0": " ",
        "％": "%",
    }
)
SYMBOLS = {
    "×": "\\times ",
    "·": "\\cdot ",
    "⋅": "\\cdot ",
    "÷": "/",
    "π": "\\pi ",
    "∞": "\\infty ",
    "±": "\\pm ",
    "≤": "\\le ",
    "≥": "\\ge ",
    "≠": "\\ne ",
    "∪": "\\cup ",
    "∅": "\\emptyset ",
    "∈": "\\in ",
    "θ": "\\theta ",
    "α": "\\alpha ",
    "β": "\\beta ",
    "√": "\\sqrt ",
    "²": "^2",
    "³": "^3",
    "°": "^\\circ ",
} | {
    one: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", one).split("\u2044"))
    for one in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
SPELT = {
    "\\leq": "\\le",
    "\\geq": "\\ge",
    "\\neq": "\\ne",
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    "\\varnothing": "\\emptyset",
}
INVISIBLE = re.compile(
    r"\\(?:left|right|displaystyle|limits|big|Big|bigg|Bigg|quad|qquad)(?![a-zA-Z])|\\[!,;: ]|~|\$|\*\*|\\(?=\$)"
)
THOUSANDS = re.compile(r"(?<![\d.,])(-?\d{1,3})((?:,\d{3})+|(?: \d{3})+)(?![\d,])")
WORDS = (
    "(?:hour|minute|second|day|week|month|year|inch|mile|meter|metre|unit|degree|dollar|cent|point)(?:s|es)?|foot|feet|ft|people|mph"
    "|mm|cm|dm|km|mg|kg|min|ms|m[Ll]|m|g|t|s|h|[Ll]"
)
"""Units in plain letters behind a number."""

UNIT = re.compile(
    r"(?:(?<=[\d}!)])|(?<=\\pi)|(?<=\\pi ))\s*(?:\\(?:text|mathrm|mbox|textrm)\s*\{\s*(?P<latex>[^{}]*)\}(?:\^\{?\d\}?)?"
    rf"|(?P<degree>\^\{{?\s*\\circ\s*\}}?\s*C?)|(?P<percent>\\?%)|(?P<word>(?:{WORDS})(?:/(?:{WORDS}))?)(?:\^\{{?\d\}}?)?"
    r"|(?P<han>[\u4e00-\u9fff]{1,6}(?:/[\u4e00-\u9fff]{1,4})?))\s*$"
)
SAME_UNIT = {
    "厘米": "cm",
    "米": "m",
    "千米": "km",
    "公里": "km",
    "毫米": "mm",
    "千克": "kg",
    "公斤": "kg",
    "克": "g",
    "度": "degree",
    "元": "dollar",
}
WRAPPED_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|mathbb)\s*\{([^{}]*)\}")
RELATION = re.compile(r"\\(?:le|ge|ne)(?![a-zA-Z])|<=|>=|[<>=]")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "=": "=", "\\ne": "\\ne"}
BARE_NAME = re.compile(r"\([a-z](?:\s*,\s*[a-z])+\)|[a-zA-Z](?:_\{?\w+\}?)?(?:\([a-zA-Z]\))?|\\[a-zA-Z]+")
AND = re.compile(
    r"或者|或|和|以及|及|与|\\text\s*\{\s*(?:or|and|或|和)\s*\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])|;"
)
MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)
MIXED = re.compile(r"^(-?)(\d+)\s+(\d+)\s*/\s*(\d+)$")
BASE = re.compile(r"^(\d+)_\{?\d+\}?$")
WORD = re.compile(r"[a-zA-Z]{3,}")
KNOWN_WORD = re.compile(r"frac|sqrt|(?:arc)?(?:sin|cos|tan)|cot|sec|csc|log|exp|times|cdot|binom|div")


def equal(answer: str | None, label: str | None) -> bool:
    """Whether `answer` says the same as `label`. Two Nones are equal (as in the released scorer); a None
    and a text are not."""
    if answer is None or label is None:
        return answer is label
    if answer.strip() == label.strip():
        return True
    if len(answer) > MAX_CHARACTERS or len(label) > MAX_CHARACTERS:
        return False
    first, second = tidy(answer), tidy(label)
    if not first or not second:
        return False
    return first == second or _equal(first, second)


def tidy(text: str) -> str:
    """The text in one spelling: half-width, LaTeX symbols, no layout commands, no full stop at the end."""
    text = re.sub(r"(\d)\s*又\s*(?=\d|\\)", r"\1 ", arabic(text.translate(FOLDED).strip()))
    text = re.sub(r"^负\s*(?=[\d\\(.])", "-", re.sub(r"(?:√|根号)\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}", text))
    text = re.sub(r"^(-?\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})$", r"\1*10^{\2}", text)
    for symbol, spelling in SYMBOLS.items():
        text = text.replace(symbol, spelling)
    text = text.replace("{,}", "\u2063").replace("\\\\", "\u2064")
    text = re.sub(r"\\\(|\\\)|\\\[|\\\]", " ", text)
    text = INVISIBLE.sub(lambda found: " " if found[0] in ("\\ ", "~", "\\quad", "\\qquad") else "", text)
    text = re.sub(r"(\d)\u2063(?=\d)", r"\1", text).replace("\u2063", ",").replace("\u2064", "\\\\")
    text = re.sub(r"\\[a-zA-Z]+", lambda found: SPELT.get(found[0], found[0]), text)
    text = re.sub(r"(?<![\\a-zA-Z])(sqrt|pi|sin|cos|tan|log|ln|infty)(?![a-zA-Z])", r"\\\1", text)
    text = re.sub(rf"(?<=[\d}}])\s*\(({WORDS}|[\u4e00-\u9fff]{{1,4}})\)$", r"\1", text)
    text = re.sub(r"^\((\d+)\)(?=_)", r"\1", text)
    text = re.sub(r"^(?:点|坐标)?[ABD-Z]?\s*(?=\([^()]*,[^()]*\)$)", "", text)
    text = re.sub(r"^\s*(?:[¥￥€£]\s*|[a-zA-Z]\s*\\in(?![a-zA-Z])\s*)", "", text)
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    return text.strip().rstrip("。.,!" if not re.search(r"\d!$", text.strip()) else "。.,").strip()


def is_math(text: str) -> bool:
    """Whether the text as a whole is an answer that `equal` can compare by value, not by its characters."""
    tidied = tidy(text)
    if not tidied or len(text) > MAX_CHARACTERS:
        return False
    parts = _list(tidied)
    return all(_readable(part) for part in parts) if len(parts) > 1 else _readable(tidied)


def _readable(text: str) -> bool:
    """Whether one part is an expression, a bracket of them, or a relation between two."""
    text, _ = _split_unit(text)
    if MATRIX.fullmatch(text) or BASE.search(text) or MIXED.search(text) or _as_number(text) is not None:
        return True
    if "\\cup" in text:
        return all(_readable(part) for part in text.split("\\cup"))
    if bracket := _bracket(text):
        return all(_readable(part) for part in bracket[1])
    if relation := _relation(text):
        return (not relation[0] or _readable(relation[0])) and _readable(relation[2])
    if any(not KNOWN_WORD.fullmatch(word) for word in WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", text))):
        return False
    try:
        read(text)
    except Unreadable:
        return False
    return True


def _equal(answer: str, label: str) -> bool:
    """Two tidied texts: as lists, as brackets, as relations, as values, as words; the label says which."""
    thousands = _as_number(answer), _as_number(label)
    if thousands[0] is not None and thousands[1] is not None:
        return _same_value(thousands[0], thousands[1])
    joined = [
        number if number is not None else text
        for number, text in zip(thousands, (answer, label), strict=True)
    ]
    if joined != [answer, label] and _one(joined[0], joined[1]):
        return True
    if any(
        re.search(r",0\d\d", text)
        for number, text in zip(thousands, (answer, label), strict=True)
        if number is not None
    ):
        return False
    answers, labels = _list(answer), _list(label)
    sets = _bracket(answer), _bracket(label)
    if sets[0] and sets[0][0] == "{}" and len(labels) > 1:
        answers = sets[0][1]
    if sets[1] and sets[1][0] == "{}" and len(answers) > 1:
        labels = sets[1][1]
    if len(labels) > 1 or len(answers) > 1:
        return len(answers) == len(labels) and _same_members(answers, labels, _one)
    return _one(answers[0], labels[0])


def _as_number(text: str) -> str | None:
    """The text if it is one number, its thousands joined (1,000 or 1 000); None otherwise."""
    joined = THOUSANDS.sub(lambda found: found[0].replace(",", "").replace(" ", ""), text)
    bare, _ = _split_unit(joined)
    return joined if re.fullmatch(r"-?\d+(\.\d*)?|-?\.\d+", bare) else None


def _list(text: str) -> list[str]:
    r"""The members of an unordered list: split at top-level commas and at words for "and", `\pm` told
    apart."""
    members = []
    for part in _split(AND.sub(",", text)):
        if "\\pm" in part:
            members += [part.replace("\\pm", "+", 1), part.replace("\\pm", "-", 1)]
        else:
            members.append(part)
    members = [re.sub(r"^\s*\+", "", member).strip() for member in members if member.strip()]
    return members or [text]


def _split(text: str) -> list[str]:
    """At commas that no bracket holds."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _same_members(left: Sequence[str], right: Sequence[str], alike: Callable[[str, str], bool]) -> bool:
    """Whether each member of one has its own partner in the other."""
    waiting = list(right)
    for member in left:
        partner = next((other for other in waiting if alike(member, other)), None)
        if partner is None:
            return False
        waiting.remove(partner)
    return not waiting


def _one(answer: str, label: str) -> bool:
    """Two members of lists, or two whole answers without top-level commas."""
    answer, label = answer.strip(), label.strip()
    if answer == label:
        return True
    matrices = MATRIX.fullmatch(answer), MATRIX.fullmatch(label)
    if matrices[0] or matrices[1]:
        return bool(matrices[0] and matrices[1]) and _same_matrix(matrices[0][2], matrices[1][2])  # type: ignore[index]
    unions = answer.split("\\cup"), label.split("\\cup")
    if len(unions[0]) > 1 or len(unions[1]) > 1:
        return _same_members(unions[0], unions[1], _one)
    relations = _relation(answer), _relation(label)
    brackets = _bracket(answer) or _interval(answer, label), _bracket(label) or _interval(label, answer)
    if brackets[0] and brackets[1]:
        return _same_bracket(brackets[0], brackets[1])
    if (brackets[0] or brackets[1]) and not any(relation and relation[1] == "=" for relation in relations):
        return False
    if relations[0] or relations[1]:
        return _same_relation(answer, label, relations[0], relations[1])
    return _same_value(answer, label)


def _same_matrix(left: str, right: str) -> bool:
    """Row by row, cell by cell."""
    rows = [[cell.strip() for cell in re.split(r"\\\\|&", body)] for body in (left, right)]
    shape = [[row.count("&") for row in body.split("\\\\")] for body in (left, right)]
    return shape[0] == shape[1] and all(_same_value(a, b) for a, b in zip(rows[0], rows[1], strict=True))


def _bracket(text: str) -> tuple[str, list[str]] | None:
    r"""("(]", members) of a tuple, interval or set with at least two members, or of a set of one: \{1\}."""
    text = text.strip()
    if text.startswith("\\{") and text.endswith("\\}"):
        return "{}", _split(text[2:-2])
    if len(text) > 2 and text[0] in "([{" and text[-1] in ")]}" and _closes_last(text):
        members = _split(text[1:-1])
        return (text[0] + text[-1], members) if len(members) > 1 else None
    return None


def _interval(text: str, other: str) -> tuple[str, list[str]] | None:
    """The interval that an inequality of one letter means (1 <= x < 3, x > 5), asked for where the other
    side is given as one."""
    if not _bracket(other):
        return None
    signs = [{"<=": "\\le", ">=": "\\ge"}.get(sign, sign) for sign in RELATION.findall(text)]
    parts = [part.strip() for part in RELATION.split(text)]
    if len(signs) == 1 and re.fullmatch("[a-zA-Z]", parts[1]):
        signs, parts = [FLIPPED[signs[0]]], parts[::-1]
    if len(signs) == 1 and re.fullmatch("[a-zA-Z]", parts[0]):
        ends = ["-\\infty", parts[1]] if signs[0] in ("<", "\\le") else [parts[1], "\\infty"]
        closed = signs[0] in ("\\le", "\\ge")
        shape = {"<": "()", ">": "()", "\\le": "(]", "\\ge": "[)"}.get(signs[0])
        return (shape, ends) if shape and closed == (shape != "()") else None
    if len(signs) == 2 and re.fullmatch("[a-zA-Z]", parts[1]):
        if all(sign in (">", "\\ge") for sign in signs):
            signs, parts = [FLIPPED[sign] for sign in signs[::-1]], parts[::-1]
        if all(sign in ("<", "\\le") for sign in signs):
            return ("[("[signs[0] == "<"] + "])"[signs[1] == "<"], [parts[0], parts[2]])
    return None


def _closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last character, whatever the kinds: (1,5] is an interval."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return at == len(text) - 1
    return False


def _same_bracket(left: tuple[str, list[str]], right: tuple[str, list[str]]) -> bool:
    """Sets without order; tuples and intervals member by member, with the same brackets."""
    if left[0] != right[0] or len(left[1]) != len(right[1]):
        return False
    if left[0] == "{}":
        return _same_members(left[1], right[1], _one)
    return all(_one(a, b) for a, b in zip(left[1], right[1], strict=True))


def _relation(text: str) -> tuple[str, str, str] | None:
    """(left, sign, right) at the last relation sign, spelt one way."""
    found = list(RELATION.finditer(text))
    if not found:
        return None
    sign = found[-1]
    spelling = {"<=": "\\le", ">=": "\\ge"}.get(sign[0], sign[0])
    return text[: sign.start()].strip(), spelling, text[sign.end() :].strip()


def _same_relation(
    answer: str, label: str, first: tuple[str, str, str] | None, second: tuple[str, str, str] | None
) -> bool:
    """x = 5 against 5, or two relations with equal sides, turned round where need be."""
    if first is None or second is None:
        value, relation = (label, first) if first else (answer, second)
        assert relation is not None
        sides = _solved(relation) or (
            [relation[2]] if first else []
        )  # 5 x 2 = 10 is an answer of 10; a label 2x + 3y = 7 is not 7
        return relation[1] == "=" and any(_one(side, value) for side in sides)
    if first[1] == second[1] and _sides(first[0], first[2], second):
        return True
    if FLIPPED.get(first[1]) == second[1] and _sides(first[2], first[0], second):
        return True
    if first[1] == second[1] == "=":
        differences = [f"({left})-({right})" for left, _, right in (first, second)]
        return _same_value(differences[0], differences[1]) or _same_value(
            f"-({differences[0]})", differences[1]
        )
    return False


def _solved(relation: tuple[str, str, str]) -> list[str]:
    """What a bare name (x, a_1, f(x)) is said to equal; nothing where neither side is a bare name."""
    left, _, right = relation
    if BARE_NAME.fullmatch(left):
        return [right.rsplit("=", 1)[-1]]
    return [left] if BARE_NAME.fullmatch(right) else []


def _sides(left: str, right: str, other: tuple[str, str, str]) -> bool:
    """Both sides equal, where a side may itself be a relation (1 < x < 3)."""
    return _one(left, other[0]) and _one(right, other[2])


def _split_unit(text: str) -> tuple[str, str]:
    """(value, unit): the unit in one spelling, "" where there is none."""
    found = UNIT.search(text)
    if not found or not found.start():
        return text.strip(), ""
    kinds = found.groupdict()
    if kinds["degree"]:
        unit = "degree"
    elif kinds["percent"]:
        unit = "%"
    else:
        unit = next(
            word for word in (kinds["latex"], kinds["word"], kinds["han"]) if word is not None
        ).strip()
    return text[: found.start()].strip(), SAME_UNIT.get(
        unit, unit.removesuffix("s") if unit.isalpha() and len(unit) > 2 else unit
    )


def _same_value(answer: str, label: str) -> bool:
    """One value each, units apart; words by their letters."""
    (first, unit), (second, other) = _split_unit(answer), _split_unit(label)
    if unit and other and unit != other:
        return False
    if (":" in first) != (":" in second) and any(re.fullmatch(r"-?[\d.]+", text) for text in (first, second)):
        return False
    if bool(BASE.search(first)) != bool(BASE.search(second)):
        first, second = BASE.sub(r"\1", first), BASE.sub(r"\1", second)
    if _plain(first) == _plain(second):
        return True
    mixed = [MIXED.sub(r"\1(\2+\3/\4)", text) for text in (first, second)]
    try:
        if same(mixed[0], mixed[1]):
            return True
        if (unit == "%") != (other == "%"):
            hundredth = [
                f"({mixed[0]})/100" if unit == "%" else mixed[0],
                f"({mixed[1]})/100" if other == "%" else mixed[1],
            ]
            return same(hundredth[0], hundredth[1])
    except Unreadable:
        pass
    return False


def _plain(text: str) -> str:
    r"""Without spaces and text wrappers; (B), \text{B} and \text{(B)} are B."""
    bare = re.sub(r"\s+", "", WRAPPED_TEXT.sub(r"\1", text))
    letter = re.fullmatch(r"\(?([A-Za-z])\)?", bare)
    return letter[1] if letter else re.sub(r"([\^_])\{(\w)\}", r"\1\2", bare)
