"""Nodes -> Recipe: each text is read as its field's type, and all problems are reported at once, with their
places.

`null` means that the field takes its default, which is also how a child removes what its parent wrote.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from doitune.ability import BY_NAME, is_ability_name, known_near, place_of
from doitune.errors import Problem
from doitune.recipe.field_help import entry_kind, field_help
from doitune.recipe.fields import BUDGET_NAMES, BudgetSection, Recipe, Section
from doitune.recipe.nodes import Fields, Items, Node, Scalar, quote
from doitune.recipe.values import Unreadable, amount_of, value_of
from doitune.recipe.yaml_text import MAX_PROBLEMS, raise_all

T = TypeVar("T", bound=Section)

_LIMITS = {
    "greater_than": ("must be above {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be below {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
}


@dataclass
class _Reading:
    """The problems found so far; `shown` names the file of fields that are missing, `declared` are the
    abilities of the recipe's own, `whole` is what the file is."""

    shown: str
    whole: type[Section] = Recipe
    declared: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)

    def report(self, place: str, problem: str, hint: str = "") -> None:
        self.problems.append(Problem(place, problem, hint))


@dataclass(frozen=True)
class _Part:
    """A section, what is written of it, and its dotted name ("" for the whole recipe)."""

    kind: type[Section]
    tree: Fields
    path: str = ""

    def name(self, key: str) -> str:
        """The dotted name of a field."""
        return f"{self.path}.{key}" if self.path and key else self.path or key


def read_recipe(tree: Fields, shown: str) -> Recipe:
    """The recipe that a merged tree says. `shown` names the file of fields that are missing. Errors:
    RecipeError with all problems."""
    abilities = tree.entries.get("abilities")
    declared = frozenset(abilities.entries if isinstance(abilities, Fields) else ())
    reading = _Reading(shown, declared=declared)
    recipe = _section(reading, _Part(Recipe, tree))
    raise_all(sorted(reading.problems, key=_line))
    assert isinstance(recipe, Recipe)
    return recipe


def read_section(kind: type[T], tree: Fields, shown: str) -> T:
    """What a tree says of another kind of file than a recipe, read as strictly. Errors: RecipeError with all
    problems."""
    reading = _Reading(shown, kind)
    found = _section(reading, _Part(kind, tree))
    raise_all(sorted(reading.problems, key=_line))
    assert isinstance(found, kind)
    return found


def _section(reading: _Reading, part: _Part) -> Section:
    """A section; where it has problems they are noted and a stand-in is returned."""
    before = len(reading.problems)
    values: dict[str, Any] = {}
    known = _names(part.kind)
    for key, node in part.tree.entries.items():
        if key not in known and not _is_own_ability(reading, part, key):
            _report_unknown(reading, part, key, node)
        elif not (isinstance(node, Scalar) and node.is_null):  # unset; an empty section says nothing
            values[key] = _value(reading, part, key, node)
    if part.kind is BudgetSection:
        values["abilities"] = {
            name: amount
            for name in sorted(values.keys() - part.kind.model_fields.keys(), key=place_of)
            if (amount := values.pop(name)) is not None
        }
    broken = len(reading.problems) > before
    try:
        return part.kind(**values)
    except ValidationError as error:
        for detail in _one_for_each_field(error):
            if detail["type"] == "contradiction":
                _report_contradictions(reading, part, () if broken else detail["ctx"]["found"])
            else:
                _report_invalid(reading, part, detail)
    return part.kind.model_construct()


def _value(reading: _Reading, part: _Part, key: str, node: Node) -> Any:
    """The value of one field; None, and a problem, where it cannot be read."""
    name = part.name(key)
    kind = part.kind.model_fields[key].annotation if key in part.kind.model_fields else None
    if get_origin(kind) is dict:
        return _named_sections(reading, _Part(get_args(kind)[1], Fields({}), name), node)
    if isinstance(kind, type) and issubclass(kind, Section):
        if isinstance(node, Fields):
            return _section(reading, _Part(kind, node, name))
        problem = f"`{name}` is {_shown(node)}; it is a section with fields of its own"
        reading.report(node.place, problem, f"its fields: {', '.join(_names(kind))}")
        return kind.model_construct()
    if (entry := entry_kind(kind)) and isinstance(node, Items):
        return _entries(reading, _Part(entry, Fields({}), name), node)
    try:
        return amount_of(node) if kind is None else value_of(kind, node)
    except Unreadable as error:
        near = _nearest(node.text, error.words) if isinstance(node, Scalar) else ""
        asked = f"did you mean `{near}`?" if near else f"{error.wanted} is wanted"
        reading.report(node.place, f"`{name}` is {_shown(node)}; {asked}", _meaning(reading, name))
        return None


def _entries(reading: _Reading, part: _Part, node: Items) -> tuple[Section, ...]:
    """Sections in a list; a text is its first field alone."""
    first = next(iter(part.kind.model_fields))
    found = []
    for number, item in enumerate(node.items, 1):
        tree = item if isinstance(item, Fields) else Fields({first: item}, item.place)
        found.append(_section(reading, _Part(part.kind, tree, f"{part.path}.{number}")))
    return tuple(found)


