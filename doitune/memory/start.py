"""The plan at the start of a training: refuse what cannot fit before anything is downloaded, and say how
large micro-batches may be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from doitune.errors import ModelError
from doitune.memory.cards import Card, find_card
from doitune.memory.plan import plan_memory, refuse_unfit
from doitune.memory.reserve import RESERVES
from doitune.memory.terms import count
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.memory.plan import MemoryPlan
    from doitune.recipe.resolve import Resolved


@dataclass(frozen=True)
class Allowance:
    """Tokens of a micro-batch for a run, and the nominal peak that the plan expects with them."""

    tokens: int
    planned_gib: float


def refuse_before_download(resolved: Resolved, given: Card | None) -> None:
    """FitError where the recipe fits neither what `given` says nor the card that is here; nothing is planned
    where there is no card.

    An architecture that the closed form does not know is let through: the trial before step 1 decides.
    """
    for card in (given, find_card()):
        planned = None if card is None else _planned(resolved, card, _expected_backend(resolved))
        if planned is not None:
            refuse_unfit(planned)


def allowance(resolved: Resolved, backend: str, most_gib: float | None = None) -> Allowance | None:
    """What the card that is here allows a run on `backend`, where it is limited to a card of `most_gib`; None
    without a card, or for an architecture that is not known.

    The base may lie on the card by now: what this process takes counts as free, as the plan counts it, too.
    """
    card = find_card()
    if card is not None and card.free_gib is not None:
        card = replace(card, free_gib=min(card.gib, card.free_gib + _own_gib(backend)))
    if card is not None and most_gib is not None and most_gib < card.gib:
        free = most_gib if card.free_gib is None else min(most_gib, card.free_gib)
        card = replace(card, gib=most_gib, free_gib=free)
    planned = None if card is None else _planned(resolved, card, backend)
    if planned is None:
        return None
    tokens = resolved.recipe.train.tokens_per_micro_batch or planned.tokens_per_micro_batch
    peak = sum(term.nominal for term in count(replace(planned.setting, tokens=tokens)))
    return Allowance(tokens, peak / GIB)


def _own_gib(backend: str) -> float:
    """What this process takes of its card: torch's memory, and a context, whose size is assumed."""
    import torch

    if not torch.cuda.is_initialized():
        return 0.0
    return torch.cuda.memory_reserved() / GIB + RESERVES[backend].context_gib[1]


def _planned(resolved: Resolved, card: Card, backend: str) -> MemoryPlan | None:
    try:
        return plan_memory(resolved, card, backend=backend)
    except ModelError:
        return None


def _expected_backend(resolved: Resolved) -> str:
    """The backend that will serve, as far as can be said without torch."""
    from doitune.backends import unsloth

    wanted = resolved.recipe.model.backend
    return wanted if wanted != "auto" else "unsloth" if unsloth.installed() else "hf"
