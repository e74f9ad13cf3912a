"""Writing that a crash cannot tear: beside the name, flushed to the disk, renamed.

A reader sees the old content or the new one, never a part. Errors of the disk are DiskError (exit 74) with
the folder named. Every change goes through the few primitives at the end, which a test can listen to
(`traced`) and a fault point can break.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

from doitune.errors import DiskError
from doitune.system import faults
from doitune.system.json_records import object_of
from doitune.system.units import MIB

FULL_BYTES = 1 << 16
"""A disk with less room than this counts as full, whatever was to be written."""

PRIVATE = 0o700
"""Rights of a folder with rows, replies or logs: one closed door, so that the files inside can keep the
user's own umask."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Put `content` under `path`, wholly or not at all."""
    if not path.name or path.name == ".." or path.is_dir():
        raise DiskError(f"cannot write {path}: it is a folder", "name a file")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        faults.reach("write.begin")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _write(descriptor, content.encode("utf-8") if isinstance(content, str) else content, "write.torn")
            trace("write", beside)
            os.fsync(descriptor)
            trace("sync", beside)
        finally:
            os.close(descriptor)
        faults.reach("write.before_rename")
        rename(beside, path)
        faults.reach("write.after_rename")
        sync_folder(path.parent)
    except OSError as error:
        problem = disk_error(path.parent, error)
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise problem from error


def write_json(path: Path, document: Any) -> None:
    """Put a JSON document under `path`, wholly or not at all; keys keep their order."""
    write_whole(path, json_bytes(document))


def json_bytes(document: Any) -> bytes:
    """A JSON document as it stands in a file."""
    return _json_bytes(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))


def _json_bytes(text: str) -> bytes:
    """A JSON text as UTF-8; half of a surrogate pair, which is in a file name that is not UTF-8, as JSON's
    own escape."""
    return (text + "\n").encode("utf-8", "backslashreplace")


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A staging folder beside `final`; on leaving without an error its files are flushed and it takes the
    name `final`.

    `final` must not exist. After an error the staging folder is gone and `final` was never there.
    """
    staging = staging_of(final)
    try:
        make_staging(staging)
        yield staging
        for path in sorted(staging.rglob("*")):
            if path.is_file():
                sync_file(path)
        sync_folder(staging)
        rename(staging, final)
        sync_folder(final.parent)
    except OSError as error:
        problem = disk_error(final.parent, error)
        shutil.rmtree(staging, ignore_errors=True)
        raise problem from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def staging_of(final: Path) -> Path:
    """Where `final` is filled before it takes its name; the process's own."""
    return final.with_name(f".staging-{final.name}-{os.getpid()}")


def make_staging(staging: Path) -> None:
    """An empty staging folder; what a dead process of the same number left in it is gone."""
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    trace("mkdir", staging)


def append_line(path: Path, document: dict[str, Any]) -> None:
    """Add one JSON line in a single write; a line torn by a crash is the last one and is skipped by
    `read_lines`.

    Where the file ends in a torn line, a line break comes first, so that the new line is whole. A line that
    finds no room leaves nothing.
    """
    line = _json_bytes(json.dumps(document, ensure_ascii=False, allow_nan=False))
    try:
        faults.reach("append.begin")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            try:
                _write(descriptor, b"\n" + line if torn else line, "append.torn")
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        trace("write", path)
        faults.reach("append.end")
    except OSError as error:
        raise disk_error(path.parent, error) from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole JSON object of a log, in order; a torn or foreign line is left out. A missing file is
    empty."""
    if not path.is_file():
        return []
    lines = (object_of(line) for line in path.read_bytes().split(b"\n") if line.strip())
    return [line for line in lines if line is not None]


def need_room(
    folder: Path, wanted_bytes: int, hint: str = "make room, or put the runs on another disk: --runs DIR"
) -> None:
    """DiskError with `hint` unless the disk of `folder` has `wanted_bytes` free."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted_bytes:
        error = DiskError(
            f"{existing} has {free / MIB:.1f} MiB free, {wanted_bytes / MIB:.1f} MiB are needed",
            hint,
        )
        error.full = True
        raise error


