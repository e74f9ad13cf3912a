"""Bring the DoIT data to this machine: from a hub, a folder or a git clone, compared with the source's
digests, recorded for every use.

Files are gathered in a folder beside the final name, which stays after a failure, so the next fetch goes on
from there; when all of them are whole the folder takes the name. The revision of the first fetch is pinned in
`checksums.json`: later fetches bring the same bytes.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from doitune.data.bring import OnProgress, Progress, bring_all, pinned
from doitune.data.cache import CACHE_CURE, corpora_folder
from doitune.data.checksums import Checksum, origin_of, read_checksums, write_checksums
from doitune.data.corpus import Corpus, open_corpus
from doitune.data.hub_rows import fetch_rows, hub_rows
from doitune.data.hubs import LAYOUT, REPOSITORY, Hub, HuggingFace, ModelScope
from doitune.data.jsonl import LFS_CURE, LFS_POINTER, LFS_PROBLEM
from doitune.data.suites import BENCHMARKS
from doitune.errors import DataError, DiskError, Problem, UsageError
from doitune.system import faults
from doitune.system.paths import from_home
from doitune.system.publish import alone, publish


def fetch(
    name: str = "doit",
    source: str = "huggingface",
    *,
    revision: str = "",
    repository: str = "",
    on_progress: OnProgress | None = None,
) -> Corpus:
    """Bring the corpus `name` (doit, or `owner/name[:config][@split]`) into the cache and open it.

    `source`: huggingface, modelscope, or the path of a folder or git clone in the layout. `revision`: a
    commit; "" is the one of the first fetch, or the newest. Errors: UsageError for an unknown name, DataError
    when the source lacks or changes files, LockedError while another process fetches it, DiskError.
    """
    rows = None if name == "doit" else hub_rows(name)
    if rows is not None:
        hub = _hub(source, rows.repository)
        if hub is None:
            raise UsageError(
                f"{name} is on a hub", "--from huggingface or modelscope; a folder is named by its path"
            )
        fetch_rows(rows, hub, revision, on_progress or (lambda progress: None))
        return open_corpus(str(rows.folder))
    if name != "doit":
        raise UsageError(
            f"`{name}` is not fetched from anywhere",
            f"there are {', '.join(('doit', *BENCHMARKS))}, and OWNER/NAME; your own files need no fetch",
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
                listing = hub.listing(revision or pinned(final, hub))
                laid = tuple(one for one in listing.files if LAYOUT.fullmatch(one.path))
                if not laid:
                    problem = f"{hub.name} lists no file of the corpus layout"
                    raise DataError(problem, "check the repository's name")
                origin = bring_all(hub, replace(listing, files=laid), staging, final, report)
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
