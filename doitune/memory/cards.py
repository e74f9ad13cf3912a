"""Cards: how much of their memory a training may use, and the one that is there (by the driver, without
torch). `known` has those that can be bought."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from doitune.errors import UsageError
from doitune.memory.known import named_card, nearest_cards
from doitune.system.cards import installed_card
from doitune.system.units import GIB

LEFT_FREE = 16, 2.0
"""A sixteenth of a card, at most 2 GiB, is left to the driver, the screen and other programs: 22.5 of 24,
46 of 48, 15 of 16 GiB."""
DEFAULT_GIB = 24.0
LACKS_BF16 = re.compile(r"\bRTX 20[678]0\b|\bTITAN (RTX|V)\b|\bQuadro\b|\bGTX\b|\bT4\b|\bV100\b")
"""Names of cards before Ampere, whose products are in fp16."""
SIZES = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141)
"""Memory of cards that can be bought, in GiB."""


@dataclass(frozen=True)
class Card:
    """A card to plan for. `free_gib`: what the driver says is free now, where the card is in this machine."""

    gib: float
    name: str = ""
    free_gib: float | None = None

    @property
    def usable_gib(self) -> float:
        """What a training may use: see LEFT_FREE; of a card that is here, at most what is free."""
        share, most = LEFT_FREE
        rule = self.gib - min(self.gib / share, most)
        return rule if self.free_gib is None else min(rule, self.free_gib)

    @property
    def has_bf16(self) -> bool:
        """Whether it multiplies in bf16; a card without a name is taken for one that does."""
        return not LACKS_BF16.search(self.name)

    @property
    def taken_gib(self) -> float:
        """What other programs take of a card that is here."""
        return 0.0 if self.free_gib is None else self.gib - self.free_gib


def read_card(text: str) -> Card:
    """`24gb`, `48GiB`, `22.5`: a card by its memory; `rtx4090`, `A6000`: a known one by its name.
    UsageError."""
    match = re.fullmatch(r"([0-9]{1,4}(\.[0-9]{1,3})?) ?(gi?b?)?", text.strip().lower(), re.ASCII)
    gib = float(match[1]) if match else 0.0
    if 1 <= gib <= 2048:
        return Card(gib)
    named = named_card(text)
    if named is None:
        near = [one.name for one in nearest_cards(text)]
        hint = f"24gb, a number of GiB from 1 to 2048, or a card's name: {', '.join(near)}"
        raise UsageError(f"--card {text!r} is neither an amount of memory nor a known card", hint)
    return Card(named.gib, named.name)


def choose_card(text: str | None) -> Card:
    """The card that `--card` says, else the one that is here, else one of DEFAULT_GIB."""
    return read_card(text) if text is not None else find_card() or Card(DEFAULT_GIB)


def smallest_card(gib: float) -> int | None:
    """The memory of the smallest card on sale that has `gib` usable, or None."""
    return next((size for size in SIZES if Card(size).usable_gib >= gib), None)


def find_card() -> Card | None:
    """The card that a training here would use, or None; its driver is asked, which takes milliseconds.

    `CUDA_VISIBLE_DEVICES` is honoured; without it the first card counts, by its slot, as torch is made to
    count them (`CUDA_DEVICE_ORDER`); of several processes of torchrun each asks about its own.
    """
    wanted = _wanted()
    found = None if not wanted or wanted.startswith("-") else installed_card(wanted)
    if found is None or not found.total_bytes:
        return None
    return Card(found.total_bytes / GIB, found.name, found.free_bytes / GIB)


def _wanted() -> str:
    """Number or name of this process's card, before `distributed` has left it only one and after."""
    local = os.environ.get("LOCAL_RANK", "0")
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return local
    names = [name.strip() for name in listed.split(",")]
    return names[int(local)] if local.isdecimal() and int(local) < len(names) else names[0]
