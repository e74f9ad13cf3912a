"""Results under a name that others may want at the same time: one writer, published whole, nothing left
lying.

A result is gathered beside its name and takes it in one move. `alone` keeps a second process out and clears
what a killed one left: `.NAME.old` (the result before, set aside while the new one took its name), staging
folders, torn files.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from doitune.errors import DiskError
from doitune.system import faults
from doitune.system.disk import disk_error, make_folder, rename, sync_folder, write_whole
from doitune.system.lock import Wait, hold

EXCHANGE = 2
"""renameat2's flag: two names change places in one step. Source: linux/fs.h, RENAME_EXCHANGE."""
AT_FDCWD = -100

PIPE_SECONDS = 10.0
"""How long a pipe may have no reader before a result meant for it is refused."""


@contextmanager
def alone(final: Path, what: str, wait: Wait = Wait()) -> Iterator[None]:  # noqa: B008  # frozen
    """Work on `final` (a file or folder, there or not) as the only process that does.

    `what` names it in errors. What a killed process left is settled first. Errors: LockedError, DiskError.
    """
    make_folder(final.parent)
    with hold(final.with_name(f".{final.name}.lock"), what, wait, remove=True):
        _settle(final)
        yield


def _settle(final: Path) -> None:
    """Finish or undo what a killed process had begun with `final`. Only while its lock is held."""
    old = _old(final)
    if old.exists():
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            rename(old, final)
    name = re.escape(final.name)
    own = rf"\.staging-{name}-\d+|\.{name}\.\d+\.part"
    _sweep(
        final.parent, re.compile(rf"{own}|\.\.{name}\..+\.\d+\.part")
    )  # the last: of what lies beside it hidden


def sweep(folder: Path) -> None:
    """Clear away every file that a killed process left half-written in a folder; only under its lock."""
    _sweep(folder, re.compile(r"\..+\.\d+\.part"))


def _sweep(folder: Path, ours: re.Pattern[str]) -> None:
    for left in folder.iterdir():
        if ours.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def publish(fresh: Path, final: Path) -> None:
    """The folder `fresh` takes the name `final`; what stood there is deleted. Inside `alone(final)`.

    In one step where the filesystem can exchange names; elsewhere in two, between which a kill leaves the
    old one as `.NAME.old`, which the next `alone(final)` puts back.
    """
    try:
        if not final.exists():
            rename(fresh, final)
        elif _exchange(fresh, final):
            faults.reach("publish.exchanged")
            shutil.rmtree(fresh, ignore_errors=True)
        else:
            rename(final, _old(final))
            faults.reach("publish.aside")
            rename(fresh, final)
            shutil.rmtree(_old(final), ignore_errors=True)
        sync_folder(final.parent)
    except OSError as error:
        raise disk_error(final.parent, error) from error


def _exchange(one: Path, other: Path) -> bool:
    """Whether the two names could be exchanged in one step."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    done = call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE) == 0
    if not done and ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    return done


def refuse_result(path: Path) -> int:
    """What kind of file a result is written into (st_mode). DiskError for a name that takes none: asked
    before long work, and again when it is done."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except (OSError, ValueError) as error:
        raise DiskError(
            f"cannot write {path}: {getattr(error, 'strerror', '') or error}", "name another file"
        ) from error
    unfit = {stat.S_IFBLK: "disk", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
    if stat.S_IFMT(kind) in unfit and _own_stream(path) is None:
        raise DiskError(f"cannot write {path}: it is a {unfit[stat.S_IFMT(kind)]}", "name a file")
    return kind


def write_result(path: Path, content: str | bytes) -> None:
    """Write what a user asked for with --out: a file, wholly or not at all, or into what is there already.

    A link is followed: the file that it names is replaced, the link stays. A pipe, a terminal, /dev/null,
    /dev/stdout and the like are written into and never replaced. Errors: DiskError, LockedError.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    kind = refuse_result(path)
    own = _own_stream(path)
    if own is not None:
        _write_to(os.dup(own), path, data)
    elif stat.S_ISREG(kind):
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        with alone(target, str(path)):
            write_whole(target, data)
    else:
        _write_into(path, data)


def _own_stream(path: Path) -> int | None:
    """The descriptor of this process that a path leads to (/dev/stdout, /dev/fd/3), whatever lies behind
    it."""
    for _ in range(40):
        folder = path.parent.resolve()
        if folder == Path(f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = folder / path.readlink()
    return None


def _write_into(path: Path, data: bytes) -> None:
    """Write into what is no regular file; a pipe that nobody reads is waited for."""
    end = time.monotonic() + PIPE_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() >= end:
                reason = "nobody reads from it" if error.errno == errno.ENXIO else error.strerror
                raise DiskError(f"cannot write into {path}: {reason}", "name a file") from error
        time.sleep(0.05)
    os.set_blocking(descriptor, True)
    _write_to(descriptor, path, data)


def _write_to(descriptor: int, path: Path, data: bytes) -> None:
    """All of `data` to an open descriptor, which is closed."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        raise  # the reader has seen enough: no error of the disk
    except OSError as error:
        raise DiskError(f"cannot write into {path}: {error.strerror}", "name a file") from error
    finally:
        os.close(descriptor)
