"""How a checkpoint is written: whole, flushed, its manifest last, read again and compared."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doitune.errors import DiskError
from doitune.run.checkpoint import Checkpoint, manifest_text
from doitune.run.layout import MANIFEST, OLD, step_name
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
    trace,
    write_whole,
)


def write(folder: Path, step: int, fill: Callable[[Path], None]) -> Checkpoint:
    """Write the checkpoint of `step`: `fill` puts its files into a staging folder; the manifest is written
    last, then the folder takes its name.

    An older one of the same step keeps its name until the new one is whole. What was written is read again
    and compared. After an error nothing is left. Errors: DiskError.
    """
    final = folder / step_name(step)
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
        problem = _disk_problem(folder, error)
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
    remove_folder(final.with_name(f"{OLD}{final.name}"))
    faults.reach("ckpt.end")
    return written


def _disk_problem(folder: Path, error: BaseException) -> DiskError | None:
    """An error of the disk as a user's problem; None where it is another one, or is one already. A library
    has its own words for a full disk."""
    if isinstance(error, OSError):
        return disk_error(folder, error)
    if isinstance(error, Exception) and not isinstance(error, DiskError) and is_full(folder):
        return disk_error(folder, OSError(errno.ENOSPC, f"no room left ({error})"))
    return None


def _seal(staging: Path, step: int) -> None:
    """Flush and hash every file, then the manifest, then the folder."""
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in staging.iterdir() if path.is_file()):
        faults.reach("ckpt.before_file")
        trace("write", path)
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
        old = final.with_name(f"{OLD}{final.name}")
        remove_folder(old)
        rename(final, old)
        sync_folder(final.parent)
        faults.reach("ckpt.replaced")
    rename(staging, final)
    faults.reach("ckpt.after_rename")
    sync_folder(final.parent)
