"""This machine: operating system, processor, main memory."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from doitune.doctor.check import Check
from doitune.system.ram import ram

OLDEST_PYTHON = (3, 10)
LOW_RAM_GIB = 8


@dataclass(frozen=True)
class Machine:
    """Operating system, processor and main memory; `cores` that this process may use."""

    system: str
    wsl: bool
    cpu: str
    cores: int | None
    ram_gib: float
    ram_free_gib: float
    python: str


def this_machine() -> Machine:
    """What the operating system says of itself."""
    total, free = ram()
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        wsl="microsoft" in platform.release().lower(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        ram_gib=round(total, 1),
        ram_free_gib=round(free, 1),
        python=platform.python_version(),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def machine_check(machine: Machine) -> Check:
    """Whether doitune runs on this system, and whether bases have room in its memory."""
    text = (
        f"{machine.system}{' (WSL)' if machine.wsl else ''}, {machine.cpu}, {machine.cores} cores, "
        f"{machine.ram_free_gib:.1f} of {machine.ram_gib:.1f} GiB of memory free, Python {machine.python}"
    )
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("machine", "problem", text, "doitune needs Python 3.10 or later")
    if not machine.system.startswith("Linux"):
        return Check("machine", "warning", text, "doitune is made for Linux; on Windows use WSL 2")
    if 0 < machine.ram_free_gib < LOW_RAM_GIB:
        cure = f"with less than {LOW_RAM_GIB} GiB free only small bases load; `doitune plan RECIPE` says how "
        return Check("machine", "warning", text, cure + "much one takes")
    return Check("machine", "ok", text)
