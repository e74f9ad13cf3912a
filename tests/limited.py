"""A call, or a command, in a forked child with limits of memory, CPU time and wall time: what is hostile may
break the child and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forked import leave_after

from doitune.__main__ import main

MEMORY_BYTES = 1 << 30
"""What a hostile input may take, beyond what the test's process already has."""
SECONDS = 10
"""CPU seconds that it may take; on a busy machine the wall's are PATIENCE times as many."""
PATIENCE = 6


@dataclass(frozen=True)
class Outcome:
    """Exit code (-n: killed by signal n), all that was written, seconds, and the most memory (MiB) that the
    child took beyond what it began with."""

    code: int
    said: str
    seconds: float
    mebibytes: float


def limited(work: Callable[[], object], *, memory_bytes: int = MEMORY_BYTES) -> Outcome:
    """`work` in a child; the code is what it exits with, 0 where it returns, 99 for a traceback."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            leave_after(lambda: (_prepare(log.fileno(), memory_bytes), work()))
        before = _resident()
        while time.monotonic() - began < SECONDS * PATIENCE:
            ended, status, used = os.wait4(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.003)
        else:
            os.kill(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
        log.seek(0)
        said = log.read().decode("utf-8", "replace")
    taken = max(0.0, used.ru_maxrss / 1024 - before)
    return Outcome(os.waitstatus_to_exitcode(status), said, time.monotonic() - began, taken)


def command(*words: str, folder: Path | None = None) -> Outcome:
    """`doitune WORDS` under the limits."""

    def run() -> None:
        if folder is not None:
            os.chdir(folder)
        os.environ.update({"NO_COLOR": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"})
        sys.argv = ["doitune", *words]
        main()

    return limited(run)


def assert_refused(found: Outcome, codes: tuple[int, ...], about: str) -> None:
    """It ended by itself, with one of these codes, a message and no traceback."""
    assert "Traceback" not in found.said and "this is a bug" not in found.said, (
        f"{about}: {found.said[-1500:]}"
    )
    assert found.code in codes, f"{about}: code {found.code} after {found.seconds:.1f} s: {found.said[-600:]}"
    assert found.code == 0 or found.said.strip(), f"{about}: it says nothing"
    assert found.mebibytes < MEMORY_BYTES >> 20, f"{about}: {found.mebibytes:,.0f} MiB"


def _prepare(log: int, memory_bytes: int) -> None:
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False, buffering=1)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _resident() -> float:
    """MiB of this process, which the child shares at first."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