def is_full(folder: Path) -> bool:
    """Whether the disk of `folder` says that nothing more fits: neither bytes nor, where it counts them,
    files."""
    try:
        files = os.statvfs(folder)
        return shutil.disk_usage(folder).free < FULL_BYTES or (files.f_files > 0 and files.f_favail == 0)
    except OSError:
        return False


def prove_folder(folder: Path) -> None:
    """Create, flush, rename, lock and delete a file in `folder`; DiskError names the filesystem that cannot.
    All that a run relies on.

    A name that is no UTF-8 is refused: safetensors writes a file there that it cannot open again.
    """
    if os.fsencode(folder.resolve()).decode("utf-8", "ignore") != str(folder.resolve()):
        raise DiskError(f"the name of {folder} is not UTF-8", "put the runs into another folder: --runs DIR")
    here, there = folder / f".proof-{os.getpid()}", folder / f".proof-{os.getpid()}-renamed"
    try:
        descriptor = os.open(here, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"proof")
            os.fsync(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here.rename(there)
            sync_folder(folder)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise disk_error(folder, error) from error
    finally:
        for path in (here, there):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each flushed into the one above; DiskError where that is not allowed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in reversed(missing):
            trace("mkdir", path)
            sync_folder(path.parent)
    except OSError as error:
        raise disk_error(folder, error) from error


def disk_error(folder: Path, error: OSError) -> DiskError:
    """An error of the disk as a user's problem; `full` is read from the disk now, not from the message."""
    kind = filesystem_of(folder)
    problem = DiskError(
        f"cannot write in {folder}{f' ({kind})' if kind else ''}: {error.strerror or error}",
        "make room or check the rights, or use --runs DIR",
    )
    problem.full = is_full(folder)
    return problem


def filesystem_of(folder: Path) -> str:
    """The kind of filesystem of `folder` (ext4, tmpfs, nfs4, ...), empty where the system doesn't
    say."""
    try:
        mounts = [
            line.split(" ")[1:3]
            for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        ]
        place = folder.resolve()
    except (OSError, ValueError):
        return ""
    fitting = [(where, kind) for where, kind in mounts if place.is_relative_to(where.replace("\\040", " "))]
    return max(fitting, key=lambda pair: len(pair[0]))[1] if fitting else ""


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    digest = sha256()
    with path.open("rb", buffering=0) as stream:
        while piece := stream.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def git_sha1(path: Path) -> str:
    """The digest by which git, and so the hub, names a small file."""
    data = path.read_bytes()
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


# The primitives. Each reports what it did: write, sync, sync_folder, rename (with the new name), mkdir,
# remove.

Trace = Callable[[str, Path, "Path | None"], None]
_listener: Trace | None = None


@contextmanager
def traced(listener: Trace) -> Iterator[None]:
    """Inside, every change of this module is reported to `listener(operation, path, new name)` as soon as it
    is done."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


def trace(operation: str, path: Path, target: Path | None = None) -> None:
    """Report that `operation` was done to `path`; for files that a library wrote as well."""
    if _listener is not None:
        _listener(operation, path, target)


def rename(path: Path, target: Path) -> None:
    """A file or folder takes another name on the same disk."""
    path.rename(target)
    trace("rename", path, target)


def remove_folder(folder: Path) -> None:
    """Delete a folder with all that is in it; what cannot be deleted stays."""
    shutil.rmtree(folder, ignore_errors=True)
    trace("remove", folder)


def sync_file(path: Path) -> None:
    """Flush a written file to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    trace("sync", path)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    trace("sync_folder", folder)


def _write(descriptor: int, data: bytes, torn: str) -> None:
    """All of `data`; in one piece, unless somebody looks at the fault point `torn`."""
    pieces = [data[: len(data) // 2], data[len(data) // 2 :]] if faults.armed() else [data]
    for number, piece in enumerate(pieces):
        if number:
            faults.reach(torn)
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
