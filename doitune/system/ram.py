"""This machine's main memory."""

from __future__ import annotations

from pathlib import Path

from doitune.system.units import GIB


def ram() -> tuple[float, float]:
    """GiB in all and free, by the kernel; in a container at most its limit. Zeros where it says nothing."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines()
        said = {
            name: int(rest.split()[0]) * 1024 / GIB
            for name, _, rest in (line.partition(":") for line in lines)
            if rest.split()
        }
    except (OSError, ValueError):
        return 0.0, 0.0
    total, free = said.get("MemTotal", 0.0), said.get("MemAvailable", 0.0)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")) / GIB
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")) / GIB
    except (OSError, ValueError):
        return total, free
    return min(total, limit), max(0.0, min(free, limit - used))
