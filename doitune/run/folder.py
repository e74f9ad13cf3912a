"""Run: the directory of one training.
    runs/<recipe>/<date-time>/
      recipe.yaml  origin.json  examples.txt  ledger.json  metrics.jsonl  checkpoints/step-000320/  evals/  done.json

`done.json` is written last: while it is missing, the run can be resumed. Reports read directories only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from doitune.errors import CheckpointError, UsageError
from doitune.run import checkpoint as store
from doitune.run.checkpoint import Checkpoint
from doitune.run.full_disk import Patience
from doitune.system.disk import (
    PRIVATE,
    append_line,
    disk_error,
    hold,
    is_held,
    make_folder,
    read_lines,
    sync_file,
    sync_folder,
    write_json,
    write_whole,
)
from doitune.system.json_records import is_line, object_of, read_record

LOG_BYTES = 1 << 14
"""Room that a line of metrics.jsonl or a small file is given."""

PARTS = (
    ".recipe.yaml.",
    ".origin.json.",
    ".ledger.json.",
    ".examples.txt.",
    ".done.json.",
    ".metrics.jsonl.",
)
"""How the names of half-written files of ours begin; they end in `.part`."""


class Run:
    """One run directory. Opening one takes no lock; `lock` does, for those who write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.patience = Patience()

    @property
    def name(self) -> str:
        """`<recipe>/<date-time>`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def recipe_path(self) -> Path:
        """The resolved recipe; training it repeats the run."""
        return self.folder / "recipe.yaml"

    @property
    def metrics_path(self) -> Path:
        """One JSON line a step or validation."""
        return self.folder / "metrics.jsonl"

    def evals_folder(self, suite: str, checkpoint: str) -> Path:
        """Where an evaluation of this run lies; `checkpoint` is `step-000320` or `base`."""
        return self.folder / "evals" / suite / checkpoint

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for as long as this process writes to it; LockedError names the owner. The kernel
        frees it after any death."""
        with hold(self.folder / "run.lock", self.name):
            yield

    def is_locked(self) -> bool:
        """Whether a living process works on it."""
        return is_held(self.folder / "run.lock")

    def write(self, name: str, content: str) -> None:
        """A text file of the run."""
        self._patiently(lambda: write_whole(self.folder / name, content))

    def write_json(self, name: str, document: Any) -> None:
        """A JSON file of the run."""
        self._patiently(lambda: write_json(self.folder / name, document))

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; CheckpointError where it is missing, broken or not in its form."""
        return read_record(self.folder / name)

    def log(self, document: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        self._patiently(lambda: append_line(self.metrics_path, document))

    def _patiently(self, work: Callable[[], None]) -> None:
        """A small write that waits for room as long as the run's patience lasts."""
        self.patience.write(self.folder, LOG_BYTES, work, self._relieve)

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of metrics.jsonl; what is torn, or lost its form in an editor, is left out."""
        return [line for line in read_lines(self.metrics_path) if is_line(line)]

    def set_unread_aside(self) -> int:
        """Move lines of metrics.jsonl that are none into metrics.superseded.jsonl, but for a torn last
        one; returns how many."""
        lines = self.metrics_path.read_bytes().split(b"\n")[:-1] if self.metrics_path.is_file() else []
        read = [(line, object_of(line)) for line in lines if line.strip()]
        unread = [line for line, found in read if found is None or not is_line(found)]
        for line in unread:
            append_line(self.folder / "metrics.superseded.jsonl", {"unread": line.decode("utf-8", "replace")})
        return len(unread)

    def cut_metrics(self, step: int, validations: Sequence[Mapping[str, Any]] = ()) -> int:
        """Drop the lines of later steps than `step` (they are trained again); keeps them in
        metrics.superseded.jsonl.

        `validations` that a checkpoint remembers and a damaged log has lost stand in it again. Returns how
        many optimiser steps are trained again.
        """
        lines = self.metrics()
        late = [line for line in lines if line["step"] > step]
        for line in late:
            append_line(self.folder / "metrics.superseded.jsonl", line)
        kept = [line for line in lines if line["step"] <= step]
        known = {line["step"] for line in kept if line["event"] == "validation"}
        for lost in validations:
            if lost["step"] not in known:
                kept.insert(sum(other["step"] <= lost["step"] for other in kept), dict(lost))
        if kept or self.metrics_path.is_file():
            self.write(
                self.metrics_path.name, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
            )
        return len({line["step"] for line in late if line.get("event") == "step"})

    def best_step(self, after_epoch: int | None = None) -> int | None:
        """The step of the best validation: highest score, else lowest loss; the earlier one of equals.

        Only validations after `after_epoch` count (None: the epoch that origin.json has recorded; the paper:
        after epoch 5), unless there are none. None without any validation.
        """
        after_epoch = self._select_after_epoch() if after_epoch is None else after_epoch
        lines = [line for line in self.metrics() if line.get("event") == "validation"]
        late = [line for line in lines if line["epoch"] > after_epoch] or lines
        if not late:
            return None
        best = max(
            late,
            key=lambda line: (line["score"] if line["score"] is not None else -line["loss"], -line["step"]),
        )
        return int(best["step"])

    def _select_after_epoch(self) -> int:
        """The recipe's, 0 where no record says it."""
        try:
            said = dict(self.read_json("origin.json").get("recipe") or {}).get("train.select_after_epoch")
        except (CheckpointError, TypeError, ValueError):
            said = None
        return said if isinstance(said, int) else 0

    def done(self) -> dict[str, Any] | None:
        """What done.json says, or None while the run can be resumed. CheckpointError where it was damaged."""
        return self.read_json("done.json") if (self.folder / "done.json").is_file() else None

    @property
    def checkpoints_folder(self) -> Path:
        """Where its checkpoints lie, see `checkpoint`."""
        return self.folder / "checkpoints"

    def checkpoints(self) -> list[Checkpoint]:
        """Every checkpoint with a whole manifest, by step. Staging and foreign folders are no checkpoints."""
        return store.found(self.checkpoints_folder)

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint of one step."""
        for found in self.checkpoints():
            if found.step == step:
                return found
        known = ", ".join(str(found.step) for found in self.checkpoints()) or "none"
        raise CheckpointError(f"{self.name} has no checkpoint of step {step}", f"it has: {known}")

    def newest_valid(self, on_damage: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint whose files are as they were written; damaged ones are set aside
        (`.bad-...`) and reported."""
        return store.newest_valid(self.checkpoints_folder, on_damage)

    def refuse_lost(self) -> None:
        """CheckpointError where a run without a valid checkpoint once had one: starting again from nothing
        is the user's decision."""
        bad = store.damaged(self.checkpoints_folder)
        logged = max((line["step"] for line in self.metrics() if line.get("event") == "step"), default=0)
        if not bad and logged <= 1:
            return
        why = (
            f"all its checkpoints are damaged ({', '.join(bad)} in {self.checkpoints_folder})"
            if bad
            else "its checkpoints are gone"
        )
        raise CheckpointError(
            f"{self.name} has trained {logged} steps and cannot go on: {why}",
            "copy a good one back from a backup, or train from the beginning: doitune resume RUN --from-scratch",
        )

    def save_checkpoint(self, step: int, fill: Callable[[Path], None], wanted_bytes: int = 0) -> Checkpoint:
        """Write a checkpoint: `fill` puts its files into a staging folder; published whole and verified, see
        `checkpoint.write`.

        `wanted_bytes`: about how large it will be; where the disk has less room, older checkpoints but the
        best go, then the run waits.
        """
        if self.metrics_path.is_file():
            sync_file(self.metrics_path)  # the log is never behind the checkpoint
        return self.patience.write(
            self.checkpoints_folder,
            wanted_bytes,
            lambda: store.write(self.checkpoints_folder, step, fill),
            self._relieve,
        )

    def _relieve(self) -> bool:
        """Room for what is to be written: the oldest checkpoint but the newest valid one and the best
        goes. False: nothing may."""
        present = self.checkpoints()
        valid = [one for one in present if not one.verify()]
        spare = {self.best_step(), *(one.step for one in valid[-1:])}
        for one in present:
            if one in valid and one.step not in spare:
                store.delete(one)
                return True
        return False

    def keep_checkpoints(self, steps: set[int]) -> None:
        """Delete the checkpoints of all other steps, but never so that fewer valid ones are left than were
        asked for."""
        store.keep(self.checkpoints_folder, steps)

    def sweep(self) -> None:
        """Clear away what a dead process left half-written; only under the lock."""
        for path in self.folder.glob(".*.part"):
            if path.name.startswith(PARTS):
                path.unlink(missing_ok=True)
        store.sweep(self.checkpoints_folder)


