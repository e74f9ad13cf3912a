"""Run: the directory of one training; `layout` names what is in it.

`done.json` is written last: while it is missing, the run can be resumed. Reports read directories only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.errors import CheckpointError, UsageError
from doitune.run.checkpoint import Checkpoint
from doitune.run.checkpoint_writer import write
from doitune.run.checkpoints import Checkpoints, delete, sweep
from doitune.run.full_disk import Patience
from doitune.run.layout import (
    CHECKPOINTS,
    DONE,
    EXAMPLES,
    KEPT_OUT,
    LEDGER,
    LOCK,
    METRICS,
    ORIGIN,
    RECIPE,
    resume_command,
)
from doitune.run.log import VALIDATION, Log, best_of
from doitune.run.records import read_record
from doitune.system.disk import (
    PRIVATE,
    disk_error,
    make_folder,
    sync_file,
    sync_folder,
    write_json,
    write_whole,
)
from doitune.system.lock import hold, is_held

if TYPE_CHECKING:
    from doitune.recipe.resolve import Resolved

NAME_FORM = "%Y%m%d-%H%M%S"
"""How a run's folder is named after the time of its start; of several in a second, a number follows."""

LOG_BYTES = 1 << 14
"""Room that a line of metrics.jsonl or a small file is given."""


class Run:
    """One run directory: its records, its log, its checkpoints. Opening one takes no lock; `lock` does, for
    those who write."""

    def __init__(self, folder: Path, patience: Patience | None = None) -> None:
        """`patience`: what its writers do where the disk is full; without one they give up at once."""
        self.folder, self.patience = folder, patience or Patience()
        self.name = f"{folder.parent.name}/{folder.name}"
        self.log = Log(folder, self._patiently)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, self.name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for as long as this process writes to it; LockedError names the owner. The kernel
        frees it after any death."""
        with hold(self.folder / LOCK, self.name):
            yield

    def is_locked(self) -> bool:
        """Whether a living process works on it."""
        return is_held(self.folder / LOCK)

    def write(self, name: str, content: str) -> None:
        """A text file of the run."""
        self._patiently(lambda: write_whole(self.folder / name, content))

    def write_json(self, name: str, document: Any) -> None:
        """A JSON file of the run."""
        self._patiently(lambda: write_json(self.folder / name, document))

    def _patiently(self, work: Callable[[], None]) -> None:
        self.patience.write(self.folder, LOG_BYTES, work, lambda: relieve(self))

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; CheckpointError where it is missing, broken or not in its form."""
        return read_record(self.folder / name)

    def done(self) -> dict[str, Any] | None:
        """What done.json says, or None while the run can be resumed. CheckpointError where it was damaged."""
        return self.read_json(DONE) if (self.folder / DONE).is_file() else None

    def best_step(self) -> int | None:
        """The step of the best validation in the log, by the epoch that origin.json has recorded."""
        try:
            recorded = dict(self.read_json(ORIGIN).get("recipe") or {}).get("train.select_after_epoch")
        except (CheckpointError, TypeError, ValueError):
            recorded = None
        return best_of(self.log.lines(VALIDATION), recorded if isinstance(recorded, int) else 0)


def resolved(run: Run, overrides: tuple[str, ...] = ()) -> Resolved:
    """The recipe of a run, resolved; training it repeats the run. Errors: those of `resolve`.

    Its recipe.yaml holds every field that there was: one that it lacks means what was done BEFORE it."""
    from doitune.recipe.resolve import resolve
    from doitune.run.changes import BEFORE

    path, name = str(run.folder / RECIPE), run.folder.parent.name
    found = resolve(path, name=name, overrides=overrides)
    older = tuple(f"{key}={value}" for key, value in BEFORE.items() if found.origins[key] == "default")
    return resolve(path, name=name, overrides=(*older, *overrides)) if older else found


def save_checkpoint(run: Run, step: int, fill: Callable[[Path], None], wanted_bytes: int = 0) -> Checkpoint:
    """Write a checkpoint: `fill` puts its files into a staging folder; published whole and verified, see
    `checkpoint_writer`.

    `wanted_bytes`: about how large it will be; where the disk has less room, older checkpoints but the
    best go, then the run waits.
    """
    if run.log.path.is_file():
        sync_file(run.log.path)  # the log is never behind the checkpoint
    folder = run.checkpoints.folder
    return run.patience.write(folder, wanted_bytes, lambda: write(folder, step, fill), lambda: relieve(run))


def relieve(run: Run) -> bool:
    """Room for what is to be written: the oldest checkpoint but the newest valid one and the best goes.
    False: nothing may."""
    valid = [one for one in run.checkpoints.all() if not one.verify()]
    spare = {run.best_step(), *(one.step for one in valid[-1:])}
    for one in valid:
        if one.step not in spare:
            delete(one)
            return True
    return False


def sweep_run(run: Run) -> None:
    """Clear away what a dead process left half-written; only under the lock."""
    for name in (RECIPE, ORIGIN, LEDGER, EXAMPLES, KEPT_OUT, DONE, METRICS):
        for path in run.folder.glob(f".{name}.*.part"):
            path.unlink(missing_ok=True)
    sweep(run.checkpoints.folder)


def refuse_lost(run: Run) -> None:
    """CheckpointError where a run without a valid checkpoint once had one: starting again from nothing is
    the user's decision."""
    bad, folder = run.checkpoints.damaged(), run.checkpoints.folder
    logged = max((line["step"] for line in run.log.lines("step")), default=0)
    if not bad and logged <= 1:
        return
    why = (
        f"all its checkpoints are damaged ({', '.join(bad)} in {folder})"
        if bad
        else "its checkpoints are gone"
    )
    raise CheckpointError(
        f"{run.name} has trained {logged} steps and cannot go on: {why}",
        "copy a good one back from a backup, or train from the beginning: "
        f"{resume_command(run.folder)} --from-scratch",
    )


def named_run(runs: Path, recipe_name: str, name: str) -> Run:
    """A run directory called `name`, new, or left by a start that died before the run was begun; closed to
    other users. UsageError where it is a run already."""
    parent = runs / recipe_name
    make_folder(parent)
    folder = parent / name
    try:
        folder.mkdir(mode=PRIVATE, exist_ok=True)
        sync_folder(parent)
    except OSError as error:
        raise disk_error(parent, error) from error
    if (folder / RECIPE).exists():
        raise UsageError(f"{folder} is a run already", resume_command(folder))
    make_folder(folder / CHECKPOINTS)
    return Run(folder.resolve())


def create_run(runs: Path, recipe_name: str, now: float | None = None) -> Run:
    """A new run directory, closed to other users; its name is the time, made with `mkdir` so that two
    starts at once get two names."""
    stamp = time.strftime(NAME_FORM, time.localtime(now))
    parent = runs / recipe_name
    make_folder(parent)
    for attempt in range(1, 1000):
        folder = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir(mode=PRIVATE)
            sync_folder(parent)
        except FileExistsError:
            continue
        except OSError as error:
            raise disk_error(parent, error) from error
        make_folder(folder / CHECKPOINTS)
        return Run(folder.resolve())
    raise UsageError(f"{parent} already has a thousand runs of {stamp}")
