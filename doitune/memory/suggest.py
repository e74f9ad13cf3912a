"""Which of the known models fit a card, for who has not chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.base.folder import ASSEMBLED
from doitune.errors import ModelError
from doitune.memory.expected import expected_gib
from doitune.memory.plan import plan_memory
from doitune.recipe.files import list_models
from doitune.recipe.resolve import resolve

if TYPE_CHECKING:
    from doitune.memory.cards import Card
    from doitune.memory.plan import MemoryPlan
    from doitune.recipe.resolve import Resolved

TRIAL = "demo"
"""What is trained where there is no card: a model that shows how everything goes."""

PREFERRED = "qwen3"
"""Where several fit, the family that is proposed: it has sizes for every card, reads Chinese and English,
needs no code of its own and is Apache-2.0."""

TUNED = "-instruct"
"""How the name of a model ends that was tuned for chat."""


@dataclass(frozen=True)
class Suggestion:
    """A known model, what it is expected to need, and what it is."""

    name: str
    gib: float
    summary: str


def fitting(recipe: str, card: Card | None) -> list[Suggestion]:
    """The known models that train `recipe` on `card`, the largest first; without a card the smallest first.
    Those that are assembled on the user's machine are left out."""
    found = []
    for one in list_models():
        resolved = resolve(recipe, model=one.name)
        if resolved.recipe.model.name.startswith(ASSEMBLED):
            continue
        if card is None or (planned := planned_for(resolved, card)) is None or planned.fits:
            found.append(Suggestion(one.name, expected_gib(resolved.recipe.model), one.summary))
    return sorted(found, key=lambda one: one.gib, reverse=card is not None)


def proposed(fits: Sequence[Suggestion], card: Card | None) -> str:
    """The model that is taken where nobody names one: TRIAL without a card, else the largest one of
    PREFERRED, else the largest; of a base and the model tuned from it, that one."""
    if card is None or not fits:
        return TRIAL
    largest = next((one.name for one in fits if one.name.startswith(PREFERRED)), fits[0].name)
    tuned = f"{largest.removesuffix(TUNED)}{TUNED}"
    return tuned if tuned in {one.name for one in fits} else largest


def planned_for(resolved: Resolved, card: Card) -> MemoryPlan | None:
    """The plan of a recipe on a card; None for a model whose sizes are not known here."""
    try:
        return plan_memory(resolved, card)
    except ModelError:
        return None
