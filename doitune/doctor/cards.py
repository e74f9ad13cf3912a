"""The cards in this machine as nvidia-smi tells them, and the programs that hold some of their memory."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doitune.doctor.check import Check

WSL_PLACE = Path("/usr/lib/wsl/lib/nvidia-smi")
FULL_SHARE = 0.1
"""Share of a card above which what others hold is worth a warning: a screen takes less."""


@dataclass(frozen=True)
class CardFacts:
    """One card; MiB as the driver counts them. `others`: (program's name without its folder, MiB), None
    where the driver does not say how much."""

    name: str
    total_mib: int
    free_mib: int
    driver: str
    others: tuple[tuple[str, int | None], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For a document; neither serial numbers nor paths."""
        others = [{"program": name, "mib": mib} for name, mib in self.others]
        return {
            "name": self.name,
            "total_mib": self.total_mib,
            "free_mib": self.free_mib,
            "driver": self.driver,
            "others": others,
        }


def cards() -> tuple[CardFacts, ...]:
    """Every card of this machine; empty without a driver."""
    program = shutil.which("nvidia-smi") or (str(WSL_PLACE) if WSL_PLACE.is_file() else "")
    if not program:
        return ()
    held = _ask(program, "--query-compute-apps=gpu_uuid,process_name,used_memory")
    return read_cards(_ask(program, "--query-gpu=uuid,name,memory.total,memory.free,driver_version"), held)


def _ask(program: str, question: str) -> str:
    words = [program, question, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def read_cards(told: str, held: str) -> tuple[CardFacts, ...]:
    """The two answers of nvidia-smi (CSV without heads or units) as cards; lines of another form are left
    out."""
    others: dict[str, list[tuple[str, int | None]]] = {}
    for line in held.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 3:
            name = parts[1].replace("\\", "/").rpartition("/")[2]
            others.setdefault(parts[0], []).append((name, int(parts[2]) if parts[2].isdecimal() else None))
    found = []
    for line in told.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 5 and parts[2].isdecimal() and parts[3].isdecimal():
            found.append(
                CardFacts(parts[1], int(parts[2]), int(parts[3]), parts[4], tuple(others.get(parts[0], ())))
            )
    return tuple(found)


def cards_check(found: tuple[CardFacts, ...]) -> Check:
    """The cards in a line; a warning where there is none, or where others hold much of one."""
    from doitune.doctor.check import Check

    if not found:
        cure = "a card of 8 GB or more trains 7b; if there is one, install NVIDIA's driver (on WSL: the one for Windows)"
        return Check(
            "cards",
            "warning",
            "no NVIDIA card, or no driver for it: training goes by the CPU, which serves the demo and tiny models",
            cure,
        )
    text = "; ".join(
        f"{one.name}, {one.free_mib / 1024:.1f} of {one.total_mib / 1024:.1f} GiB free, driver {one.driver}"
        for one in found
    )
    taken = [one for one in found if one.total_mib - one.free_mib > FULL_SHARE * one.total_mib]
    if not taken:
        return Check("cards", "ok", text)
    names = sorted({name for one in taken for name, _ in one.others})
    return Check(
        "cards",
        "warning",
        text,
        f"end what holds the memory: {', '.join(names) or 'the driver does not say what'}",
        ("nvidia-smi",),
    )
