"""The crash lab for everything but training: eval, score, report, export, data fetch, base make.

Each is killed at fault points and at random times, begun again until it ends, and its result compared byte
for byte with that of an undisturbed process. Nothing of a killed process may be left, and no lock may be
stale.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from doitune.errors import DoituneError
from doitune.run.find import list_runs
from doitune.run.folder import Run
from doitune.run.layout import EVALS, OUTCOMES, REPORT, suite_folder
from doitune.selftest.child import Blow, Died, live, live_through, warm_up
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
    shutil.rmtree(_run(bare).folder / EVALS)
    lines = (f"*/*/{EVALS}/*/*/{OUTCOMES}", f"*/*/{EVALS}/*/*/{REPORT}")
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

    for one in sorted(suite_folder(_run(folder).folder, SUITE).iterdir()):
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


@dataclass(frozen=True)
class Places:
    """Where one command is tried, each time in a copy of what it starts from."""

    command: Command
    folder: Path

    def fresh(self, name: str) -> Path:
        """A new place; all lie at the same depth, as paths stand in some results."""
        place = self.folder / name / "place"
        left_out = shutil.ignore_patterns("child.log", "modules.txt")
        shutil.copytree(self.command.start, place, ignore=left_out)
        return place

    def live(self, place: Path, blow: Blow) -> Died:
        """The command in a place, under a blow."""
        return live_through(lambda watch: self.command.do(place), place.parent, blow)

    def made(self, place: Path) -> dict[str, bytes]:
        """Its results, without the place's own name."""
        own = str(place).encode()
        return {name: content.replace(own, b"PLACE") for name, content in self.command.made(place).items()}


@dataclass(frozen=True)
class Undisturbed:
    """What a command makes when nobody kills it, in how many seconds, past which fault points how often."""

    made: Mapping[str, bytes]
    seconds: float
    counts: Mapping[str, int]

    def blow(self, dice: random.Random) -> Blow:
        """Of five, three at a fault point and two at a random time."""
        if self.counts and dice.random() < 0.6:
            site = dice.choice(sorted(self.counts))
            return Blow(f"{site}:{dice.randint(1, self.counts[site])}:kill")
        return Blow(after_seconds=dice.uniform(0, self.seconds), of_loop=False)


def undisturbed(places: Places) -> Undisturbed:
    """Two undisturbed processes. DoituneError where they fail or differ: no result could be compared."""
    made, died = [], None
    for name in ("first", "second"):
        place = places.fresh(name)
        died = places.live(place, Blow())
        if died.code:
            raise DoituneError(f"`{places.command.name}` fails: {died.said.strip()[-500:]}", f"see {place}")
        made.append(places.made(place))
        shutil.rmtree(place.parent)
    if not all(made):
        raise DoituneError(f"`{places.command.name}` has made nothing", f"see {places.folder}")
    if died is None or made[0] != made[1]:
        raise DoituneError(f"two undisturbed `{places.command.name}` differ", f"see {places.folder}")
    counts = {site: count for site, count in died.watch.counts().items() if count}
    return Undisturbed(made[0], died.seconds, counts)


def kill_command(places: Places, kills: int, dice: random.Random) -> Killed:
    """Until `kills` processes have died; a command that ended before its kill is begun anew."""
    wanted, found = undisturbed(places), Killed(places.command.name)
    while found.kills < kills and len(found.failures) < 5:
        found.trials += 1
        place = places.fresh(f"trial-{found.trials}")
        blows = [wanted.blow(dice) for _ in range(min(dice.randint(1, MOST_KILLS), kills - found.kills))]
        failures = [*_strike(places, place, blows, found), *_differences(places, place, wanted)]
        found.failures += [f"trial {found.trials}: {text}" for text in failures]
        if not failures:
            shutil.rmtree(place.parent)
    return found


def _strike(places: Places, place: Path, blows: Sequence[Blow], found: Killed) -> list[str]:
    """The command under each blow in turn, then left to end; what went wrong."""
    failures = []
    for blow in (*blows, Blow()):
        died = places.live(place, blow)
        if died.killed:
            found.kills += 1
            found.sites[blow.fault.partition(":")[0] or "random time"] += 1
        elif died.code:
            failures.append(f"exit {died.code} at {blow}: {died.said.strip()[-300:]}")
    return failures


def _differences(places: Places, place: Path, wanted: Undisturbed) -> list[str]:
    """Results that are not the undisturbed ones, and what a killed process left."""
    made = places.made(place)
    names = sorted(made.keys() | wanted.made.keys())
    other = [f"{name} has other bytes" for name in names if made.get(name) != wanted.made.get(name)]
    left = [path.name for path in place.rglob(".*") if path.name.endswith((".part", ".lock", ".old"))]
    left += [path.name for path in place.rglob(".staging-*")]
    return other + [f"{name} was left behind" for name in sorted(left)]


def kill_commands(
    folder: Path, kills: int, seed: int = 0, on_killed: Callable[[Killed], None] = lambda found: None
) -> tuple[Killed, ...]:
    """Kill every command, `kills` times in all, in folders below `folder`. Errors: DoituneError where a
    command fails undisturbed."""
    known = commands(folder)
    dice, found = random.Random(seed), []
    for number, command in enumerate(known):
        share = kills * (number + 1) // len(known) - kills * number // len(known)
        places = Places(command, folder / command.name.replace(" ", "-"))
        found.append(kill_command(places, share, dice))
        on_killed(found[-1])
    return tuple(found)
