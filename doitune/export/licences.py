"""Licences of bases and data, as far as something here states them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.data.corpus import KNOWN

if TYPE_CHECKING:
    from doitune.export.source import Source
    from doitune.recipe.fields import Recipe

DATA = {
    "doit": "The DoIT data set is MIT.",
    "demo": "The demo's rows and base are doitune's: Apache-2.0.",
}
"""Of the rows that have a name."""

STATED = re.compile(r"[Ll]icensed [A-Z][\w.\-]*\w|\b[A-Z]\w+'s own licence")
"""How the notes of the model recipes state a licence."""


def base_licence(source: Source) -> str:
    """What the recipe's note or the card beside the base says of its licence; "" where neither does."""
    if source.base.name == "demo":
        return "Apache-2.0"
    if found := STATED.search(source.recipe.model.note):
        return found[0][0].lower() + found[0][1:] if found[0].startswith("L") else found[0]
    stated = _of_card(source.base.folder / "README.md")
    return f"its card says {stated}" if stated else ""


def _of_card(path: Path) -> str:
    """`license` in the head of a model's card."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(1 << 16)
    except OSError:
        return ""
    found = re.match(r"---\n.*?^license: *[\"']?([\w.\-]{1,40})", head, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def data_licences(recipe: Recipe) -> str:
    """A sentence for each corpus."""
    author = "The rows that it learned from have their author's licence."
    corpora = (one.place for one in recipe.data.corpora)
    return " ".join(dict.fromkeys(DATA[name] if name in KNOWN else author for name in corpora))
