"""Nodes -> Recipe and back: each text is read as its field's type, and all problems are told at once, with
their places.

Nothing is guessed: a whole number has no leading zero, no `_`, no point; a truth value is `true` or `false`;
`null` means that the field takes its default, which is also how a child removes what its parent wrote.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from doitune.errors import Problem
from doitune.recipe.budget import Share
from doitune.recipe.fields import BUDGET_NAMES, BudgetSection, Recipe, Section, describe, field_help
from doitune.recipe.yaml_text import MAX_PROBLEMS, Fields, Items, Node, Scalar, quote, raise_all

_INT = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[+-]?((0|[1-9][0-9]{0,17})(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,4})?")
_SHARE = re.compile(r"share(\+([1-9][0-9]{0,8}))?")
_LIMITS = {
    "greater_than": ("must be above {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be below {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
}


class _Unreadable(Exception):
    """A node that its field's type cannot be read from; the argument says what was wanted."""


def read_recipe(tree: Fields, shown: str) -> Recipe:
    """The recipe that a merged tree says. `shown` names the file of fields that are missing. Errors:
    RecipeError with all problems."""
    reader = _Reader(shown)
    recipe = reader.section(Recipe, tree, "")
    raise_all(sorted(reader.problems, key=_line))
    assert isinstance(recipe, Recipe)
    return recipe


def check_names(tree: Fields, shown: str, allowed: tuple[str, ...] = ()) -> list[Problem]:
    """Problems of a part of a recipe (a parent, a model file): unknown fields and unreadable values; missing
    fields are none.

    `allowed`, where given, are the sections that may be set.
    """
    reader = _Reader(shown, partial=True)
    for key, node in tree.entries.items():
        if allowed and key in Recipe.model_fields and key not in allowed:
            reader.report(node.place, f"a model file may not set `{key}`", f"it may set {', '.join(allowed)}")
    reader.section(Recipe, tree, "")
    return reader.problems


def as_tree(recipe: Recipe) -> dict[str, Any]:
    """The recipe as nested mappings of texts, numbers, lists and None, as a file and JSON hold it (the
    budget flat)."""
    return _section_tree(recipe)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _section_tree(section: Section) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            tree[name] = _section_tree(value)
        elif isinstance(value, dict):  # a budget's abilities stand beside its own fields
            tree.update({ability: _amount_text(amount) for ability, amount in value.items()})
        else:
            tree[name] = list(value) if isinstance(value, tuple) else value
    return tree


def _amount_text(amount: int | str | Share) -> int | str:
    if isinstance(amount, Share):
        return f"share+{amount.extra}" if amount.extra else "share"
    return amount


