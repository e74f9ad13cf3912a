"""Cards that can be bought, by the name that their driver reports: every GeForce and workstation RTX since
the 20 series, with the memory, and the speed where a training's pace on it can be expected."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class NamedCard:
    """A card's name, without NVIDIA and GeForce, and its memory. Of several sizes under one name, all but
    the first say theirs in the name."""

    name: str
    gib: float


@dataclass(frozen=True)
class KnownCard(NamedCard):
    """Dense bf16 with fp32 sums in TFLOPS, memory bandwidth in GB/s, and the share of the TFLOPS that a
    training is expected to reach.

    `derived`: the figures come from the number of units and the clock, not from a data sheet.
    """

    tflops: float
    gb_per_second: float
    efficiency: float
    derived: bool = False


def _derived(name: str, gib: float, cores: int, ghz: float, gb_per_second: float, share: float) -> KnownCard:
    """A GeForce card since the 30 series: with fp32 sums its tensor cores do twice the work of its CUDA
    cores, which do two operations a clock."""
    return KnownCard(name, gib, round(4 * cores * ghz / 1000, 1), gb_per_second, share, derived=True)


KNOWN = (
    _derived("RTX 3050", 8, 2560, 1.777, 224, 0.70),
    _derived("RTX 3060", 12, 3584, 1.777, 360, 0.70),
    _derived("RTX 3060 8 GB", 8, 3584, 1.777, 240, 0.70),
    _derived("RTX 3060 Ti", 8, 4864, 1.665, 448, 0.70),
    KnownCard("RTX 3070", 8, 40.6, 448, 0.70),
    _derived("RTX 3070 Ti", 8, 6144, 1.770, 608, 0.70),
    KnownCard("RTX 3080", 10, 59.5, 760, 0.70),
    _derived("RTX 3080 12 GB", 12, 8960, 1.710, 912, 0.70),
    _derived("RTX 3080 Ti", 12, 10240, 1.665, 912, 0.70),
    KnownCard("RTX 3090", 24, 71, 936, 0.70, derived=True),
    KnownCard("RTX 3090 Ti", 24, 80, 1008, 0.70),
    _derived("RTX 4060", 8, 3072, 2.460, 272, 0.70),
    KnownCard("RTX 4060 Ti", 8, 44, 288, 0.70, derived=True),
    KnownCard("RTX 4060 Ti 16 GB", 16, 44, 288, 0.70, derived=True),
    _derived("RTX 4070", 12, 5888, 2.475, 504, 0.65),
    _derived("RTX 4070 SUPER", 12, 7168, 2.475, 504, 0.65),
    _derived("RTX 4070 Ti", 12, 7680, 2.610, 504, 0.65),
    _derived("RTX 4070 Ti SUPER", 16, 8448, 2.610, 672, 0.65),
    KnownCard("RTX 4080", 16, 97.5, 716.8, 0.65),
    _derived("RTX 4080 SUPER", 16, 10240, 2.550, 736, 0.65),
    KnownCard("RTX 4090", 24, 165.2, 1008, 0.65),
    _derived("RTX 4090 D", 24, 14592, 2.520, 1008, 0.65),
    _derived("RTX 5060", 8, 3840, 2.497, 448, 0.65),
    _derived("RTX 5060 Ti", 8, 4608, 2.572, 448, 0.65),
    _derived("RTX 5060 Ti 16 GB", 16, 4608, 2.572, 448, 0.65),
    KnownCard("RTX 5070", 12, 61.7, 672, 0.65),
    KnownCard("RTX 5070 Ti", 16, 87.9, 896, 0.65),
    KnownCard("RTX 5080", 16, 112.6, 960, 0.65),
    KnownCard("RTX 5090", 32, 209.5, 1792, 0.65),
    KnownCard("RTX A4000", 16, 76.7, 448, 0.65),
    KnownCard("RTX A4500", 20, 94.6, 640, 0.65),
    KnownCard("RTX A5000", 24, 111.1, 768, 0.65),
    KnownCard("RTX A6000", 48, 154.8, 768, 0.65),
    KnownCard("RTX 6000 Ada", 48, 364, 960, 0.52, derived=True),
)
"""Efficiencies: trainings in public reached 68 and 61 % on a 4090 and 73 % on a 3090; others are set from
these."""

_MEMORY = {
    4: "RTX 2050, RTX 3050 Laptop GPU, RTX 3050 Ti Laptop GPU, RTX A400, RTX A500 Laptop GPU, "
    "RTX A1000 Laptop GPU, RTX A2000 Laptop GPU, RTX 500 Ada Generation Laptop GPU",
    6: "RTX 2060, RTX 2060 with Max-Q Design, RTX 3050 6 GB, RTX 3050 6GB Laptop GPU, RTX 3060 Laptop GPU, "
    "RTX 4050 Laptop GPU, Quadro RTX 3000, Quadro RTX 3000 with Max-Q Design, RTX A2000, "
    "RTX A1000 6GB Laptop GPU, RTX A3000 Laptop GPU, RTX 1000 Ada Generation Laptop GPU, "
    "RTX PRO 500 Blackwell Generation Laptop GPU",
    8: "RTX 2060 SUPER, RTX 2070, RTX 2070 with Max-Q Design, RTX 2070 SUPER, "
    "RTX 2070 SUPER with Max-Q Design, RTX 2080, RTX 2080 with Max-Q Design, RTX 2080 SUPER, "
    "RTX 2080 SUPER with Max-Q Design, RTX 3070 Laptop GPU, RTX 3070 Ti Laptop GPU, RTX 3080 Laptop GPU, "
    "RTX 4060 Laptop GPU, RTX 4070 Laptop GPU, RTX 5050, RTX 5050 Laptop GPU, RTX 5060 Laptop GPU, "
    "RTX 5070 Laptop GPU, Quadro RTX 4000, Quadro RTX 4000 with Max-Q Design, RTX A1000, "
    "RTX A2000 8GB Laptop GPU, RTX A4000 Laptop GPU, RTX 2000 Ada Generation Laptop GPU, "
    "RTX 3000 Ada Generation Laptop GPU, RTX PRO 1000 Blackwell Generation Laptop GPU, "
    "RTX PRO 2000 Blackwell Generation Laptop GPU",
    11: "RTX 2080 Ti",
    12: "RTX 2060 12 GB, RTX 4080 Laptop GPU, RTX 5070 Ti Laptop GPU, RTX A2000 12GB, "
    "RTX A3000 12GB Laptop GPU, RTX 3500 Ada Generation Laptop GPU, RTX 4000 Ada Generation Laptop GPU, "
    "RTX PRO 3000 Blackwell Generation Laptop GPU",
    16: "RTX 3080 Laptop GPU 16 GB, RTX 3080 Ti Laptop GPU, RTX 4090 Laptop GPU, RTX 5080 Laptop GPU, "
    "Quadro RTX 5000, Quadro RTX 5000 with Max-Q Design, RTX A4500 Laptop GPU, RTX A5000 Laptop GPU, "
    "RTX A5500 Laptop GPU, RTX 2000 Ada Generation, RTX 5000 Ada Generation Laptop GPU, "
    "RTX PRO 2000 Blackwell, RTX PRO 4000 Blackwell Generation Laptop GPU",
    20: "RTX 4000 Ada Generation, RTX 4000 SFF Ada Generation",
    24: "TITAN RTX, RTX 5090 Laptop GPU, RTX 5090 D V2, Quadro RTX 6000, "
    "Quadro RTX 6000 with Max-Q Design, RTX A5500, RTX 4500 Ada Generation, "
    "RTX PRO 4000 Blackwell, RTX PRO 4000 Blackwell SFF Edition, "
    "RTX PRO 5000 Blackwell Generation Laptop GPU",
    32: "RTX 5090 D, RTX 5000 Ada Generation, RTX PRO 4500 Blackwell",
    48: "Quadro RTX 8000, RTX 5880 Ada Generation, RTX PRO 5000 Blackwell",
    72: "RTX PRO 5000 Blackwell 72 GB",
    96: "RTX PRO 6000 Blackwell Workstation Edition, RTX PRO 6000 Blackwell Max-Q Workstation Edition, "
    "RTX PRO 6000 Blackwell Server Edition",
}
"""Cards by GiB whose pace is not known: without bf16 (the 20 series), throttled by their laptop, too small
a power limit for their units, or of a generation whose trainings nobody has published."""
CARDS: tuple[NamedCard, ...] = (
    *KNOWN,
    *(NamedCard(name, gib) for gib, names in _MEMORY.items() for name in names.split(", ")),
)

_NOISE = re.compile(
    r"nvidia|geforce|rtx|generation|blackwell|gpu|with|design|workstation ?edition|[^a-z0-9]", re.ASCII
)
_SIZE = re.compile(r" ?\b[0-9]+ ?gb\b")


def _plain(name: str) -> str:
    """A card's name as people write it: RTX 4090, rtx4090 and 4090 are one."""
    return _NOISE.sub("", name.lower())


def _without_size(name: str) -> str:
    return _plain(_SIZE.sub("", name.lower()))


def named_card(name: str, gib: float = 0.0) -> NamedCard | None:
    """The card that a driver or a person calls so; of several sizes under one name the nearest to `gib`, the
    first without it."""
    wanted = _plain(name)
    exact = [one for one in CARDS if _plain(one.name) == wanted]
    family = [one for one in CARDS if _without_size(one.name) == wanted]
    found = family if gib and len(family) > 1 else exact or family
    return min(found, key=lambda one: abs(one.gib - gib) if gib else 0.0) if wanted and found else None


def nearest_cards(text: str) -> list[NamedCard]:
    """A few cards whose names are near a text; some that many have where none is."""
    names = {_plain(one.name): one for one in CARDS}
    near = difflib.get_close_matches(_plain(text)[:40], names, 4, 0.6)
    return [names[one] for one in near or ("3090", "4090", "5090", "a6000")]


def short_names() -> list[str]:
    """Every card in one word that names it again: rtx4090."""
    return [re.sub(r"[^a-z0-9]", "", one.name.lower().replace(" generation", "")) for one in CARDS]
