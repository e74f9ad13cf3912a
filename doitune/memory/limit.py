"""A larger card made as small as the one that `--card` names: what a training may take of it ends there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.memory.reserve import RESERVES
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.memory.cards import Card

CONTEXT_GIB = max(one.context_gib[1] for one in RESERVES.values())
"""What the driver keeps for the process and torch's limit does not count."""


@dataclass(frozen=True)
class Limit:
    """What naming a card came to. `tensors_gib`: what torch may reserve on `device`, whose memory is
    `device_gib`; None where nothing is limited. `text` says it."""

    card_gib: float
    text: str
    device: str = ""
    device_gib: float = 0.0
    tensors_gib: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What origin.json says of it; empty where nothing is limited."""
        if self.tensors_gib is None:
            return {}
        numbers = {
            "card_gib": self.card_gib,
            "device_gib": round(self.device_gib, 3),
            "tensors_gib": round(self.tensors_gib, 3),
        }
        return {"card_limit": numbers}


def limit_process(named: Card) -> Limit:
    """Let this process have of its card what a training may use of the `named` one, where the card is larger;
    has to come before anything lies on it.

    Beyond that torch says what it says at a card's end. It counts its own memory alone: a nominal context is
    taken off, and states of a paged optimiser, which may leave a card, are not counted.
    """
    import torch

    called = f"a card of {named.gib:g} GiB"
    if not torch.cuda.is_available():
        return Limit(named.gib, f"there is no card here: naming {called} limits nothing")
    device = torch.cuda.current_device()
    name = torch.cuda.get_device_name(device)
    total = torch.cuda.get_device_properties(device).total_memory
    if total <= named.gib * GIB:
        return Limit(named.gib, f"{name} has {total / GIB:.1f} GiB: naming {called} limits nothing")
    tensors = named.usable_gib - CONTEXT_GIB
    torch.cuda.set_per_process_memory_fraction(tensors * GIB / total, device)
    text = (
        f"limited to what is usable of {called}: {named.usable_gib:.2f} GiB of {name}'s {total / GIB:.1f}, "
        f"{tensors:.2f} of them for torch and {CONTEXT_GIB:g} for CUDA itself"
    )
    return Limit(named.gib, text, name, total / GIB, tensors)
