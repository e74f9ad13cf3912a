"""A recipe as nested mappings of texts, numbers, lists and None, as a file and JSON hold it."""

from __future__ import annotations

from typing import Any

from doitune.recipe.fields import Recipe, Section
from doitune.recipe.values import amount_text


def as_tree(recipe: Recipe) -> dict[str, Any]:
    """Every field of the recipe, the budget flat, as in a file."""
    return _section_tree(recipe)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat


def _entry(item: Any) -> Any:
    """An entry of a list; a section by what it says, its first field alone where it says no more."""
    if not isinstance(item, Section):
        return item
    fields = type(item).model_fields
    said = {key: value for key, value in _section_tree(item).items() if value != fields[key].default}
    return said if len(said) > 1 else next(iter(said.values()))


def _section_tree(section: Section) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            tree[name] = _section_tree(value)
        elif name == "abilities" and isinstance(section, Recipe):
            tree[name] = {ability: _section_tree(inner) for ability, inner in value.items()}
        elif isinstance(value, dict):  # a budget's abilities stand beside its own fields
            tree.update({ability: amount_text(amount) for ability, amount in value.items()})
        else:
            tree[name] = [_entry(item) for item in value] if isinstance(value, tuple) else value
    return tree
