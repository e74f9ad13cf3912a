"""A field's help: its name, type, default and meaning, as `--help`, documents and messages show them."""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from doitune.recipe.fields import BUDGET_NAMES, BudgetSection, Recipe, Section
from doitune.recipe.values import AMOUNT, describe


@dataclass(frozen=True)
class FieldHelp:
    """One field for `--help`, documents and error messages; `default` is text, empty where the field must
    be written."""

    name: str
    kind: str
    default: str
    meaning: str


def field_help(section: type[Section] = Recipe, prefix: str = "") -> tuple[FieldHelp, ...]:
    """Every field in file order, with its dotted name."""
    found: list[FieldHelp] = []
    for name, info in section.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found += field_help(inner, f"{prefix}{name}.")
        elif get_origin(inner) is dict and section is not BudgetSection:
            found += field_help(get_args(inner)[1], f"{prefix}{name}.NAME.")
        elif section is BudgetSection and name == "abilities":
            meaning = info.description or ""
            found += [FieldHelp(prefix + ability, AMOUNT, "unset", meaning) for ability in BUDGET_NAMES]
        else:
            found.append(
                FieldHelp(prefix + name, describe(inner), _default_text(info.default), info.description or "")
            )
            if entry := entry_kind(inner):
                found += field_help(entry, f"{prefix}{name}.N.")
    return tuple(found)


def entry_kind(kind: Any) -> type[Section] | None:
    """The section that the entries of a field's list are, where it may be a list of sections."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind if get_origin(kind) is None else None
    if get_origin(kind) is Annotated or get_origin(kind) in (Union, UnionType, tuple):
        return next((found for one in get_args(kind) if (found := entry_kind(one))), None)
    return None


def default_of(name: str) -> Any:
    """The default of a field by its dotted name; PydanticUndefined where it has none, or is no field."""
    section: Any = Recipe
    *parts, last = name.split(".")
    for part in parts:
        section = getattr(section.model_fields.get(part), "annotation", None)
        if not (isinstance(section, type) and issubclass(section, Section)):
            return PydanticUndefined
    return section.model_fields[last].default if last in section.model_fields else PydanticUndefined


def _default_text(default: Any) -> str:
    if default is PydanticUndefined:
        return ""
    if isinstance(default, tuple):
        return f"[{', '.join(map(str, default))}]"
    return "unset" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
