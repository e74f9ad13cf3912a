"""Run: the directory of one training.

    runs/<recipe>/<date-time>/
      recipe.yaml  origin.json  examples.txt  ledger.json  metrics.jsonl  checkpoints/step-000320/  evals/  done.json

`done.json` is written last: while it is missing, the run can be resumed. Reports read directories only.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.disk import append_line, disk_error, file_sha256, make_folder, read_lines, sync_file, whole_folder, write_json, write_whole
from doitune.errors import CheckpointError, LockedError, UsageError

MANIFEST = "MANIFEST.json"
MANIFEST_SCHEMA = "doitune.checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose manifest could be read. `step` is the number of optimiser steps done."""

    folder: Path
    step: int

    def verify(self) -> list[str]:
        """What is wrong with its files against the manifest, by sha256; empty if nothing is."""
        manifest = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        wrong = []
        for name, entry in manifest["files"].items():
            path = self.folder / name
            if not path.is_file():
                wrong.append(f"{name} is missing")
            elif path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
                wrong.append(f"{name} was changed")
        return wrong


class Run:
    """One run directory. Opening one takes no lock; `lock` does, for those who write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
        """Hold the run for as long as this process writes to it; LockedError names the owner. The kernel frees it after any death."""
        path = self.folder / "run.lock"
        try:
            stream = path.open("a+")
        except OSError as error:
            raise disk_error(self.folder, error) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                owner = stream.read().strip() or "another process"
                raise LockedError(f"{self.name} is being worked on by {owner}", "wait for it, or stop it") from None
            stream.seek(0)
            stream.truncate()
            stream.write(f"process {os.getpid()} on {os.uname().nodename} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
            stream.flush()
            yield

    def is_locked(self) -> bool:
        """Whether a living process works on it."""
        try:
            with self.lock():
                return False
        except LockedError:
            return True

    def write(self, name: str, content: str) -> None:
        """A text file of the run."""
        write_whole(self.folder / name, content)

    def write_json(self, name: str, document: Any) -> None:
        """A JSON file of the run."""
        write_json(self.folder / name, document)

    def read_json(self, name: str) -> Any:
        """A JSON file of the run; CheckpointError where it is missing or broken."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.folder / name} cannot be read: {error}", "this folder is not a whole run") from error

    def log(self, document: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        append_line(self.metrics_path, document)

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole line of metrics.jsonl."""
        return read_lines(self.metrics_path)

    def cut_metrics(self, step: int) -> int:
        """Drop the lines of later steps than `step` (they are trained again); keeps them in metrics.superseded.jsonl. Returns how many."""
        lines = self.metrics()
        late = [line for line in lines if line.get("step", 0) > step]
        for line in late:
            append_line(self.folder / "metrics.superseded.jsonl", line)
        if late or self.metrics_path.is_file():
            kept = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines if line.get("step", 0) <= step]
            write_whole(self.metrics_path, "".join(kept))
        return len(late)

    def best_step(self, after_epoch: int = 0) -> int | None:
        """The step of the best validation: highest score, else lowest loss; the earlier one of equals.

        Only validations after `after_epoch` count (the paper: after epoch 5), unless there are none. None without any validation.
        """
        lines = [line for line in self.metrics() if line.get("event") == "validation"]
        late = [line for line in lines if line["epoch"] > after_epoch] or lines
        if not late:
            return None
        best = max(late, key=lambda line: (line["score"] if line["score"] is not None else -line["loss"], -line["step"]))
        return int(best["step"])

    def done(self) -> dict[str, Any] | None:
        """What done.json says, or None while the run can be resumed."""
        path = self.folder / "done.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def checkpoints(self) -> list[Checkpoint]:
        """Every checkpoint with a readable manifest, by step. Staging and foreign folders are no checkpoints."""
        found = []
        for manifest in sorted((self.folder / "checkpoints").glob(f"step-*/{MANIFEST}")):
            try:
                document = json.loads(manifest.read_text(encoding="utf-8"))
                if document["schema"] == MANIFEST_SCHEMA and isinstance(document["files"], dict):
                    found.append(Checkpoint(manifest.parent, int(document["step"])))
            except (ValueError, KeyError, TypeError, OSError):
                continue
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def checkpoint(self, step: int) -> Checkpoint:
        """The checkpoint of one step."""
        for found in self.checkpoints():
            if found.step == step:
                return found
        known = ", ".join(str(found.step) for found in self.checkpoints()) or "none"
        raise CheckpointError(f"{self.name} has no checkpoint of step {step}", f"it has: {known}")

    def newest_valid(self, on_damage: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint whose files are as they were written; damaged ones are set aside (`.bad-...`) and reported."""
        for found in reversed(self.checkpoints()):
            wrong = found.verify()
            if not wrong:
                return found
            aside = found.folder.with_name(f".bad-{found.folder.name}-{int(time.time())}")
            found.folder.rename(aside)
            on_damage(f"checkpoint {found.folder.name} is damaged ({'; '.join(wrong)}); set aside as {aside.name}")
        return None

    def save_checkpoint(self, step: int, fill: Callable[[Path], None]) -> Checkpoint:
        """Write a checkpoint: `fill` puts its files into a staging folder; the manifest is written last, then the folder takes its name."""
        final = self.folder / "checkpoints" / f"step-{step:06d}"
        if final.exists():
            shutil.rmtree(final)
        with whole_folder(final) as staging:
            fill(staging)
            files = {
                path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(staging.iterdir()) if path.is_file()
            }
            for name in files:
                sync_file(staging / name)
            write_json(staging / MANIFEST, {"schema": MANIFEST_SCHEMA, "step": step, "files": files})
        return Checkpoint(final, step)

    def keep_checkpoints(self, steps: set[int]) -> None:
        """Delete the checkpoints of all other steps; each is renamed first, so that none is ever seen half deleted."""
        for found in self.checkpoints():
            if found.step not in steps:
                trash = found.folder.with_name(f".trash-{found.folder.name}")
                shutil.rmtree(trash, ignore_errors=True)
                found.folder.rename(trash)
                shutil.rmtree(trash, ignore_errors=True)


def create_run(runs: Path, recipe_name: str, now: float | None = None) -> Run:
    """A new run directory; its name is the time, made with `mkdir` so that two starts at once get two names."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    parent = runs / recipe_name
    make_folder(parent)
    for attempt in range(1, 1000):
        folder = parent / (stamp if attempt == 1 else f"{stamp}-{attempt}")
        try:
            folder.mkdir()
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
    """A run by its directory, by `last`, or by an unambiguous part of its name. UsageError lists what there is."""
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
        raise UsageError(f"{text!r} names {len(matches)} runs", "one of: " + ", ".join(run.name for run in matches[-8:]))
    raise UsageError(f"no run is called {text!r} under {runs}", "`doitune runs list` names them; --runs DIR looks elsewhere")


def summarise(run: Run) -> dict[str, Any]:
    """A line of `doitune runs list`: state is `done`, `running` or `stopped`; scores are headline means in 0..1 by suite and checkpoint."""
    done = run.done()
    lines = [line for line in run.metrics() if line.get("event") == "step"]
    origin = run.folder / "origin.json"
    model = json.loads(origin.read_text(encoding="utf-8"))["base"]["name"] if origin.is_file() else ""
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
            scores.setdefault(path.parent.parent.name, {})[path.parent.name] = float(tables[0]["mean"]["score"])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue
    return scores
