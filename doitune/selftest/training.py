"""The crash lab's training: undisturbed as the measure, and one run that is killed or spoilt and has to end
as that one did."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from doitune.errors import DoituneError
from doitune.run.find import list_runs
from doitune.run.folder import Run
from doitune.run.layout import MANIFEST, step_folders
from doitune.selftest.child import Blow, Died, live, warm_up
from doitune.selftest.crash_report import Report
from doitune.selftest.damage import spoil
from doitune.selftest.traces import Traces, traces_of
from doitune.selftest.world import make_world
from doitune.system import faults

RESUMED = ("resume.begin", "resume.restored", "resume.cut")
"""Sites that only a resumed process comes to."""


@dataclass(frozen=True)
class Undisturbed:
    """The training that nobody kills: its recipe and what it left; `counts`: how often it came to each site;
    `seconds` from start to end."""

    recipe: Path
    wanted: Traces
    counts: Mapping[str, int]
    seconds: float

    def every_site(self, positions: Sequence[str] = ("first", "middle", "last")) -> list[tuple[Blow, ...]]:
        """Blows for runs that together come to every site, at its first, middle and last arrival: those of a
        save first, a resume's own sites at the end."""
        found = []
        for site in sorted(self.counts, key=lambda site: site not in faults.SAVING):
            numbers = {"first": 1, "middle": (self.counts[site] + 1) // 2, "last": self.counts[site]}
            for number in sorted({numbers[name] for name in positions}):
                found.append((Blow(f"{site}:{number}:kill"),))
        return found + [(Blow("step.logged:2:kill"), Blow(f"{site}:1:kill")) for site in RESUMED]

    def random_blows(self, dice: random.Random) -> Iterator[Blow]:
        """Without an end: of four, three inside a save and one at a random time; every eighth at any site."""
        saving = [site for site in faults.SAVING if site in self.counts]
        turn = 0
        while True:
            turn += 1
            if turn % 4 == 2:
                seconds, of_loop = dice.uniform(0, self.seconds), dice.random() < 0.8
                yield Blow(after_seconds=seconds, of_loop=of_loop)
                continue
            site = dice.choice(saving if turn % 8 else [*self.counts, *RESUMED])
            yield Blow(f"{site}:{dice.randint(1, max(1, self.counts.get(site, 1) // 2))}:kill")


def undisturbed(folder: Path) -> Undisturbed:
    """Train twice below `folder` and compare. DoituneError where a training fails, or the two differ."""
    recipe = make_world(folder / "world").recipe
    first = _measured(recipe, folder / "first")
    warm_up(folder / "first")
    second = _measured(recipe, folder / "whole")
    wanted = traces_of(newest_run(folder / "whole"))
    if traces_of(newest_run(folder / "first")).sha256 != wanted.sha256:
        raise DoituneError(
            "two undisturbed runs differ on this machine: no resume can be exact", f"see {folder}"
        )
    counts = {site: count for site, count in first.watch.counts().items() if count}
    return Undisturbed(recipe, wanted, counts, second.seconds)


def _measured(recipe: Path, runs: Path) -> Died:
    whole = live(recipe, runs, Blow())
    if whole.code:
        problem = f"the lab's training fails undisturbed: {whole.said.strip()[-500:]}"
        raise DoituneError(problem, f"see {runs}")
    return whole


def newest_run(runs: Path) -> Run:
    """The newest run in a folder."""
    return list_runs(runs)[-1]


@dataclass(frozen=True)
class Trial:
    """One run in a folder of its own; what happens to it is counted in `report`."""

    measure: Undisturbed
    runs: Path
    report: Report

    def strike(self, blows: Sequence[Blow]) -> None:
        """Killed by each blow in turn, then left to end, then compared."""
        self.report.runs += 1
        for blow in blows:
            died = self.live(blow)
            if died.killed:
                self._count_kill(died, blow)
            elif died.code:
                self._fail(f"exit {died.code} instead of a kill at {blow}: {died.said.strip()[-300:]}")
                return
        self._finish()

    def spoil(self, number: int, dice: random.Random) -> None:
        """The `number`-th damage to the newest checkpoint, which a resume has to notice and to get over."""
        newest = newest_run(self.runs).checkpoints.all()[-1]
        how = spoil(newest.folder, number, dice)
        self.report.corruptions += 1
        self._finish()
        damaged = newest_run(self.runs).checkpoints.damaged()
        found = [name for name in damaged if newest.folder.name in name]
        if not found:
            self._fail(f"{how} of {newest.folder.name} was not noticed")
        self.report.corruptions_found += bool(found)

    def live(self, blow: Blow) -> Died:
        """One process of it, started or resumed."""
        self.report.processes += 1
        return live(self.measure.recipe, self.runs, blow)

    def _count_kill(self, died: Died, blow: Blow) -> None:
        self.report.kills += 1
        self.report.kills_during_save += died.watch.saving
        self.report.sites[blow.fault.partition(":")[0] or "random time"] += 1
        step, torn = _kept(self.runs)
        if torn:
            self._fail(f"a kill at {blow} left {', '.join(torn)}, which is not whole")
        self.report.steps_lost_beyond += max(0, died.watch.step - step - 1)

    def _finish(self) -> None:
        """Resume until the run is done, and compare."""
        died = self.live(Blow())
        if died.code:
            self._fail(f"a resume ended with exit {died.code}: {died.said.strip()[-300:]}")
            return
        differing = self.measure.wanted.differing_bytes(traces_of(newest_run(self.runs)))
        if differing:
            self.report.differing_bytes += differing
            self._fail(f"the result differs from the undisturbed run's in {differing} bytes")

    def _fail(self, text: str) -> None:
        self.report.failures.append(f"{self.runs.name}: {text}")


def _kept(runs: Path) -> tuple[int, list[str]]:
    """The step of a run's newest whole checkpoint, 0 without one; and names of those that claim to be whole
    and are not."""
    if not list_runs(runs):
        return 0, []
    checkpoints = newest_run(runs).checkpoints
    whole = [one for one in checkpoints.all() if not one.verify()]
    folders = {one.folder for one in whole}
    claiming = [path for path in step_folders(checkpoints.folder) if (path / MANIFEST).exists()]
    return (whole[-1].step if whole else 0), [folder.name for folder in claiming if folder not in folders]


def interrupt(trial: Trial) -> None:
    """Kill a new run when it has two checkpoints or more. DoituneError where it has not."""
    trial.live(Blow("step.forward:12:kill"))
    if len(newest_run(trial.runs).checkpoints.all()) < 2:
        raise DoituneError("the lab's interrupted run has no two checkpoints", f"see {trial.runs}")
