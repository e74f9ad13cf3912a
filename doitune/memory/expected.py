"""What a model needs on a card as lists state it; a plan (`plan.py`) says it for a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doitune.memory.shape import find_shape
from doitune.memory.terms import Setting, count
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.recipe.fields import Recipe

SETTING = f"rank {Setting.rank}, micro-batches of {Setting.tokens:,} tokens, {Setting.backend}"
"""What it is stated for, in words."""


def expected_gib(recipe: Recipe) -> float:
    """The nominal need of the recipe's model under SETTING, all terms included. Errors: ModelError."""
    return sum(term.nominal for term in count(Setting(find_shape(recipe.model).architecture))) / GIB
