"""Whether two mathematical answers are the same: numbers, expressions, lists, sets, tuples, intervals,
equations, inequalities, words.

Text equality comes first, so every label equals itself. Lists and sets have no order, tuples and intervals
do. Units and degree signs may be left out on one side, but two different units are two answers. Work is
bounded by `expression`, which refuses what would take long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from doitune.evals.reading import shapes
from doitune.evals.reading.expression import RANGE, read, same
from doitune.evals.reading.shapes import MATRIX, Bracket, Relation, as_number, bracket, relation
from doitune.evals.reading.spelling import tidy
from doitune.evals.reading.tokens import MAX_CHARACTERS, Unreadable
from doitune.evals.reading.units import split_unit

LISTED_DIGITS = re.compile(r",0\d\d")
"""Behind a comma as in a list: 1,000 is a thousand and not the list of 1 and 0."""

WRAPPED_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|mathbb)\s*\{([^{}]*)\}")
MIXED = re.compile(r"^(-?)(\d+)\s+(\d+)\s*/\s*(\d+)$")
BASE = re.compile(r"^(\d+)_\{?\d+\}?$")
DECIMAL = re.compile(r"-?[\d.]+")
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
    return first == second or _same_lists(first, second)


def is_math(text: str) -> bool:
    """Whether the text as a whole is an answer that `equal` can compare by value, not by its characters."""
    if len(text) > MAX_CHARACTERS or not (tidied := tidy(text)):
        return False
    parts = shapes.members(tidied)
    return all(_readable(part) for part in (parts if len(parts) > 1 else [tidied]))


def _readable(text: str) -> bool:
    """Whether one part is an expression, a bracket of them, or a relation between two."""
    text, _ = split_unit(text)
    if (
        RANGE.fullmatch(text)
        or MATRIX.fullmatch(text)
        or BASE.search(text)
        or MIXED.search(text)
        or as_number(text) is not None
    ):
        return True
    if "\\cup" in text:
        return all(_readable(part) for part in text.split("\\cup"))
    if found := bracket(text):
        return all(_readable(member) for member in found.members)
    if sides := relation(text):
        return (not sides.left or _readable(sides.left)) and _readable(sides.right)
    if any(not KNOWN_WORD.fullmatch(word) for word in WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", text))):
        return False
    try:
        read(text)
    except Unreadable:
        return False
    return True


def _same_lists(answer: str, label: str) -> bool:
    """Two tidied texts: as numbers with thousands, else as unordered lists, mostly of one member each; a set
    is a list where the other side is one."""
    numbers = as_number(answer), as_number(label)
    if numbers[0] is not None and numbers[1] is not None:
        return _same_value(numbers[0], numbers[1])
    if any(number is not None for number in numbers):
        joined = numbers[0] or answer, numbers[1] or label
        if joined != (answer, label) and _same(*joined):
            return True
        if LISTED_DIGITS.search(answer if numbers[0] is not None else label):
            return False
    answers, labels = shapes.without_places(shapes.members(answer), shapes.members(label))
    if len(answers) > 1 and len(labels) == 1 and "\\cup" in label:
        labels = label.split("\\cup")
    elif len(labels) > 1 and len(answers) == 1 and "\\cup" in answer:
        answers = answer.split("\\cup")
    sets = bracket(answer), bracket(label)
    if sets[0] and sets[0].kind == "{}" and len(labels) > 1:
        answers = sets[0].members
    if sets[1] and sets[1].kind == "{}" and len(answers) > 1:
        labels = sets[1].members
    return _same_members(answers, labels)


def _same_members(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether each member of one has its own partner in the other."""
    if len(left) != len(right):
        return False
    waiting = list(right)
    for member in left:
        partner = next((other for other in waiting if _same(member, other)), None)
        if partner is None:
            return False
        waiting.remove(partner)
    return True