class _Reader:
    def __init__(self, shown: str, *, partial: bool = False) -> None:
        self.problems: list[Problem] = []
        self._shown, self._partial = shown, partial

    def report(self, place: str, problem: str, hint: str = "") -> None:
        self.problems.append(Problem(place, problem, hint))

    def section(self, kind: type[Section], tree: Fields, path: str) -> Section:
        """A section; where it has problems they are noted and a stand-in is returned."""
        before = len(self.problems)
        values: dict[str, Any] = {}
        for key, node in tree.entries.items():
            name = _dotted(path, key)
            if kind is BudgetSection and key in BUDGET_NAMES:
                self._amount(values, key, node, name)
            elif key not in kind.model_fields or (kind is BudgetSection and key == "abilities"):
                self._unknown(node.place, name, key, kind)
            else:
                self._field(values, key, node, name, kind.model_fields[key].annotation)
        if kind is BudgetSection:
            order = values.get("abilities", {})
            values["abilities"] = {ability: order[ability] for ability in BUDGET_NAMES if ability in order}
        broken = len(self.problems) > before
        try:
            return kind(**values)
        except ValidationError as error:
            for detail in _one_for_each_field(error):
                self._invalid(detail, tree, path, broken)
        return kind.model_construct()

    def _field(self, values: dict[str, Any], key: str, node: Node, name: str, kind: Any) -> None:
        nested = isinstance(kind, type) and issubclass(kind, Section)
        if isinstance(node, Scalar) and node.is_null:
            return  # unset; an empty section says nothing
        if nested and isinstance(node, Fields):
            values[key] = self.section(kind, node, name)
        elif nested:
            self.report(
                node.place,
                f"`{name}` is {_shown(node)}; it is a section with fields of its own",
                f"its fields: {_names(kind)}",
            )
            values[key] = kind.model_construct()
        else:
            try:
                values[key] = _read(kind, node)
            except _Unreadable as wanted:
                near = (
                    _nearest(node.text, str(wanted).replace(" or ", ", ").split(", "))
                    if isinstance(node, Scalar)
                    else ""
                )
                asked = f"; did you mean `{near}`?" if near else f"; {wanted} is wanted"
                self.report(node.place, f"`{name}` is {_shown(node)}{asked}", _meaning(name))
                values[key] = None

    def _amount(self, values: dict[str, Any], key: str, node: Node, name: str) -> None:
        """One ability of a budget; null removes what a parent wrote."""
        if isinstance(node, Scalar) and node.is_null:
            return
        text = node.text if isinstance(node, Scalar) else ""
        share = _SHARE.fullmatch(text)
        amounts = values.setdefault("abilities", {})
        if share:
            amounts[key] = Share(int(share[2] or 0))
        elif text == "all":
            amounts[key] = "all"
        elif _INT.fullmatch(text) and int(text) >= 0:
            amounts[key] = int(text)
        else:
            self.report(
                node.place,
                f"`{name}` is {_shown(node)}; a number, all, share or share+K is wanted",
                _meaning(name),
            )

    def _unknown(self, place: str, name: str, key: str, kind: type[Section]) -> None:
        if len(self.problems) > MAX_PROBLEMS:  # the search for a near name is slow, and nobody reads on
            self.report(place, f"no field {quote(name)}")
            return
        known = [field for field in kind.model_fields if field != "abilities"] + list(
            BUDGET_NAMES if kind is BudgetSection else ()
        )
        near = _nearest(key, known) or next(
            (field.name for field in field_help() if field.name.endswith("." + key)), ""
        )
        asked = f"; did you mean `{near}`?" if near else ""
        self.report(
            place, f"no field {quote(name)}{asked}", "" if near else f"fields here: {', '.join(known)}"
        )

    def _invalid(self, detail: ErrorDetails, tree: Fields, path: str, broken: bool) -> None:
        """A limit that a value breaks, a missing field, or fields that contradict each other."""
        if detail["type"] == "contradiction":
            for found in () if broken or self._partial else detail["ctx"]["found"]:
                node = tree.entries.get(found.field)
                self.report(
                    node.place if node else tree.place or self._shown,
                    f"`{_dotted(path, found.field)}`: {found.problem}",
                    found.hint,
                )
            return
        key = str(detail["loc"][0])
        node = tree.entries.get(key)
        name = _dotted(path, key)
        if detail["type"] == "default_factory_not_called":
            return  # it needs a field that is broken and told
        if detail["type"] == "missing":
            if not self._partial:
                self.report(
                    self._shown,
                    f"`{name}` is missing",
                    _meaning(name) or "write it, or extend a recipe that has it",
                )
        elif detail["input"] is not None:  # None: told already as unreadable
            problem = (
                f"`{name}` is {_shown(node) if node else quote(str(detail['input']))}; it {_limit(detail)}"
            )
            self.report(node.place if node else self._shown, problem, _meaning(name))


def _one_for_each_field(error: ValidationError) -> list[ErrorDetails]:
    """A field of several types fails once for each; the broken limit says more than `is not the other
    type`."""
    chosen: dict[Any, ErrorDetails] = {}
    for detail in error.errors():
        key = detail["loc"][0] if detail["loc"] else ""
        if key not in chosen or chosen[key]["type"].endswith(("_type", "literal_error")):
            chosen[key] = detail
    return list(chosen.values())


def _read(kind: Any, node: Node) -> Any:
    """The value of `node` as the type `kind`; raises _Unreadable with what was wanted."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _read(inner[0], node)
    if origin in (Union, types.UnionType):
        for one in inner:
            try:
                return _read(one, node)
            except _Unreadable:
                continue
        raise _Unreadable(describe(kind))
    if origin is tuple:
        if not isinstance(node, Items):
            raise _Unreadable(f"{describe(kind)}, as in [a, b],")
        return tuple(_read(inner[0], item) for item in node.items)
    if not isinstance(node, Scalar) or kind is type(None):
        raise _Unreadable(describe(kind) if kind is not type(None) else "nothing")
    return _read_scalar(kind, node.text)


def _read_scalar(kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal and text in get_args(kind):
        return text
    if kind is str:
        return text
    if kind is bool and text in ("true", "false"):
        return text == "true"
    if kind is int and _INT.fullmatch(text):
        return int(text)
    if kind is float and _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise _Unreadable(describe(kind))


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
    """The known name that `word` most resembles, or nothing."""
    return next(iter(difflib.get_close_matches(word[:80], known, 1, 0.6)), "")


def _meaning(name: str) -> str:
    return next((field.meaning for field in field_help() if field.name == name), "")


def _names(kind: type[Section]) -> str:
    return ", ".join(kind.model_fields)


def _dotted(path: str, key: str) -> str:
    return f"{path}.{key}" if path and key else path or key


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