def _named_sections(reading: _Reading, part: _Part, node: Node) -> dict[str, Section]:
    """Sections by the names of abilities."""
    if not isinstance(node, Fields):
        reading.report(node.place, f"`{part.path}` is {_shown(node)}; it is a section of names", part.path)
        return {}
    found = {}
    for key, inner in node.entries.items():
        if not is_ability_name(key):
            problem = f"{quote(key)} is no name for an ability"
            reading.report(inner.place, problem, "letters, digits, _ and -, at most 64")
        elif isinstance(inner, Scalar) and inner.is_null:
            found[key] = part.kind()
        elif isinstance(inner, Fields):
            found[key] = _section(reading, _Part(part.kind, inner, part.name(key)))
        else:
            fields = ", ".join(_names(part.kind))
            problem = f"`{part.name(key)}` is {_shown(inner)}; it is a section with fields of its own"
            reading.report(inner.place, problem, f"its fields: {fields}")
    return found


def _is_own_ability(reading: _Reading, part: _Part, key: str) -> bool:
    """Whether a key of the budget is an ability of the user's own: declared, or like no known name."""
    if part.kind is not BudgetSection or not is_ability_name(key):
        return False
    if key in BY_NAME or key in part.kind.model_fields:
        return False
    return key in reading.declared or not known_near(key, part.kind.model_fields)


def _names(kind: type[Section]) -> list[str]:
    """The keys that a section may have in a file."""
    names = [name for name in kind.model_fields if (kind, name) != (BudgetSection, "abilities")]
    return [*names, *BUDGET_NAMES] if kind is BudgetSection else names


def _report_unknown(reading: _Reading, part: _Part, key: str, node: Node) -> None:
    problem = f"no field {quote(part.name(key))}"
    if len(reading.problems) > MAX_PROBLEMS:  # the search for a near name is slow, and nobody reads on
        reading.report(node.place, problem)
        return
    known = _names(part.kind)
    elsewhere = (one.name for one in field_help(reading.whole) if one.name.endswith("." + key))
    near = _nearest(key, known) or next(elsewhere, "")
    if near and part.kind is BudgetSection and is_ability_name(key):
        hint = f"an ability of your own that is called so is declared: `abilities: {{{key}: }}`"
        reading.report(node.place, f"{problem}; did you mean `{near}`?", hint)
    elif near:
        reading.report(node.place, f"{problem}; did you mean `{near}`?")
    else:
        reading.report(node.place, problem, f"fields here: {', '.join(known)}")


def _report_contradictions(reading: _Reading, part: _Part, found: Any) -> None:
    """Fields that contradict each other."""
    for one in found:
        node = part.tree.entries.get(one.field)
        place = node.place if node else part.tree.place or reading.shown
        reading.report(place, f"`{part.name(one.field)}`: {one.problem}", one.hint)


def _report_invalid(reading: _Reading, part: _Part, detail: ErrorDetails) -> None:
    """A limit that a value breaks, or a missing field."""
    key = str(detail["loc"][0])
    node, name = part.tree.entries.get(key), part.name(key)
    place = node.place if node else reading.shown
    if detail["type"] == "default_factory_not_called":
        return  # it needs a field that is broken and reported
    if detail["type"] == "missing":
        hint = _meaning(reading, name) or "write it, or extend a recipe that has it"
        reading.report(reading.shown, f"`{name}` is missing", hint)
    elif detail["input"] is not None:  # None: reported already as unreadable
        written = _shown(node) if node else quote(str(detail["input"]))
        reading.report(place, f"`{name}` is {written}; it {_limit(detail)}", _meaning(reading, name))


def _one_for_each_field(error: ValidationError) -> list[ErrorDetails]:
    """A field of several types fails once for each; the broken limit says more than `is not the other
    type`."""
    chosen: dict[Any, ErrorDetails] = {}
    for detail in error.errors():
        key = detail["loc"][0] if detail["loc"] else ""
        if key not in chosen or chosen[key]["type"].endswith(("_type", "literal_error")):
            chosen[key] = detail
    return list(chosen.values())


def _limit(detail: ErrorDetails) -> str:
    """What a value breaks, in words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _LIMITS:
        words, bound = _LIMITS[kind]
        return words.format(context[bound])
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_pattern_mismatch":
        return (
            "must be 40 hex digits"
            if "{40}" in context["pattern"]
            else "must be a name of letters, digits, `_` and `.`"
        )
    return str(context.get("error", detail["msg"]))


def _nearest(word: str, known: list[str]) -> str:
    """The known name that `word` most resembles, or that has it for a part, or nothing."""
    near = difflib.get_close_matches(word[:80], known, 1, 0.8)
    near += [name for name in known if word in name.split("_")]
    return next(iter(near or difflib.get_close_matches(word[:80], known, 1, 0.6)), "")


def _meaning(reading: _Reading, name: str) -> str:
    return next((one.meaning for one in field_help(reading.whole) if one.name == name), "")


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return quote(node.text) if node.text else "empty"
    if isinstance(node, Items) and all(isinstance(item, Scalar) for item in node.items):
        return quote(f"[{', '.join(item.text for item in node.items if isinstance(item, Scalar))}]")
    return "a list" if isinstance(node, Items) else "a mapping"


def _line(problem: Problem) -> tuple[str, int]:
    """The order of reading: by file, then by line."""
    file, _, line = problem.place.rpartition(":")
    return (file, int(line)) if line.isascii() and line.isdigit() else (problem.place, 0)
