"""What a model needs on a card as lists state it; a plan (`plan.py`) says it for a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doitune.memory.setting import Setting
from doitune.memory.shape import find_shape
from doitune.memory.terms import count
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.recipe.fields import ModelSection

SETTING = (
    f"rank {Setting.rank}, micro-batches of {Setting.tokens:,} tokens; by unsloth where it has kernels for "
    "the family, else by hf"
)
"""What it is stated for, in words."""


def expected_gib(model: ModelSection) -> float:
    """The nominal need of a recipe's model under SETTING, all terms included. Errors: ModelError."""
    shape = find_shape(model).architecture
    setting = Setting(shape, backend="unsloth" if shape.family.unsloth else "hf")
    return sum(term.nominal for term in count(setting)) / GIB
