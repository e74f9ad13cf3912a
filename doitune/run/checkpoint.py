"""The checkpoints of one run: written whole, verified by sha256, set aside when damaged, deleted only when a
newer one is proved.
    checkpoints/step-000320/   adapter and state; MANIFEST.json with step, sizes and sha256 of every file, written last
    checkpoints/.staging-...   one that is being written; a dead process's is deleted at the next start
    checkpoints/.old-...       one whose step is being saved again; takes its name back if the new one never came
    checkpoints/.trash-...     one that is not kept any more
    checkpoints/.bad-...       a damaged one; never deleted

The manifest's step decides what is newer, never a name or a clock. What is not ours by its name is never
touched.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.errors import CheckpointError, DiskError
from doitune.system import faults
from doitune.system.disk import (
    disk_error,
    file_sha256,
    is_full,
    make_staging,
    remove_folder,
    rename,
    staging_of,
    sync_file,
    sync_folder,
    tell,
    write_whole,
)

MANIFEST = "MANIFEST.json"
MANIFEST_SCHEMA = "doitune.checkpoint/1"

_NAME = re.compile(r"step-[0-9]{6,}")
_STAGING = re.compile(r"\.staging-step-[0-9]{6,}-[0-9]+")
_TRASH = re.compile(r"\.trash-step-[0-9]{6,}")
_OLD = re.compile(r"\.old-(step-[0-9]{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose manifest is as it was written. `step` is the number of optimiser steps
    done."""

    folder: Path
    step: int

    def verify(self) -> list[str]:
        """What is wrong with its files against the manifest, by sha256; empty if nothing is."""
        try:
            files = read_manifest(self.folder)["files"]
        except CheckpointError as error:
            return [error.problem]
        wrong = []
        for name, entry in files.items():
            path = self.folder / name
            try:
                if not path.is_file():
                    wrong.append(f"{name} is missing")
                elif path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
                    wrong.append(f"{name} was changed")
            except OSError as error:
                wrong.append(f"{name} cannot be read: {error.strerror}")
        return wrong

    @property
    def bytes(self) -> int:
        """Size of its files; 0 where the manifest is damaged."""
        try:
            return sum(entry["bytes"] for entry in read_manifest(self.folder)["files"].values())
        except CheckpointError:
            return 0


def read_manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest, every byte as it was written; CheckpointError says what is wrong with it."""
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        files = document["files"].items()
        whole = all(
            set(entry) == {"bytes", "sha256"} and type(entry["bytes"]) is int and "/" not in name
            for name, entry in files
        )
        if (
            document["schema"] != MANIFEST_SCHEMA
            or not whole
            or text != manifest_text(document["step"], document["files"])
        ):
            raise ValueError("changed")
    except FileNotFoundError:
        raise CheckpointError(f"{MANIFEST} is missing", "use another checkpoint") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{MANIFEST} was changed", "use another checkpoint") from None
    return dict(document)


def manifest_text(step: int, files: dict[str, dict[str, Any]]) -> str:
    """A manifest byte for byte. It needs no hash of itself: a changed digit or name is one that the files,
    or the folder's name, contradict."""
    return (
        json.dumps(
            {"schema": MANIFEST_SCHEMA, "step": step, "files": files},
            ensure_ascii=False,
            indent=2,
            allow_nan=False,
        )
        + "\n"
    )


def found(folder: Path) -> list[Checkpoint]:
    """Every checkpoint in `folder` with a whole manifest, by step."""
    whole = []
    for path in _named(folder):
        try:
            step = read_manifest(path)["step"]
        except CheckpointError:
            continue
        if isinstance(step, int) and path.name == f"step-{step:06d}":
            whole.append(Checkpoint(path, step))
    return sorted(whole, key=lambda one: one.step)


def _named(folder: Path) -> list[Path]:
    """Folders that are checkpoints by their name."""
    return [path for path in sorted(folder.glob("step-*")) if path.is_dir() and _NAME.fullmatch(path.name)]


