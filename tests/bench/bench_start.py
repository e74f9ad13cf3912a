"""How long each light command takes from nothing to its last word, beside `python -c pass`:

    python tests/bench/bench_start.py [ROUNDS]

A round is every command once, each behind a bare interpreter, so that a busy machine slows both. It prints the
median wall time and user CPU time in seconds, and the median of the paired ratios of CPU time.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
LIMITS = {"completion": 0.15}
LIMIT = 0.3
"""Seconds: those of completion, and of the others."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "doitune": (),
    "--help": ("--help",),
    "--version": ("--version",),
    "train --help": ("train", "--help"),
    "init --help": ("init", "--help"),
    "report --help": ("report", "--help"),
    "grow show --help": ("grow", "show", "--help"),
    "chat --help": ("chat", "--help"),
    "help": ("help",),
    "recipes": ("recipes",),
    "recipes list": ("recipes", "list"),
    "recipes show": ("recipes", "show", "demo"),
    "plan": ("plan", "reconstruct", "--model", "33b", "--card", "24gb"),
    "plan demo": ("plan", "demo"),  # whose 10,000 rows the first round has counted
    "runs list": ("runs", "list"),
    "score": ("score", "last"),
    "completion": (),
}
TYPED = "doitune train d"


def timed(words: list[str], folder: str, more: dict[str, str]) -> tuple[float, float]:
    """Wall and user CPU seconds of a process."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
    subprocess.run(words, cwd=folder, env={**os.environ, **more}, capture_output=True, check=False)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main(rounds: int) -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed doitune is compiled
    python = sys.executable
    shell = {
        "_DOITUNE_COMPLETE": "complete_bash",
        "COMP_WORDS": TYPED,
        "COMP_CWORD": str(TYPED.count(" ")),
    }
    took: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ("python -c pass", *COMMANDS)}
    program = "import sys; sys.argv[0] = 'doitune'; from doitune.__main__ import main; main()"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as compiled:
        more = {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": compiled}
        for number in range(rounds + 1):
            for name, words in COMMANDS.items():
                bare = timed([python, "-c", "pass"], folder, more)
                extra = {**more, **(shell if name == "completion" else {})}
                wall, cpu = timed([python, "-c", program, *words], folder, extra)
                if number:  # the first round fills the caches
                    took[name].append((wall, cpu, cpu / max(bare[1], 1e-3)))
                    took["python -c pass"].append((*bare, 1.0))
    print(f"{'command':18} {'wall s':>8} {'CPU s':>8} {'of python':>10}   limit s")
    for name, found in took.items():
        wall, cpu, ratio = (median(one[place] for one in found) for place in range(3))
        print(f"{name:18} {wall:8.3f} {cpu:8.3f} {ratio:10.1f}   {LIMITS.get(name, LIMIT)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
