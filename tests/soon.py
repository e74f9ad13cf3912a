"""Whether a piece of work is quick, on a machine that may be busy: CPU seconds, beside those of a fixed piece of work at
the same moment. A neighbour makes both longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

NOMINAL = 0.01
"""CPU seconds of `_fixed` on a slow core that does nothing else."""


def soon(run: Callable[[], Result], seconds: float, what: object = "") -> Result:
    """What `run` gives. AssertionError where it takes more than `seconds` of CPU, and in two more tries more than
    `seconds` of a machine that does the fixed work in its nominal time."""
    result, took = _timed(run)
    slower, tries = 1.0, 1
    while took > seconds * slower:
        assert tries < 3, (
            f"{what}: {took:.3g} s of CPU on a machine {slower:.2g} times as slow as an idle one"
        )
        before = _fixed()
        result, took = _timed(run)
        slower, tries = max(1.0, before / NOMINAL, _fixed() / NOMINAL), tries + 1
    return result


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    started = time.process_time()
    return run(), time.process_time() - started


def _fixed() -> float:
    started = time.process_time()
    total = 0
    for number in range(100_000):
        total += number % 7
    assert total
    return time.process_time() - started