def newest_valid(folder: Path, on_damage: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose files are as they were written; damaged ones are set aside (`.bad-...`) and
    reported.

    Nothing older than the one that is taken is read.
    """
    whole = {one.folder: one for one in found(folder)}
    for path in sorted(
        _named(folder),
        key=lambda path: whole[path].step if path in whole else int(path.name[5:]),
        reverse=True,
    ):
        wrong = whole[path].verify() if path in whole else [_manifest_problem(path)]
        if not wrong:
            return whole[path]
        aside = _set_aside(path)
        on_damage(f"checkpoint {path.name} is damaged ({'; '.join(wrong)}); set aside as {aside.name}")
    return None


def _manifest_problem(folder: Path) -> str:
    try:
        return f"{MANIFEST} is of step {read_manifest(folder)['step']}"
    except CheckpointError as error:
        return error.problem


def _set_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f".bad-{path.name}" + (f"-{number}" if number > 1 else ""))).exists():
        number += 1
    try:
        faults.reach("aside.begin")
        rename(path, aside)
        sync_folder(path.parent)
        faults.reach("aside.end")
    except OSError as error:
        raise disk_error(path.parent, error) from error
    return aside


def damaged(folder: Path) -> list[str]:
    """Names of checkpoints that were set aside."""
    return sorted(path.name for path in folder.glob(".bad-step-*"))


def write(folder: Path, step: int, fill: Callable[[Path], None]) -> Checkpoint:
    """Write the checkpoint of `step`: `fill` puts its files into a staging folder; the manifest is written
    last, then the folder takes its name.

    An older one of the same step keeps its name until the new one is whole. What was written is read again
    and compared. After an error nothing is left. Errors: DiskError.
    """
    final = folder / f"step-{step:06d}"
    staging = staging_of(final)
    try:
        faults.reach("ckpt.begin")
        make_staging(staging)
        faults.reach("ckpt.staged")
        fill(staging)
        faults.reach("ckpt.filled")
        _seal(staging, step)
        _publish(staging, final)
    except BaseException as error:
        problem = disk_error(folder, error) if isinstance(error, OSError) else None
        if (
            isinstance(error, Exception)
            and not isinstance(error, DiskError)
            and problem is None
            and is_full(folder)
        ):
            problem = disk_error(
                folder, OSError(28, f"no room left ({error})")
            )  # a library's own words for a full disk
        shutil.rmtree(staging, ignore_errors=True)
        if problem is not None:
            raise problem from error
        raise
    faults.reach("ckpt.before_verify")
    written = Checkpoint(final, step)
    wrong = written.verify()
    if wrong:
        raise DiskError(
            f"{final} is not what was written to it: {'; '.join(wrong)}",
            "this disk loses bytes: put the runs on another one",
        )
    remove_folder(final.with_name(f".old-{final.name}"))
    faults.reach("ckpt.end")
    return written


def _seal(staging: Path, step: int) -> None:
    """Flush and hash every file, then the manifest, then the folder."""
    files = {}
    for path in sorted(path for path in staging.iterdir() if path.is_file()):
        faults.reach("ckpt.before_file")
        tell("write", path)
        sync_file(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        faults.reach("ckpt.after_file")
    faults.reach("ckpt.before_manifest")
    write_whole(staging / MANIFEST, manifest_text(step, files))
    faults.reach("ckpt.after_manifest")
    sync_folder(staging)


def _publish(staging: Path, final: Path) -> None:
    """Give a whole staging folder its name."""
    faults.reach("ckpt.before_rename")
    if final.exists():
        old = final.with_name(f".old-{final.name}")
        remove_folder(old)
        rename(final, old)
        sync_folder(final.parent)
        faults.reach("ckpt.replaced")
    rename(staging, final)
    faults.reach("ckpt.after_rename")
    sync_folder(final.parent)


def sweep(folder: Path) -> None:
    """Clear away what a dead process left: staging and trash are deleted, an older checkpoint whose
    successor never came has its name again."""
    for path in sorted(folder.glob(".*")) if folder.is_dir() else []:
        old = _OLD.fullmatch(path.name)
        if old and not (folder / old[1]).exists():
            rename(path, folder / old[1])
            sync_folder(folder)
        elif old or _STAGING.fullmatch(path.name) or _TRASH.fullmatch(path.name):
            remove_folder(path)


def keep(folder: Path, steps: set[int]) -> None:
    """Delete the checkpoints of all other steps; each is renamed first, so that none is ever seen half
    deleted.

    For every one of `steps` that is no longer as it was written, the newest valid one that would go stays.
    The newest of all was verified as it was written and is not read again.
    """
    present = found(folder)
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
    trash = one.folder.with_name(f".trash-{one.folder.name}")
    remove_folder(trash)
    try:
        rename(one.folder, trash)
    except OSError as error:
        raise disk_error(one.folder.parent, error) from error
    faults.reach("trash.renamed")
    remove_folder(trash)
    faults.reach("trash.end")
