"""What the driver's cards mean for a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doitune.doctor.check import Check
from doitune.system.cards import InstalledCard
from doitune.system.units import GIB, MIB

FULL_SHARE = 0.1
"""Share of a card above which what others take is worth a warning: a screen takes less."""


def card_document(card: InstalledCard) -> dict[str, Any]:
    """A card for `doitune doctor --json`, in MiB; neither serial numbers nor paths."""
    return {
        "name": card.name,
        "total_mib": card.total_bytes // MIB,
        "free_mib": card.free_bytes // MIB,
        "driver": card.driver,
        "others": [
            {"program": name, "mib": None if taken is None else taken // MIB} for name, taken in card.programs
        ],
    }


def cards_check(found: Sequence[InstalledCard]) -> Check:
    """The cards in a line; a warning where there is none, or where others take much of one."""
    if not found:
        return Check(
            "cards",
            "warning",
            "no NVIDIA card, or no driver for it: training goes by the CPU, which serves the demo and tiny "
            "models",
            "a card of 8 GB or more trains 7b; if there is one, install NVIDIA's driver "
            "(on WSL: the one for Windows)",
        )
    text = "; ".join(
        f"{one.name}, {one.free_bytes / GIB:.1f} of {one.total_bytes / GIB:.1f} GiB free, driver {one.driver}"
        for one in found
    )
    taken = [one for one in found if one.total_bytes - one.free_bytes > FULL_SHARE * one.total_bytes]
    if not taken:
        return Check("cards", "ok", text)
    names = sorted({name for one in taken for name, _ in one.programs})
    cure = f"end what holds the memory: {', '.join(names) or 'the driver does not say what'}"
    return Check("cards", "warning", text, cure, ("nvidia-smi",))
