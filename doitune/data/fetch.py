"""Bring the DoIT data to this machine: from a hub, a folder or a git clone, compared with the source's
digests, recorded for every use.

Files are gathered in a folder beside the final name, which stays after a failure, so the next fetch goes on
from there; when all of them are whole the folder takes the name. The revision of the first fetch is pinned in
`checksums.json`: later fetches bring the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1, sha256
from pathlib import Path

from doitune.data.checksums import Checksum, origin_of, read_checksums, write_checksums
from doitune.data.corpus import CACHE_CURE, Corpus, corpora_folder, open_corpus
from doitune.data.hubs import LAYOUT, REPOSITORY, Hub, HuggingFace, ModelScope, RemoteFile
from doitune.data.jsonl import LFS_CURE, LFS_POINTER, LFS_PROBLEM
from doitune.data.suites import BENCHMARKS
from doitune.errors import DataError, DiskError, Problem, UsageError
from doitune.system import faults
from doitune.system.paths import from_home
from doitune.system.publish import alone, publish


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


def fetch(
    name: str = "doit",
    source: str = "huggingface",
    *,
    revision: str = "",
    repository: str = "",
    on_progress: OnProgress | None = None,
) -> Corpus:
    """Bring the corpus `name` into the cache and open it.

    `source`: huggingface, modelscope, or the path of a folder or git clone in the layout. `revision`: a
    commit; "" is the one of the first fetch, or the newest. Errors: UsageError for an unknown name, DataError
    when the source lacks or changes files, LockedError while another process fetches it, DiskError.
    """
    if name != "doit":
        raise UsageError(
            f"`{name}` is not fetched from anywhere",
            f"there are {', '.join(('doit', *BENCHMARKS))}; your own data need no fetch, name their path",
        )
    final = corpora_folder() / name
    hub = _hub(source, repository)
    report = on_progress or (lambda progress: None)
    staging = final.with_name(f".{name}.part")
    try:
        with alone(final, f"the corpus {name}"):
            if hub is None:
                _copy(from_home(source), staging, report)
                origin = {
                    "source": "folder",
                    "repository": str(from_home(source).resolve()),
                    "revision": clone_commit(from_home(source)),
                }
            else:
                origin = _download(hub, staging, final, revision or _pinned(final, hub), report)
            _publish(staging, final, origin)
    except (OSError, DiskError) as error:
        problem = (
            error.problem if isinstance(error, DiskError) else f"cannot write in {final.parent}: {error}"
        )
        raise DiskError(problem, CACHE_CURE) from error
    return open_corpus(name)


def clone_commit(folder: Path) -> str:
    """The commit that a git clone has checked out; "" for a folder that is no clone."""
    git = folder / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).is_file():
            return (git / name).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")


def _hub(source: str, repository: str) -> Hub | None:
    """The hub of that name; None where `source` is a path. Errors: DataError when it is neither."""
    for kind in (HuggingFace, ModelScope):
        if source == kind.name:
            return kind(repository or REPOSITORY)
    if not from_home(source).is_dir():
        raise DataError(
            f"`{source}` is neither huggingface, nor modelscope, nor a folder",
            "name one of them: `--from PATH`",
        )
    return None


def _pinned(final: Path, hub: Hub) -> str:
    """The revision of the first fetch from this hub; "" (the newest) before it. Of the paper's data only the
    short commit 5eda7be is known."""
    origin = origin_of(final)
    return origin["revision"] if origin["source"] == hub.name else ""


def _download(hub: Hub, staging: Path, final: Path, revision: str, report: OnProgress) -> dict[str, str]:
    """Every file of the layout, each as the hub lists it; what to record as their origin. Whole files of
    `final` are not asked for again."""
    listing = hub.listing(revision)
    if not listing.files:
        raise DataError(f"{hub.name} lists no file of the corpus layout", "check the repository's name")
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
    _drop_others(staging, {file.path for file in listing.files})
    return {"source": hub.name, "repository": getattr(hub, "repository", ""), "revision": listing.revision}


def _already(file: RemoteFile, staging: Path, final: Path) -> bool:
    """Whether the file is under `staging` as listed, put there from `final` where that has it. A size
    alone is no proof."""
    if not (file.sha256 or file.git_sha1):
        return False
    target, before = staging / file.path, final / file.path
    if target.is_file() and not _differs(target, file):
        return True
    if not before.is_file() or _differs(before, file):
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
        problem = _differs(staging / file.path, file)
        if not problem:
            return
    (staging / file.path).unlink(missing_ok=True)
    raise DataError(
        f"{file.path} came damaged twice: {problem}",
        "run the same command again, or fetch from elsewhere with `--from`",
    )


def _differs(path: Path, file: RemoteFile) -> str:
    """What is wrong with a file that came; "" when it is as listed."""
    size = path.stat().st_size
    if size != file.bytes:
        return f"{size:,} bytes instead of {file.bytes:,}"
    content = path.read_bytes()
    if file.sha256 and sha256(content).hexdigest() != file.sha256:
        return "its sha256 is not the listed one"
    if (
        file.git_sha1
        and sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest() != file.git_sha1
    ):
        return "its git digest is not the listed one"
    return ""


def _copy(folder: Path, staging: Path, report: OnProgress) -> None:
    """The files of the layout in a folder, copied. Errors: DataError when it has none, or holds Git LFS
    pointers."""
    paths = sorted(
        path
        for path in folder.glob("*/*/*.json")
        if LAYOUT.fullmatch(path.relative_to(folder).as_posix()) and path.is_file()
    )
    if not paths:
        hint = (
            "expected curated/1000/<ability>_1000.json and so on; "
            "other layouts are opened by path, without a fetch"
        )
        raise DataError("no file of the corpus layout", hint, place=str(folder))
    shutil.rmtree(staging, ignore_errors=True)
    total, done = sum(path.stat().st_size for path in paths), 0
    for number, path in enumerate(paths, 1):
        target = staging / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file:
            if file.read(len(LFS_POINTER)) == LFS_POINTER:
                raise DataError(LFS_PROBLEM, LFS_CURE, place=str(path))
        shutil.copyfile(path, target)
        done += path.stat().st_size
        report(Progress(path.relative_to(folder).as_posix(), number, len(paths), done, total))


def _drop_others(staging: Path, wanted: set[str]) -> None:
    """Leave nothing in the staging folder but the wanted files (an earlier try may have been of another
    revision)."""
    for path in sorted(staging.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(staging).as_posix() not in wanted:
            path.unlink()


def _publish(staging: Path, final: Path, origin: dict[str, str]) -> None:
    """Record the digests and give the folder its name. Errors: DataError when the same revision had other
    bytes before."""
    write_checksums(staging, origin)
    before, now = origin_of(final), read_checksums(staging)
    if before == origin and origin["revision"] and _readable(final):
        _refuse_changes(read_checksums(final), now)
    faults.reach("fetch.whole")
    publish(staging, final)


def _readable(root: Path) -> bool:
    """Whether the list of checksums is whole; a damaged one is replaced by a fetch, not compared with."""
    try:
        return bool(read_checksums(root))
    except DataError:
        return False


def _refuse_changes(before: dict[str, Checksum], now: dict[str, Checksum]) -> None:
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if changed:
        hint = "delete the corpus in the cache to accept the new files"
        raise DataError.of(
            Problem(name, "other bytes than at the first fetch, though the revision is the same", hint)
            for name in changed
        )
