"""Writing that a crash cannot tear: beside the name, flushed to the disk, renamed.

A reader sees the old content or the new one, never a part. Errors of the disk are DiskError (exit 74) with the folder named.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from doitune.errors import DiskError


def write_whole(path: Path, content: str | bytes) -> None:
    """Put `content` under `path`, wholly or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise disk_error(path.parent, error) from error


def write_json(path: Path, document: Any) -> None:
    """Put a JSON document under `path`, wholly or not at all; keys keep their order."""
    write_whole(path, json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A staging folder beside `final`; on leaving without an error its files are flushed and it takes the name `final`.

    `final` must not exist. After an error the staging folder is gone and `final` was never there.
    """
    staging = final.with_name(f".staging-{final.name}-{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
        for path in sorted(staging.rglob("*")):
            if path.is_file():
                sync_file(path)
        sync_folder(staging)
        staging.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise disk_error(final.parent, error) from error
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def append_line(path: Path, document: dict[str, Any]) -> None:
    """Add one JSON line in a single write; a line torn by a crash is the last one and is skipped by `read_lines`.

    Where the file ends in a torn line, a line break comes first, so that the new line is whole.
    """
    line = (json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    try:
        with path.open("ab") as stream:
            if stream.tell() and not _ends_whole(path):
                line = b"\n" + line
            stream.write(line)
    except OSError as error:
        raise disk_error(path.parent, error) from error


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole JSON object of a log, in order; a torn or foreign line is left out. A missing file is empty."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            document = json.loads(line) if line.strip() else None
        except ValueError:
            continue
        if isinstance(document, dict):
            found.append(document)
    return found


def sync_file(path: Path) -> None:
    """Flush a written file to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def need_room(folder: Path, wanted_bytes: int) -> None:
    """DiskError unless the disk of `folder` has `wanted_bytes` free."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < wanted_bytes:
        raise DiskError(
            f"{existing} has {free / 2**20:.0f} MiB free, {wanted_bytes / 2**20:.0f} MiB are needed",
            "make room, or put the runs on another disk: --runs DIR",
        )


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; DiskError where that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error


def disk_error(folder: Path, error: OSError) -> DiskError:
    """What the disk said, as a user's problem."""
    return DiskError(f"cannot write in {folder}: {error.strerror or error}", "make room or check the rights, or use --runs DIR")


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    digest = sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
