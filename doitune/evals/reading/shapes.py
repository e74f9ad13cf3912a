r"""The shape of a mathematical answer: a number, a list, a bracket (tuple, interval, set), a relation, a
matrix. All texts are in the spelling of `spelling.tidy`."""

from __future__ import annotations

import re
from typing import NamedTuple

from doitune.evals.reading.units import split_unit

THOUSANDS = re.compile(r"(?<![\d.,])(-?\d{1,3})((?:,\d{3})+|(?: \d{3})+)(?![\d,])")
AND = re.compile(
    r"或者|或|和|以及|及|与|\\text\s*\{\s*(?:or|and|或|和)\s*\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])|;"
)
RELATION = re.compile(r"\\(?:le|ge|ne)(?![a-zA-Z])|<=|>=|[<>=]")
FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "=": "=", "\\ne": "\\ne"}
BARE_NAME = re.compile(
    r"\([a-z](?:\s*,\s*[a-z])+\)|[a-zA-Z](?:_\{?\w+\}?)?(?:\((?:[a-zA-Z]|-?[\d.]+)\))?|\\[a-zA-Z]+"
)
NUMBERED = re.compile(r"([a-z])_\{?\d\}?\s*=")
MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix)\}(.*)\\end\{\1\}", re.DOTALL)


class Bracket(NamedTuple):
    """A tuple, an interval or a set: its two brackets, "(]", and its members in order."""

    kind: str
    members: list[str]


class Relation(NamedTuple):
    """Two sides and the sign between them; the left side may hold a relation itself: 1 < x < 3."""

    left: str
    sign: str
    right: str


def as_number(text: str) -> str | None:
    """The text if it is one number, a unit behind it allowed, its thousands joined (1,000 or 1 000); None
    otherwise."""
    joined = THOUSANDS.sub(lambda found: found[0].replace(",", "").replace(" ", ""), text)
    bare, _ = split_unit(joined)
    return joined if re.fullmatch(r"-?\d+(\.\d*)?|-?\.\d+", bare) else None


def members(text: str) -> list[str]:
    r"""The members of an unordered list: split at top-level commas and at words for "and"; `\pm` makes two
    members."""
    found = []
    for part in _split(AND.sub(",", text)):
        found += [part.replace("\\pm", sign, 1) for sign in "+-"] if "\\pm" in part else [part]
    return [re.sub(r"^\s*\+", "", one).strip() for one in found if one.strip()] or [text]


def without_places(answer: list[str], label: list[str]) -> tuple[list[str], list[str]]:
    """Members of two lists; solutions that one of them numbers (x_1 = 2, x_2 = 3) without their numbers where
    the other numbers none."""
    numbered = [len(part) > 1 and all(map(NUMBERED.match, part)) for part in (answer, label)]
    if numbered[0] == numbered[1]:
        return answer, label
    if len({NUMBERED.match(one)[1] for one in answer if NUMBERED.match(one)}) > 1:  # type: ignore[index]
        return answer, label
    first, second = ([NUMBERED.sub(r"\1=", one) for one in part] for part in (answer, label))
    return first, second


def _split(text: str) -> list[str]:
    """At commas that no bracket holds."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def bracket(text: str) -> Bracket | None:
    r"""A tuple, interval or set of at least two members, or a set of one: \{1\}; None where it is none."""
    text = text.strip()
    if text.startswith("\\{") and text.endswith("\\}"):
        return Bracket("{}", _split(text[2:-2]))
    if len(text) > 2 and text[0] in "([{" and text[-1] in ")]}" and _closes_last(text):
        found = Bracket(text[0] + text[-1], _split(text[1:-1]))
        return found if len(found.members) > 1 else None
    return None


def _closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last character, whatever the kinds: (1,5] is an interval."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return at == len(text) - 1
    return False


def relation(text: str) -> Relation | None:
    """The two sides of the last relation sign; None without one."""
    found = list(RELATION.finditer(text))
    if not found:
        return None
    sign = found[-1]
    return Relation(text[: sign.start()].strip(), _in_latex(sign[0]), text[sign.end() :].strip())


def _in_latex(sign: str) -> str:
    return {"<=": "\\le", ">=": "\\ge"}.get(sign, sign)


def solutions(found: Relation) -> list[str]:
    """What a bare name (x, a_1, f(x)) is said to equal; nothing where neither side is a bare name."""
    if BARE_NAME.fullmatch(found.left):
        return [found.right]
    return [found.left] if BARE_NAME.fullmatch(found.right) else []


def interval(text: str) -> Bracket | None:
    """The interval that an inequality of one letter means: 1 <= x < 3, x > 5; None where it is none."""
    signs = [_in_latex(sign) for sign in RELATION.findall(text)]
    parts = [part.strip() for part in RELATION.split(text)]
    if len(signs) == 1:
        return _half_line(parts[0], signs[0], parts[1])
    if len(signs) != 2 or not _is_letter(parts[1]):
        return None
    if all(sign in (">", "\\ge") for sign in signs):
        signs, parts = [FLIPPED[sign] for sign in signs[::-1]], parts[::-1]
    if all(sign in ("<", "\\le") for sign in signs):
        return Bracket("[("[signs[0] == "<"] + "])"[signs[1] == "<"], [parts[0], parts[2]])
    return None


def _half_line(left: str, sign: str, right: str) -> Bracket | None:
    """x > 5 and 5 < x as (5, oo)."""
    if _is_letter(right):
        left, sign, right = right, FLIPPED[sign], left
    kind = {"<": "()", ">": "()", "\\le": "(]", "\\ge": "[)"}.get(sign)
    if not kind or not _is_letter(left):
        return None
    return Bracket(kind, ["-\\infty", right] if sign in ("<", "\\le") else [right, "\\infty"])


def _is_letter(text: str) -> bool:
    return bool(re.fullmatch("[a-zA-Z]", text))


def cells(matrix: str) -> list[list[str]]:
    """The cells of a matrix's body, row by row."""
    return [[cell.strip() for cell in row.split("&")] for row in matrix.split("\\\\")]
