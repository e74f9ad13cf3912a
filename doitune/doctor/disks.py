"""The disks that a training writes to."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from doitune.doctor.check import Check
from doitune.errors import DoituneError
from doitune.system.disk import filesystem_of, prove_folder
from doitune.system.units import GIB, MIB

LOW_DISK_GIB = 20
SLOW_MIB = 40
"""MiB a second below which saving a checkpoint of a large model stops a training for minutes."""
MOST_MIB, MOST_SECONDS = 64, 0.5
"""What is written to measure a disk."""
SLOW_DISKS = ("9p", "drvfs", "nfs", "nfs4", "cifs", "smb3", "fuseblk")


def hub_cache() -> Path:
    """Where the hub library keeps what it fetched, by its own variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def disk_check(name: str, folder: Path, *, proved: bool = True) -> Check:
    """Room on the disk of `folder` and, where a run would write there, whether it flushes, renames and
    locks files."""
    there = next(
        (path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir()), Path("/")
    )
    speed = 0.0
    try:
        free = shutil.disk_usage(there).free / GIB
        if proved:
            prove_folder(there)
            speed = written_mib(there)
    except DoituneError as error:
        return Check(name, "problem", error.problem, error.hint)
    except OSError as error:
        return Check(
            name,
            "problem" if proved else "warning",
            f"{folder} cannot be read: {error.strerror}",
            "check the rights, or name another folder",
        )
    kind = filesystem_of(there)
    text = f"{folder} on {kind or 'a disk'}: {free:.1f} GiB free" + (
        f", flushes, renames and locks files, takes {speed:,.0f} MiB/s" if proved else ""
    )
    if kind in SLOW_DISKS:
        return Check(
            name,
            "warning",
            text,
            f"{kind} is slow or loses locks: use a folder on a disk of this machine (on WSL not under /mnt)",
        )
    if 0 < speed < SLOW_MIB:
        cure = "each checkpoint waits for it: use a faster disk (--runs DIR), or keep fewer checkpoints"
        return Check(name, "warning", text, cure)
    if free < LOW_DISK_GIB:
        return Check(
            name,
            "warning",
            text,
            f"less than {LOW_DISK_GIB} GiB: a base of 7b takes 14 GiB to fetch, 4 in NF4",
        )
    return Check(name, "ok", text)


def written_mib(folder: Path) -> float:
    """MiB a second that reach the disk of `folder`, flushed; 0 where there is no room to try."""
    path, block, count = folder / f".speed-{os.getpid()}", os.urandom(MIB), 0
    started = time.perf_counter()
    try:
        with path.open("wb", buffering=0) as file:
            while count < MOST_MIB and time.perf_counter() - started < MOST_SECONDS:
                file.write(block)
                count += 1
            os.fsync(file.fileno())
        return count / (time.perf_counter() - started)
    except OSError:
        return 0.0
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
