"""Locks: a file that one living process has at a time. The kernel frees it after any death."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from doitune.errors import LockedError
from doitune.system.disk import disk_error


@dataclass(frozen=True)
class Wait:
    """How long to wait for another process that has a lock; `report` is given a sentence once."""

    seconds: float = 0.5  # as long as a look at the lock, and an owner's signature, may take
    report: Callable[[str], None] | None = None


@contextmanager
def hold(path: Path, what: str, wait: Wait = Wait(), *, remove: bool = False) -> Iterator[None]:  # frozen
    """Hold the lock file `path` for as long as this process works on `what`; LockedError names the owner.

    `remove`: the file is gone afterwards, too.
    """
    descriptor = _locked(path, what, wait)
    try:
        with suppress(OSError):  # on a full disk the lock counts without its owner's name
            os.ftruncate(descriptor, 0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename} since {since}".encode(), 0)
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, what: str, wait: Wait) -> int:
    """A descriptor that holds the lock on the file that `path` names now: an owner may have removed the one
    that was waited for."""
    end, reported = time.monotonic() + wait.seconds, False
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise disk_error(path.parent, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _names(path, descriptor):
                return descriptor
        except BlockingIOError:
            owner = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip() or "another process"
            problem = f"{what} is being worked on by {owner}"
            if time.monotonic() >= end:
                os.close(descriptor)
                raise LockedError(problem, "wait for it, or stop it") from None
            if wait.report is not None and not reported:
                wait.report(f"{problem}: waiting for it")
                reported = True
            time.sleep(0.05)
        except OSError as error:
            os.close(descriptor)
            raise disk_error(path.parent, error) from error
        os.close(descriptor)


def _names(path: Path, descriptor: int) -> bool:
    """Whether `path` still is the file that the descriptor has open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file; nothing is written."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
