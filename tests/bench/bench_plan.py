"""The time of a cold `doitune plan`, beside a bare interpreter, `doitune --help` and `import torch`: whole
processes, in one run.

Every round starts each program once, in a shuffled order; the medians are of the rounds' ratios. `plan` is
asked for 33b on 24 GB with its answer as JSON, and the answer is compared between rounds. Nothing of torch
may be loaded by it: that is checked in the same run.

Run: python tests/bench/bench_plan.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAN = ["-m", "doitune", "plan", "reconstruct", "--model", "33b", "--card", "24gb", "--json"]
PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "doitune --help": ["-m", "doitune", "--help"],
    "doitune plan": PLAN,
    "python -c 'import torch'": ["-c", "import torch"],
}
BASELINE = "python -c pass"


def seconds_of(arguments: list[str]) -> tuple[float, float, str]:
    """Wall seconds and processor seconds of a process, and what it said."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )
    wall, after = time.perf_counter() - began, os.times()
    return (
        wall,
        after.children_user + after.children_system - before.children_user - before.children_system,
        done.stdout,
    )


def main() -> None:
    """Time the programs, round by round, and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    walls: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    works: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    answers = set()
    for arguments in PROGRAMS.values():
        seconds_of(arguments)  # files into the disk's cache, modules compiled
    for number in range(rounds):
        for name in random.Random(number).sample(list(PROGRAMS), len(PROGRAMS)):
            wall, work, said = seconds_of(PROGRAMS[name])
            walls[name].append(wall)
            works[name].append(work)
            if name == "doitune plan":
                answers.add(said)
    if len(answers) != 1 or not json.loads(answers.pop())["fits"]:
        raise SystemExit("the plans of the rounds differ, or 33b does not fit 24 GB")
    loaded = seconds_of(
        [
            "-c",
            f"import sys; sys.argv = {['doitune', *PLAN[2:]]!r}\nfrom doitune.__main__ import main\ntry: main()\nexcept SystemExit: print('torch' in sys.modules)",
        ]
    )
    if not loaded[2].endswith("False\n"):
        raise SystemExit("a plan loads torch")
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {rounds} rounds, files warm in the disk's cache, nothing else warm"
    )
    print(f"{'':26} {'wall, median':>13} {'least':>8} {'processor':>10} {'of doitune plan':>16}")
    for name in PROGRAMS:
        ratio = statistics.median(
            one / mine for one, mine in zip(walls[name], walls["doitune plan"], strict=True)
        )
        print(
            f"{name:26} {statistics.median(walls[name]):>11.3f} s {min(walls[name]):>6.3f} s {statistics.median(works[name]):>8.3f} s {ratio:>14.2f} x"
        )
    over = statistics.median(
        one - bare for one, bare in zip(walls["doitune plan"], walls[BASELINE], strict=True)
    )
    print(
        f"a plan takes {over:.3f} s beyond a bare interpreter (median of the rounds' differences); the aim is 0.3 s"
    )


if __name__ == "__main__":
    main()
