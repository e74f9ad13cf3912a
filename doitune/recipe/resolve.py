"""Resolved: a recipe with everything said, from its files and flags, and where each value came from.

Layers, last wins: field default, parents (`extends`, one by name), the recipe, `--model`, `--corpus`,
`--set`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from doitune.errors import Problem, RecipeError
from doitune.recipe.fields import Recipe
from doitune.recipe.files import find
from doitune.recipe.layers import layers_of, merged, origins_of
from doitune.recipe.nodes import quote
from doitune.recipe.tree import as_tree, flatten
from doitune.recipe.typed import read_recipe
from doitune.recipe.yaml_text import write_tree


@dataclass(frozen=True)
class Resolved:
    """A recipe with everything said, and for every dotted field where it was said."""

    name: str
    recipe: Recipe
    origins: dict[str, str]


@dataclass(frozen=True)
class Difference:
    """A field that two recipes fill differently; None where one of them does not have it."""

    field: str
    a: Any
    b: Any


def resolve(
    name_or_path: str,
    *,
    model: str | None = None,
    corpus: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> Resolved:
    """A recipe, resolved; `name`: what it is called, where its file is not named after it.

    Errors: RecipeError with all problems; UsageError for a `--set` without `=`.
    """
    source = find(name_or_path)
    corpora = [corpus] if isinstance(corpus, str) else corpus or ()
    layers = layers_of(source, model, corpora, overrides)
    recipe = read_recipe(merged(layers, source.shown), source.shown)
    return Resolved(name or source.name, recipe, origins_of(layers, flatten(as_tree(recipe))))


def diff(a: Recipe, b: Recipe) -> tuple[Difference, ...]:
    """Dotted fields that differ, in the order of the fields."""
    left, right = flatten(as_tree(a)), flatten(as_tree(b))
    keys = list(dict.fromkeys([*left, *right]))
    return tuple(
        Difference(key, left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)
    )


def check(paths: Iterable[str]) -> tuple[Problem, ...]:
    """All problems of all these recipes."""
    found: list[Problem] = []
    for path in paths:
        try:
            resolve(path)
        except RecipeError as error:
            found += error.problems
    return tuple(dict.fromkeys(found))


def freeze(resolved: Resolved) -> str:
    """The whole recipe as text that reads back equal, wherever it lies, with no parent and no flag."""
    return f"# resolved from {quote(resolved.name)[1:-1]}\n{write_tree(as_tree(resolved.recipe))}"
