"""The crash lab for everything but training: eval, score, report, export, data fetch, base make.

Each is killed at fault points and at random times, begun again until it ends, and its result compared byte for
byte with that of an undisturbed process. Nothing of a killed process may be left, and no lock may be stale.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from doitune.errors import DoituneError
from doitune.run.folder import Run, list_runs
from doitune.selftest.child import Blow, Died, Watch, live, live_through, warm_up
from doitune.selftest.world import World, make_world

MOST_KILLS = 3
"""Of one command, before it is left to end."""
SUITE = "doit-valid"


@dataclass(frozen=True)
class Command:
    """One command in a folder of its own, a copy of `start`. `results`: files below it that it makes."""

    name: str
    start: Path
    do: Callable[[Path], None]
    results: tuple[str, ...]

    def made(self, folder: Path) -> dict[str, bytes]:
        """The bytes of every result, by its path; what of them tells the time left out."""
        found = {
            path.relative_to(folder).as_posix(): path
            for pattern in self.results
            for path in folder.glob(pattern)
            if path.is_file()
        }
        return {name: _timeless(path) for name, path in sorted(found.items())}


def _timeless(path: Path) -> bytes:
    """A file's bytes; lines of replies in the order of their names, as a resumed evaluation asks the rest
    in batches of its own."""
    if path.suffix == ".jsonl":
        return b"\n".join(sorted(path.read_bytes().splitlines()))
    return path.read_bytes()


@dataclass
class Killed:
    """What the kills of one command came to."""

    command: str
    kills: int = 0
    trials: int = 0
    sites: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """As it stands in the document of `doitune selftest crash --json`, by command."""
        return {
            "kills": self.kills,
            "trials": self.trials,
            "sites": dict(sorted(self.sites.items())),
            "failures": len(self.failures),
        }


def commands(folder: Path) -> tuple[Command, ...]:
    """The commands, each with the folder that it starts from; a small training is made for them once."""
    world = make_world(folder / "world")
    trained = folder / "trained"
    died = live(world.recipe, trained, Blow())
    if died.code:
        raise DoituneError(f"the lab's training fails: {died.said.strip()[-500:]}", f"see {trained}")
    warm_up(trained)
    scored, empty = folder / "scored", folder / "empty"
    empty.mkdir()
    died = live_through(lambda watch: _evaluate(trained), trained, Blow())
    if died.code:
        raise DoituneError(f"the lab's evaluation fails: {died.said.strip()[-500:]}", f"see {trained}")
    warm_up(trained)
    shutil.copytree(trained, scored)
    bare = folder / "bare"
    shutil.copytree(trained, bare)
    shutil.rmtree(_run(bare).folder / "evals")
    lines = ("*/*/evals/*/*/outcomes.jsonl", "*/*/evals/*/*/report.json")
    return (
        Command("eval", bare, _evaluate, lines),
        Command("score", scored, _score, lines),
        Command("report", scored, _report, ("page.html",)),
        Command("export", scored, _export, ("model/*.safetensors", "model/*.json")),
        Command("data fetch", empty, lambda place: _fetch(place, world), ("doitune/corpora/doit/**/*.json",)),
        Command("base make", empty, _make, ("base/*.safetensors", "base/*.json")),
    )


def _run(folder: Path) -> Run:
    return list_runs(folder)[-1]


def _evaluate(folder: Path) -> None:
    from doitune.evals.request import Request
    from doitune.evals.targets import evaluate_target

    run = str(_run(folder).folder)
    evaluate_target(run, Request((SUITE,)), runs=folder, on_progress=lambda label, progress: None)


def _score(folder: Path) -> None:
    from doitune.evals.evaluate import score_folder

    for one in sorted((_run(folder).folder / "evals" / SUITE).iterdir()):
        score_folder(one)


def _report(folder: Path) -> None:
    from doitune.report.page import page
    from doitune.system.publish import write_result

    write_result(folder / "page.html", page([_run(folder)]))


def _export(folder: Path) -> None:
    from doitune.export.merged import Wish, export_merged

    export_merged(Wish(_run(folder), folder / "model", questions=4))


def _fetch(folder: Path, world: World) -> None:
    from doitune.data.fetch import fetch

    os.environ["XDG_CACHE_HOME"] = str(folder)
    fetch(source=str(world.recipe.parent / "corpus"))


def _make(folder: Path) -> None:
    from doitune.base.make import make_base
    from doitune.base.order import Wish, take_order
    from doitune.demo.folder import BASE

    make_base(take_order(Wish("demo", str(BASE), out=folder / "base"), lambda text: None))


class Executioner:
    """Kills one command again and again under `folder`."""

    def __init__(self, command: Command, folder: Path, dice: random.Random) -> None:
        """Do it twice undisturbed: the measure of what follows. DoituneError where even that differs."""
        self.command, self.folder, self.dice = command, folder, dice
        self.found = Killed(command.name)
        self.wanted, measure = self._undisturbed("first")
        again, self.measure = self._undisturbed("second")
        if again != self.wanted or not self.wanted:
            raise DoituneError(f"two undisturbed `{command.name}` differ", f"see {folder}")
        self.sites = [site for site, count in measure.watch.counts().items() if count]
        self.counts = measure.watch.counts()
        shutil.rmtree(folder / "first")
        shutil.rmtree(folder / "second")

    def _undisturbed(self, name: str) -> tuple[dict[str, bytes], Died]:
        place = self._place(name)
        died = self._live(place, Blow())
        if died.code:
            raise DoituneError(f"`{self.command.name}` fails: {died.said.strip()[-500:]}", f"see {place}")
        return self._made(place), died

    def _place(self, name: str) -> Path:
        place = self.folder / name / "place"  # the same depth for all: paths stand in some results
        shutil.copytree(self.command.start, place, ignore=shutil.ignore_patterns("child.log", "modules.txt"))
        return place

    def _made(self, place: Path) -> dict[str, bytes]:
        """Results without the name of the trial's own folder."""
        own = str(place).encode()
        return {name: content.replace(own, b"PLACE") for name, content in self.command.made(place).items()}

    def _live(self, place: Path, blow: Blow) -> Died:
        def work(watch: Watch) -> None:
            self.command.do(place)

        return live_through(work, place.parent, blow)

    def kill(self, kills: int) -> Killed:
        """Until `kills` processes have died; a command that ended before its kill is begun anew."""
        while self.found.kills < kills and len(self.found.failures) < 5:
            self.found.trials += 1
            self._trial(min(self.dice.randint(1, MOST_KILLS), kills - self.found.kills))
        return self.found

    def _blow(self) -> Blow:
        if self.sites and self.dice.random() < 0.6:
            site = self.dice.choice(self.sites)
            return Blow(f"{site}:{self.dice.randint(1, self.counts[site])}:kill")
        return Blow(after_seconds=self.dice.uniform(0, self.measure.seconds), of_loop=False)

    def _trial(self, kills: int) -> None:
        name = f"trial-{self.found.trials}"
        place, failures = self._place(name), len(self.found.failures)
        for blow in [self._blow() for _ in range(kills)]:
            died = self._live(place, blow)
            if died.killed:
                self.found.kills += 1
                self.found.sites[blow.fault.partition(":")[0] or "random time"] += 1
            elif died.code:
                self._fail(f"exit {died.code} at {blow}: {died.said.strip()[-300:]}")
        died = self._live(place, Blow())
        if died.code:
            self._fail(f"exit {died.code} after the kills: {died.said.strip()[-300:]}")
        self._compare(place)
        if len(self.found.failures) == failures:
            shutil.rmtree(place.parent)

    def _compare(self, place: Path) -> None:
        made = self._made(place)
        for name in sorted(made.keys() | self.wanted.keys()):
            if made.get(name) != self.wanted.get(name):
                self._fail(f"{name} is not what an undisturbed `{self.command.name}` makes")
        left = [path.name for path in place.rglob(".*") if path.name.endswith((".part", ".lock", ".old"))]
        left += [path.name for path in place.rglob(".staging-*")]
        if left:
            self._fail(f"left behind: {', '.join(sorted(left))}")

    def _fail(self, text: str) -> None:
        self.found.failures.append(f"trial {self.found.trials}: {text}")


def kill_commands(
    folder: Path, kills: int, seed: int = 0, on_killed: Callable[[Killed], None] = lambda found: None
) -> tuple[Killed, ...]:
    """Kill every command, `kills` times in all, in folders below `folder`. Errors: DoituneError where a
    command fails undisturbed."""
    known = commands(folder)
    dice, found = random.Random(seed), []
    for number, command in enumerate(known):
        share = kills * (number + 1) // len(known) - kills * number // len(known)
        found.append(Executioner(command, folder / command.name.replace(" ", "-"), dice).kill(share))
        on_killed(found[-1])
    return tuple(found)
