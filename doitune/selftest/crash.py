"""The crash lab: a tiny training is killed again and again, at every fault point and at random times, and
resumed until it is done.

What it left is then compared byte for byte with what the same training leaves when nobody disturbs it. Other
runs lose a byte of their newest checkpoint instead. Everything happens on the disk that the lab is pointed
at, with the machine's own libraries, on the CPU.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doitune.errors import DoituneError
from doitune.run.find import list_runs
from doitune.run.folder import Run
from doitune.run.layout import MANIFEST, step_folders
from doitune.selftest.child import Blow, Died, live, warm_up
from doitune.selftest.commands import Killed, kill_commands
from doitune.selftest.damage import spoil
from doitune.selftest.traces import Traces, traces_of
from doitune.selftest.world import make_world
from doitune.system import faults
from doitune.system.disk import filesystem_of, make_folder

MOST_KILLS_A_RUN = 4
RESUMED = ("resume.begin", "resume.restored", "resume.cut")
"""Sites that only a resumed process comes to."""


@dataclass
class Report:
    """What the lab found. `steps_lost_beyond` counts steps that a resume made again beyond one checkpoint
    interval (here: one step)."""

    kills: int = 0
    kills_during_save: int = 0
    runs: int = 0
    processes: int = 0
    steps_lost_beyond: int = 0
    differing_bytes: int = 0
    corruptions: int = 0
    corruptions_found: int = 0
    sites: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    commands: list[Killed] = field(default_factory=list)
    seconds: float = 0.0
    filesystem: str = ""
    sha256: str = ""

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return (
            not (self.failures or self.steps_lost_beyond or self.differing_bytes)
            and self.corruptions_found == self.corruptions
        )

    def to_json(self) -> dict[str, Any]:
        """The document of `doitune selftest crash --json`."""
        return {
            "schema": "doitune.selftest.crash/1",
            "passed": self.passed,
            "kills": self.kills,
            "kills_during_save": self.kills_during_save,
            "runs": self.runs,
            "processes": self.processes,
            "failures": len(self.failures),
            "steps_lost_beyond_interval": self.steps_lost_beyond,
            "differing_bytes": self.differing_bytes,
            "corruptions": self.corruptions,
            "corruptions_found": self.corruptions_found,
            "sites": dict(sorted(self.sites.items())),
            "commands": {one.command: one.to_json() for one in self.commands},
            "seconds": round(self.seconds, 1),
            "filesystem": self.filesystem,
            "result_sha256": self.sha256,
            "first_failures": self.failures[:5],
        }


class Lab:
    """The crash lab in one folder of the disk to be proved; what a failed trial left stays there."""

    def __init__(
        self, folder: Path, on_progress: Callable[[Report], None] = lambda report: None, seed: int = 0
    ) -> None:
        """Train once undisturbed: the measure of all that follows. DoituneError where even that fails."""
        if "torch" not in sys.modules:
            os.environ["CUDA_VISIBLE_DEVICES"] = (
                ""  # CUDA does not survive a fork, and equal bytes are promised for the CPU
            )
        import torch

        torch.set_num_threads(1)
        make_folder(folder)
        self.folder = Path(tempfile.mkdtemp(prefix="crash-lab-", dir=folder))
        self.report, self.dice, self.on_progress = (
            Report(filesystem=filesystem_of(self.folder)),
            random.Random(seed),
            on_progress,
        )
        self._began = time.monotonic()
        self.recipe = make_world(self.folder / "world").recipe
        first = self._measured(self.folder / "first")
        warm_up(self.folder / "first")
        self.measure = self._measured(self.folder / "whole")
        self.wanted: Traces = traces_of(self._run(self.folder / "whole"))
        self.report.sha256 = self.wanted.sha256
        if traces_of(self._run(self.folder / "first")).sha256 != self.wanted.sha256:
            raise DoituneError(
                "two undisturbed runs differ on this machine: no resume can be exact", f"see {self.folder}"
            )
        self.counts = {site: count for site, count in first.watch.counts().items() if count}
        self._turn = 0

    def _measured(self, runs: Path) -> Died:
        whole = live(self.recipe, runs, Blow())
        if whole.code:
            raise DoituneError(
                f"the lab's training fails undisturbed: {whole.said.strip()[-500:]}", f"see {runs}"
            )
        return whole

    @staticmethod
    def _run(runs: Path) -> Run:
        return list_runs(runs)[-1]

    def kill(self, kills: int) -> None:
        """Kill until `kills` processes have died by it, one run after the other."""
        while self.report.kills < kills and len(self.report.failures) < 5:
            runs = self.folder / f"run-{self.report.runs + 1}"
            wanted = min(self.dice.randint(1, MOST_KILLS_A_RUN), kills - self.report.kills)
            self._trial(runs, [self._next_blow() for _ in range(wanted)])
            self._tell()

    def strike(self, blows: Sequence[Blow]) -> None:
        """One run that suffers these blows, one process after the other."""
        self._trial(self.folder / f"run-{self.report.runs + 1}", blows)
        self._tell()

    def every_site(self, positions: tuple[str, ...] = ("first", "middle", "last")) -> list[tuple[Blow, ...]]:
        """Runs that together come to every site, at its first, middle and last arrival: those of a save
        first, a resume's own sites at the end."""
        found = []
        for site in sorted(self.counts, key=lambda site: site not in faults.SAVING):
            numbers = {"first": 1, "middle": (self.counts[site] + 1) // 2, "last": self.counts[site]}
            found += [
                (Blow(f"{site}:{number}:kill"),) for number in sorted({numbers[name] for name in positions})
            ]
        return found + [(Blow("step.logged:2:kill"), Blow(f"{site}:1:kill")) for site in RESUMED]

    def _next_blow(self) -> Blow:
        """Of four, three inside a save and one at a random time; every eighth at any site at all."""
        self._turn += 1
        if self._turn % 4 == 2:
            return Blow(
                after_seconds=self.dice.uniform(0, self.measure.seconds), of_loop=self.dice.random() < 0.8
            )
        names = (
            [site for site in faults.SAVING if site in self.counts]
            if self._turn % 8
            else [*self.counts, *RESUMED]
        )
        site = self.dice.choice(names)
        return Blow(f"{site}:{self.dice.randint(1, max(1, self.counts.get(site, 1) // 2))}:kill")

    def _trial(self, runs: Path, blows: Sequence[Blow]) -> None:
        """One run: killed by each blow in turn, then left to finish, then compared."""
        self.report.runs += 1
        failures = len(self.report.failures)
        for blow in blows:
            died = self._live(runs, blow)
            if died.killed:
                self._count_kill(runs, died, blow)
            elif died.code:
                self._fail(runs, f"exit {died.code} instead of a kill at {blow}: {died.said.strip()[-300:]}")
                return
        self._finish(runs)
        if len(self.report.failures) == failures:
            shutil.rmtree(runs, ignore_errors=True)

    def _live(self, runs: Path, blow: Blow) -> Died:
        self.report.processes += 1
        return live(self.recipe, runs, blow)

    def _count_kill(self, runs: Path, died: Died, blow: Blow) -> None:
        self.report.kills += 1
        self.report.kills_during_save += died.watch.saving
        self.report.sites[blow.fault.partition(":")[0] or "random time"] += 1
        for run in list_runs(runs)[-1:]:
            whole = [one for one in run.checkpoints.all() if not one.verify()]
            bad = [
                path.name
                for path in step_folders(run.checkpoints.folder)
                if (path / MANIFEST).exists() and path not in {one.folder for one in whole}
            ]
            if bad:
                self._fail(runs, f"a kill at {blow} left {', '.join(bad)}, which is not whole")
            lost = died.watch.step - (whole[-1].step if whole else 0)
            self.report.steps_lost_beyond += max(0, lost - 1)

    def _finish(self, runs: Path) -> None:
        """Resume until the run is done, and compare."""
        died = self._live(runs, Blow())
        if died.code:
            self._fail(runs, f"a resume ended with exit {died.code}: {died.said.strip()[-300:]}")
            return
        differing = self.wanted.differing_bytes(traces_of(self._run(runs)))
        if differing:
            self.report.differing_bytes += differing
            self._fail(runs, f"the result differs from the undisturbed run's in {differing} bytes")

    def _fail(self, runs: Path, text: str) -> None:
        self.report.failures.append(f"{runs.name}: {text}")

    def corrupt(self, corruptions: int) -> None:
        """Damage the newest checkpoint of an interrupted run, each time another file in another way, and
        resume."""
        if not corruptions:
            return
        stopped = self.folder / "stopped"
        self._live(stopped, Blow("step.forward:12:kill"))
        if len(self._run(stopped).checkpoints.all()) < 2:
            raise DoituneError("the lab's interrupted run has no two checkpoints", f"see {stopped}")
        for number in range(corruptions):
            runs = self.folder / f"spoilt-{number + 1}"
            shutil.copytree(stopped, runs)
            self._corrupt(runs, number)
            self._tell()

    def _corrupt(self, runs: Path, number: int) -> None:
        newest = self._run(runs).checkpoints.all()[-1]
        how = spoil(newest.folder, number, self.dice)
        self.report.corruptions += 1
        failures = len(self.report.failures)
        self._finish(runs)
        found = [name for name in self._run(runs).checkpoints.damaged() if newest.folder.name in name]
        if not found:
            self._fail(runs, f"{how} of {newest.folder.name} was not noticed")
        self.report.corruptions_found += bool(found)
        if len(self.report.failures) == failures:
            shutil.rmtree(runs, ignore_errors=True)

    def kill_commands(self, kills: int) -> None:
        """Kill everything but training: see `commands`."""
        for found in kill_commands(self.folder / "commands", kills, self.dice.randrange(1 << 30)):
            self.report.commands.append(found)
            self.report.failures += [f"{found.command}: {text}" for text in found.failures]
            self._tell()

    def _tell(self) -> None:
        self.report.seconds = time.monotonic() - self._began
        self.on_progress(self.report)

    def close(self) -> Report:
        """The report; the lab's folder goes unless something failed."""
        self._tell()
        if self.report.passed:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.report


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
    for blows in lab.every_site(("middle",)):
        if lab.report.kills + len(blows) <= kills:
            lab.strike(blows)
    lab.kill(kills)
    lab.corrupt(corruptions)
    if command_kills:
        lab.kill_commands(command_kills)
    return lab.close()
