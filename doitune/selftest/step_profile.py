"""What a step's time on a card goes to: kernels by their time, how many there are, how often this process
waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WARM = 2
"""Steps before the one that is looked at: the first one compiles and makes the optimiser's state."""
MOST = 60


def step_profile(step: Callable[[], object]) -> dict[str, Any]:
    """A step's wall time in ms, under the profiler and without it, the time that the card was busy, and the
    MOST kernels that took longest: [ms, how often, name]. `calls`: CUDA's own by name, launches and waits
    among them.

    Without CUDA torch's operations on the CPU stand in the kernels' place, and there are no calls.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    cuda = torch.cuda.is_available()
    for _ in range(WARM):
        plain = _timed(step, cuda)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as seen:
        wall = _timed(step, cuda)
    events = seen.key_averages()
    there = [one for one in events if (one.device_type.name == "CUDA") == cuda]
    times = [
        (one.self_device_time_total if cuda else one.self_cpu_time_total, one.count, one.key) for one in there
    ]
    calls = {one.key: one.count for one in events if cuda and one.key.startswith("cu")}
    longest = sorted(times, reverse=True)[:MOST]
    return {
        "step_ms": plain,
        "profiled_ms": wall,
        "busy_ms": round(sum(time for time, *_ in times) / 1000, 3),
        "kernels": sum(count for _, count, _ in times),
        "calls": dict(sorted(calls.items(), key=lambda pair: -pair[1])),
        "top": [[round(time / 1000, 3), count, name] for time, count, name in longest],
    }


def _timed(step: Callable[[], object], cuda: bool) -> float:
    import torch

    began = time.monotonic()
    step()
    if cuda:
        torch.cuda.synchronize()
    return round(1000 * (time.monotonic() - began), 3)
