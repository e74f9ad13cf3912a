"""The crash lab: a tiny training is killed again and again, at every fault point and at random times, and
resumed until it is done.

What it left is then compared byte for byte with what the same training leaves undisturbed. Other runs lose a
byte of their newest checkpoint instead. Everything happens on the disk that the lab is pointed at, with the
machine's own libraries, on the CPU.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from doitune.selftest.child import Blow
from doitune.selftest.commands import Killed, kill_commands
from doitune.selftest.crash_report import Report
from doitune.selftest.training import Trial, interrupt, undisturbed
from doitune.system.disk import filesystem_of, make_folder

MOST_KILLS_A_RUN = 4
MOST_FAILURES = 5
"""After so many the lab stops killing: what is broken is known."""


class Lab:
    """The crash lab in one folder of the disk to be proved; what a failed trial left stays there."""

    def __init__(self, folder: Path, on_progress: Callable[[Report], None], seed: int) -> None:
        """Train undisturbed first: the measure of all that follows. DoituneError where even that fails."""
        _stay_on_the_cpu()
        make_folder(folder)
        self.folder = Path(tempfile.mkdtemp(prefix="crash-lab-", dir=folder)).resolve()
        self.dice, self.on_progress, self._began = random.Random(seed), on_progress, time.monotonic()
        self.measure = undisturbed(self.folder)
        self.report = Report(filesystem=filesystem_of(self.folder), sha256=self.measure.wanted.sha256)

    def kill(self, kills: int) -> None:
        """Kill until `kills` processes have died by it, one run after the other."""
        blows = self.measure.random_blows(self.dice)
        while self.report.kills < kills and len(self.report.failures) < MOST_FAILURES:
            wanted = min(self.dice.randint(1, MOST_KILLS_A_RUN), kills - self.report.kills)
            self.strike(list(islice(blows, wanted)))

    def strike(self, blows: Sequence[Blow]) -> None:
        """One run that suffers these blows, one process after the other."""
        self._try(f"run-{self.report.runs + 1}", partial(Trial.strike, blows=blows))

    def corrupt(self, corruptions: int) -> None:
        """Copies of an interrupted run, each with another damage to its newest checkpoint, are resumed."""
        if not corruptions:
            return
        stopped = Trial(self.measure, self.folder / "stopped", self.report)
        interrupt(stopped)
        for number in range(corruptions):
            shutil.copytree(stopped.runs, self.folder / f"spoilt-{number + 1}")
            self._try(f"spoilt-{number + 1}", partial(Trial.spoil, number=number, dice=self.dice))

    def _try(self, name: str, what: Callable[[Trial], None]) -> None:
        """One trial; its folder goes unless something failed."""
        trial, failures = Trial(self.measure, self.folder / name, self.report), len(self.report.failures)
        what(trial)
        if len(self.report.failures) == failures:
            shutil.rmtree(trial.runs, ignore_errors=True)
        self._show()

    def kill_commands(self, kills: int) -> None:
        """Kill everything but training: see `commands`."""
        kill_commands(self.folder / "commands", kills, self.dice.getrandbits(30), self._add)

    def _add(self, found: Killed) -> None:
        self.report.commands.append(found)
        self.report.failures += [f"{found.command}: {text}" for text in found.failures]
        self._show()

    def _show(self) -> None:
        self.report.seconds = time.monotonic() - self._began
        self.on_progress(self.report)

    def close(self) -> Report:
        """The report; the lab's folder goes unless something failed."""
        self._show()
        if self.report.passed:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.report


def _stay_on_the_cpu() -> None:
    """CUDA does not survive a fork, and equal bytes are promised for the CPU."""
    if "torch" not in sys.modules:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    torch.set_num_threads(1)


def crash(
    folder: Path,
    *,
    kills: int,
    corruptions: int,
    command_kills: int = 0,
    seed: int = 0,
    on_progress: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Kill and corrupt on the disk of `folder`; every site once before random ones repeat, as far as
    `kills` reach."""
    lab = Lab(folder, on_progress, seed)
    for blows in lab.measure.every_site(("middle",)):
        if lab.report.kills + len(blows) <= kills:
            lab.strike(blows)
    lab.kill(kills)
    lab.corrupt(corruptions)
    if command_kills:
        lab.kill_commands(command_kills)
    return lab.close()