def _same(answer: str, label: str) -> bool:
    """Two members of lists: as matrices, unions, brackets, relations or values; the first shape that either
    side has decides."""
    answer, label = answer.strip(), label.strip()
    if answer == label:
        return True
    if MATRIX.fullmatch(answer) or MATRIX.fullmatch(label):
        return _same_matrix(answer, label)
    if "\\cup" in answer or "\\cup" in label:
        return _same_members(answer.split("\\cup"), label.split("\\cup"))
    brackets = bracket(answer), bracket(label)
    if brackets[1] and not brackets[0]:
        brackets = shapes.interval(answer), brackets[1]
    elif brackets[0] and not brackets[1]:
        brackets = brackets[0], shapes.interval(label)
    if brackets[0] and brackets[1]:
        return _same_bracket(brackets[0], brackets[1])
    relations = relation(answer), relation(label)
    if any(brackets) and not any(sides and sides.sign == "=" for sides in relations):
        return False
    if relations[0] and relations[1]:
        return _same_relation(relations[0], relations[1])
    if relations[0]:
        # 5 x 2 = 10 is an answer of 10; a label 2x + 3y = 7 is not 7
        return _is_solution(label, relations[0], shapes.solutions(relations[0]) or [relations[0].right])
    if relations[1]:
        return _is_solution(answer, relations[1], _label_solutions(relations[1]))
    return _same_value(answer, label)


def _same_matrix(answer: str, label: str) -> bool:
    """Row by row, cell by cell."""
    found = MATRIX.fullmatch(answer), MATRIX.fullmatch(label)
    if not (found[0] and found[1]):
        return False
    first, second = shapes.cells(found[0][2]), shapes.cells(found[1][2])
    return [len(row) for row in first] == [len(row) for row in second] and all(
        _same_value(one, other)
        for row, other_row in zip(first, second, strict=True)
        for one, other in zip(row, other_row, strict=True)
    )


def _same_bracket(left: Bracket, right: Bracket) -> bool:
    """Sets without order; tuples and intervals member by member, with the same brackets."""
    if left.kind != right.kind or len(left.members) != len(right.members):
        return False
    if left.kind == "{}":
        return _same_members(left.members, right.members)
    return all(_same(one, other) for one, other in zip(left.members, right.members, strict=True))


def _is_solution(value: str, given: Relation, solutions: Sequence[str]) -> bool:
    """x = 5 against 5."""
    return given.sign == "=" and any(_same(solution, value) for solution in solutions)


def _label_solutions(label: Relation) -> list[str]:
    """What a label says that something equals: a name (x = 5, f(2) = 10) or a sum that is worked out
    (5 x 2 = 10)."""
    try:
        worked_out = bool(label.left) and not read(label.left)[1]
    except Unreadable:
        worked_out = False
    return [label.right] if worked_out else shapes.solutions(label)


def _same_relation(first: Relation, second: Relation) -> bool:
    """Equal sides, turned round where need be; of equations also an equal or opposite difference of the
    sides."""
    if first.sign == second.sign and _same_sides(first, second):
        return True
    if not (first.left and second.left):
        return False
    turned = Relation(first.right, shapes.FLIPPED[first.sign], first.left)
    if turned.sign == second.sign and _same_sides(turned, second):
        return True
    if first.sign == second.sign == "=":
        one, other = (f"({sides.left})-({sides.right})" for sides in (first, second))
        return _same_value(one, other) or _same_value(f"-({one})", other)
    return False


def _same_sides(first: Relation, second: Relation) -> bool:
    return _same(first.left, second.left) and _same(first.right, second.right)


def _same_value(answer: str, label: str) -> bool:
    """Two values, their units compared first; words letter by letter."""
    (first, unit), (second, other) = split_unit(answer), split_unit(label)
    if unit and other and unit != other:
        return False
    if (":" in first) != (":" in second) and (DECIMAL.fullmatch(first) or DECIMAL.fullmatch(second)):
        return False
    if bool(BASE.search(first)) != bool(BASE.search(second)):
        first, second = BASE.sub(r"\1", first), BASE.sub(r"\1", second)
    if _plain(first) == _plain(second):
        return True
    first, second = (MIXED.sub(r"\1(\2+\3/\4)", text) for text in (first, second))
    try:
        if same(first, second):
            return True
        if (unit == "%") != (other == "%"):
            return same(_share(first, unit), _share(second, other))
    except Unreadable:
        pass
    return False


def _share(value: str, unit: str) -> str:
    """A percentage as the number that it is."""
    return f"({value})/100" if unit == "%" else value


def _plain(text: str) -> str:
    r"""Without spaces and text wrappers; (B), \text{B} and \text{(B)} are B."""
    bare = re.sub(r"(?<![\d])\s+|\s+(?!\d)", "", WRAPPED_TEXT.sub(r"\1", text))
    letter = re.fullmatch(r"\(?([A-Za-z])\)?", bare)
    return letter[1] if letter else re.sub(r"([\^_])\{(\w)\}", r"\1\2", bare)
