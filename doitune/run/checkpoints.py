"""Checkpoints: those of one run, verified by sha256, set aside when damaged, deleted only when a newer one is
proved.
    checkpoints/step-000320/   adapter, state and manifest
    checkpoints/.staging-...   one that is being written; a dead process's is deleted at the next start
    checkpoints/.old-...       one whose step is being saved again; its name again if the new one never came
    checkpoints/.trash-...     one that is not kept any more
    checkpoints/.bad-...       a damaged one; never deleted

The manifest's step decides what is newer, never a name or a clock. What is not ours by its name is never
touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from doitune.errors import CheckpointError
from doitune.run.checkpoint import Checkpoint, read_manifest
from doitune.run.layout import BAD, MANIFEST, OLD, STEP, TRASH, step_folders, step_name, step_of
from doitune.system import faults
from doitune.system.disk import disk_error, remove_folder, rename, sync_folder

_STAGING = re.compile(rf"\.staging-{STEP}[0-9]{{6,}}-[0-9]+")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder`; `run_name` is for errors."""

    folder: Path
    run_name: str

    def all(self) -> list[Checkpoint]:
        """Every checkpoint with a whole manifest, by step. Staging and foreign folders are no checkpoints."""
        whole = []
        for path in step_folders(self.folder):
            try:
                step = read_manifest(path)["step"]
            except CheckpointError:
                continue
            if isinstance(step, int) and path.name == step_name(step):
                whole.append(Checkpoint(path, step))
        return sorted(whole, key=lambda one: one.step)

    def of_step(self, step: int) -> Checkpoint:
        """The checkpoint of one step. CheckpointError names those that there are."""
        there = self.all()
        for found in there:
            if found.step == step:
                return found
        known = ", ".join(str(found.step) for found in there) or "none"
        raise CheckpointError(f"{self.run_name} has no checkpoint of step {step}", f"it has: {known}")

    def newest_valid(self, on_damage: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint whose files are as they were written; damaged ones are set aside
        (`.bad-...`) and reported.

        Nothing older than the one that is taken is read.
        """
        whole = {one.folder: one for one in self.all()}
        steps = {path: step_of(path.name) or 0 for path in step_folders(self.folder)}
        steps.update({path: one.step for path, one in whole.items()})
        for path in sorted(steps, key=lambda path: steps[path], reverse=True):
            wrong = whole[path].verify() if path in whole else [_manifest_problem(path)]
            if not wrong:
                return whole[path]
            aside = _set_aside(path)
            on_damage(f"checkpoint {path.name} is damaged ({'; '.join(wrong)}); set aside as {aside.name}")
        return None

    def damaged(self) -> list[str]:
        """Names of checkpoints that were set aside."""
        return sorted(path.name for path in self.folder.glob(f"{BAD}{STEP}*"))


def _manifest_problem(folder: Path) -> str:
    try:
        return f"{MANIFEST} is of step {read_manifest(folder)['step']}"
    except CheckpointError as error:
        return error.problem


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{BAD}{path.name}" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    try:
        faults.reach("aside.begin")
        rename(path, aside)
        sync_folder(path.parent)
        faults.reach("aside.end")
    except OSError as error:
        raise disk_error(path.parent, error) from error
    return aside


def sweep(folder: Path) -> None:
    """Clear away what a dead process left: staging and trash are deleted, an older checkpoint whose
    successor never came has its name again. Only under the run's lock."""
    for path in sorted(folder.glob(".*")) if folder.is_dir() else []:
        old = path.name.removeprefix(OLD) if step_of(path.name.removeprefix(OLD)) is not None else ""
        if old and not (folder / old).exists():
            rename(path, folder / old)
            sync_folder(folder)
        elif old or _STAGING.fullmatch(path.name) or step_of(path.name.removeprefix(TRASH)) is not None:
            remove_folder(path)


def keep(checkpoints: Checkpoints, steps: set[int]) -> None:
    """Delete the checkpoints of all other steps; each is renamed first, so that none is ever seen half
    deleted.

    For every one of `steps` that is no longer as it was written, the newest valid one that would go stays.
    The newest of all was verified as it was written and is not read again.
    """
    present = checkpoints.all()
    doomed = [one for one in present if one.step not in steps]
    if not doomed:
        return
    spoilt = sum(bool(one.verify()) for one in present[:-1] if one.step in steps) + (
        not steps & {one.step for one in present}
    )
    for one in reversed(doomed):
        if spoilt and not one.verify():
            spoilt -= 1
            continue
        delete(one)


def delete(one: Checkpoint) -> None:
    """Take a checkpoint's name, then its files."""
    faults.reach("trash.begin")
    trash = one.folder.with_name(f"{TRASH}{one.folder.name}")
    remove_folder(trash)
    try:
        rename(one.folder, trash)
    except OSError as error:
        raise disk_error(one.folder.parent, error) from error
    faults.reach("trash.renamed")
    remove_folder(trash)
    faults.reach("trash.end")
