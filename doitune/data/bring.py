"""Files of a hub, brought to a folder beside their final one: each as listed, continued where a connection
broke, nothing asked for twice that is there already."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from doitune.data.checksums import origin_of
from doitune.data.hubs import Hub, Listing, RemoteFile
from doitune.errors import DataError
from doitune.system.disk import file_sha256, git_sha1


@dataclass(frozen=True)
class Progress:
    """How far a fetch is: `file` is the one at work, the `number`th of `files`; bytes of all files
    together."""

    file: str
    number: int
    files: int
    bytes: int
    total_bytes: int


OnProgress = Callable[[Progress], None]


def bring_all(hub: Hub, listing: Listing, staging: Path, final: Path, report: OnProgress) -> dict[str, str]:
    """The files of a listing under `staging` and no others, each as the hub lists it; what to record as their
    origin. Whole files of `final` are not asked for again. Errors: DataError, OSError of the disk."""
    total, done = sum(file.bytes for file in listing.files), 0
    for number, file in enumerate(listing.files, 1):
        came = 0

        def on_bytes(count: int, file: RemoteFile = file, number: int = number, before: int = done) -> None:
            nonlocal came
            came += count
            report(Progress(file.path, number, len(listing.files), before + min(came, file.bytes), total))

        if _already(file, staging, final):
            on_bytes(file.bytes)
        else:
            _bring_whole(hub, file, listing.revision, staging, on_bytes)
        done += file.bytes
        report(Progress(file.path, number, len(listing.files), done, total))
    drop_others(staging, {file.path for file in listing.files})
    return {"source": hub.name, "repository": getattr(hub, "repository", ""), "revision": listing.revision}


def _already(file: RemoteFile, staging: Path, final: Path) -> bool:
    """Whether the file is under `staging` as listed, put there from `final` where that has it. A size
    alone is no proof."""
    if not (file.sha256 or file.git_sha1):
        return False
    target, before = staging / file.path, final / file.path
    if target.is_file() and not differs(target, file):
        return True
    if not before.is_file() or differs(before, file):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(before, target)
    return True


def _bring_whole(
    hub: Hub, file: RemoteFile, revision: str, staging: Path, on_bytes: Callable[[int], None]
) -> None:
    """One file with the digest that the hub lists; asked for once more when other bytes came."""
    for again in (False, True):
        hub.bring(file, revision, staging, on_bytes, again)
        problem = differs(staging / file.path, file)
        if not problem:
            return
    (staging / file.path).unlink(missing_ok=True)
    raise DataError(
        f"{file.path} came damaged twice: {problem}",
        "run the same command again, or fetch from elsewhere with `--from`",
    )


def differs(path: Path, file: RemoteFile) -> str:
    """What is wrong with a file; "" when it is as listed."""
    size = path.stat().st_size
    if size != file.bytes:
        return f"{size:,} bytes instead of {file.bytes:,}"
    if file.sha256:
        return "" if file_sha256(path) == file.sha256 else "its sha256 is not the listed one"
    return (
        "" if not file.git_sha1 or git_sha1(path) == file.git_sha1 else "its git digest is not the listed one"
    )


def drop_others(staging: Path, wanted: set[str]) -> None:
    """Leave nothing in the staging folder but the wanted files (an earlier try may have been of another
    revision)."""
    for path in sorted(staging.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(staging).as_posix() not in wanted:
            path.unlink()


def pinned(final: Path, hub: Hub) -> str:
    """The revision of the first fetch from this hub; "" (the newest) before it. Of the paper's data only the
    short commit 5eda7be is known."""
    origin = origin_of(final)
    return origin["revision"] if origin["source"] == hub.name else ""
