"""Linux inside Windows (WSL): whose driver the card needs, and how much memory it gets."""

from __future__ import annotations

from pathlib import Path

from doitune.doctor.check import Check
from doitune.doctor.machine import LOW_RAM_GIB, Machine

DRIVER = Path("usr/lib/wsl/lib/libcuda.so.1")
"""What Windows' driver lends."""
OWN = ("usr/lib/x86_64-linux-gnu/libcuda.so.1", "usr/lib64/libcuda.so.1")
"""Where a driver for Linux puts its own."""


def wsl_check(machine: Machine, root: Path = Path("/")) -> Check:
    """What is special here. `root`: of the file system."""
    if "WSL2" not in machine.system and "microsoft" not in machine.system:
        text = "WSL 1 gives no card to Linux"
        return Check("WSL", "warning", text, "in Windows: `wsl --set-version DISTRIBUTION 2`")
    if not (root / DRIVER).exists():
        text = "Windows lends no card: its driver is missing or has no part for WSL"
        return Check("WSL", "warning", text, "install NVIDIA's driver in Windows, then `wsl --shutdown`")
    if own := [one for one in OWN if (root / one).exists() and "wsl" not in str((root / one).resolve())]:
        text = f"a driver for Linux is installed inside (/{own[0]}) and hides the one of Windows"
        return Check("WSL", "warning", text, "remove it", ("sudo apt purge '^nvidia-.*' '^libnvidia-.*'",))
    text = f"the card comes from Windows' driver; Linux has {machine.ram_gib:.0f} GiB of memory"
    if machine.ram_gib < 2 * LOW_RAM_GIB:
        cure = "WSL takes half of the memory: raise `memory=` under [wsl2] in %UserProfile%\\.wslconfig"
        return Check("WSL", "warning", text, f"{cure}, then `wsl --shutdown`")
    return Check("WSL", "ok", text)
