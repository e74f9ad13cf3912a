"""A first recipe of one's own as text: what was chosen, each with its meaning, and what is worth a change, as
comments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doitune.recipe.field_help import field_help
from doitune.recipe.tree import as_tree, flatten
from doitune.recipe.yaml_text import write_text, write_tree

if TYPE_CHECKING:
    from doitune.recipe.resolve import Resolved

OFFERED = (
    *("prompt.template", "data.holdout", "lora.rank", "lora.alpha"),
    *("train.learning_rate", "train.max_tokens", "train.max_steps"),
)
"""Fields that many change: they stand in the recipe as comments, with the values that they have."""

WIDTH = 100


def starter_text(
    parent: str, resolved: Resolved, said: Mapping[str, Any], about: Sequence[str], beside: Mapping[str, str]
) -> str:
    """The text of a recipe that extends `parent` and resolves to `resolved`. `said`: what it writes down, by
    dotted name; `about`: its first lines; `beside`: a remark on a field."""
    meanings = {one.name: one.meaning for one in field_help()}
    values = flatten(as_tree(resolved.recipe))
    sections: dict[str, list[str]] = {}
    for name in (*said, *(one for one in OFFERED if one not in said)):
        section, _, field = name.partition(".")
        written = any(one.startswith(f"{section}.") for one in said)
        comment = "; ".join(text for text in (meanings.get(name, ""), beside.get(name, "")) if text)
        lines = [f"  # {line}" for line in textwrap.wrap(comment, WIDTH)]
        value = _written(field, said[name] if name in said else values.get(name))
        lines += value if name in said or not written else [f"  # {line.strip()}" for line in value]
        if section not in sections:
            sections[section] = ["", f"{section}:" if written else f"# {section}:"]
        sections[section] += lines if written else [f"# {line}" for line in lines]
    head = [f"# {line}" for text in about for line in textwrap.wrap(text, WIDTH)]
    body = [line for lines in sections.values() for line in lines]
    return "\n".join([*head, "", f"extends: {write_text(parent)}", *body]) + "\n"


def _written(field: str, value: Any) -> list[str]:
    """A field's lines below its section; a dotted one (of a section within it) as that is nested."""
    tree = value
    for name in reversed(field.split(".")):
        tree = {name: tree}
    return write_tree(tree, 1).rstrip("\n").split("\n")