def create_run(runs: Path, recipe_name: str, now: float | None = None) -> Run:
    """A new run directory, closed to other users; its name is the time, made with `mkdir` so that two
    starts at once get two names."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
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
        make_folder(folder / "checkpoints")
        return Run(folder.resolve())
    raise UsageError(f"{parent} already holds a thousand runs of {stamp}")


def list_runs(runs: Path) -> list[Run]:
    """Every run under `runs`, oldest first by the time in its name."""
    found = [Run(path.parent) for path in runs.glob("*/*/recipe.yaml")]
    return sorted(found, key=_when)


def _when(run: Run) -> tuple[str, int, str]:
    """Time, number among those of the same second (`...-10` is after `...-2`), recipe."""
    stamp, number = run.folder.name[:15], run.folder.name[15:].removeprefix("-")
    return stamp, int(number) if number.isdecimal() else 1, run.name


def find_run(text: str, runs: Path) -> Run:
    """A run by its directory, by `last`, or by an unambiguous part of its name. UsageError lists what
    there is."""
    folder = Path(text)
    if (folder / "recipe.yaml").is_file():
        return Run(folder.resolve())
    known = list_runs(runs)
    if text == "last":
        if known:
            return known[-1]
        raise UsageError(f"there is no run under {runs}", "start one: doitune train demo")
    matches = [run for run in known if text.strip("/") in run.name]
    exact = [run for run in matches if run.name == text.strip("/")]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise UsageError(
            f"{text!r} names {len(matches)} runs", "one of: " + ", ".join(run.name for run in matches[-8:])
        )
    raise UsageError(
        f"no run is called {text!r} under {runs}",
        "`doitune runs list` names them; --runs DIR looks elsewhere",
    )


def summarise(run: Run) -> dict[str, Any]:
    """A line of `doitune runs list`: state is `done`, `running` or `stopped`; scores are headline means in
    0..1 by suite and checkpoint."""
    lines = [line for line in run.metrics() if line.get("event") == "step"]
    try:
        done = run.done()
    except CheckpointError:
        done = None
    try:
        model = str(run.read_json("origin.json")["base"]["name"])
    except (CheckpointError, KeyError, TypeError):
        model = ""
    return {
        "name": run.name,
        "path": str(run.folder),
        "state": "done" if done else "running" if run.is_locked() else "stopped",
        "recipe": run.folder.parent.name,
        "model": model,
        "step": lines[-1]["step"] if lines else 0,
        "best": done["best_step"] if done else run.best_step(),
        "scores": _scores(run),
    }


def _scores(run: Run) -> dict[str, dict[str, float]]:
    """The headline mean of each finished evaluation."""
    scores: dict[str, dict[str, float]] = {}
    for path in sorted(run.folder.glob("evals/*/*/report.json")):
        try:
            tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
            scores.setdefault(path.parent.parent.name, {})[path.parent.name] = float(
                tables[0]["mean"]["score"]
            )
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue
    return scores
