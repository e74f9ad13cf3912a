"""Where rows come from: the built-in demo, the fetched DoIT data, a folder in its layout, or own rows in
JSONL files.

Files that `checksums.json` beside the data lists are hashed at every use; a changed byte is an error.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from doitune.ability import place_of
from doitune.data.checksums import CHECKSUMS, Checksum, difference, digest_of, read_checksums, write_checksums
from doitune.data.example import Example, Scan, refuse
from doitune.data.holdout import Holdout, Parted, part
from doitune.data.jsonl import Finding
from doitune.data.layout import Layout, repair_hint, split_of
from doitune.data.other_formats import RowForm
from doitune.data.own_rows import OwnRows, holds_own
from doitune.data.sources import SMALL, SYNTHETIC, TEST, VALID
from doitune.errors import DataError, DiskError
from doitune.system.disk import whole_folder
from doitune.system.doing import doing
from doitune.system.lock import Wait
from doitune.system.paths import from_home
from doitune.system.publish import alone

KNOWN = ("demo", "doit")
CACHE_CURE = "make room, or set XDG_CACHE_HOME to a folder elsewhere"
"""What helps where the cache cannot be written."""


@dataclass(frozen=True)
class Corpus:
    """Rows on disk: `root` is a folder in the data set's layout, or a file of own rows or a folder of
    them; `rows` says how they are written, where that is not to be recognised.
    `holdout`: what is kept out of own rows that have no valid and no test rows."""

    name: str
    root: Path
    rows: RowForm | None = None
    holdout: Holdout | None = None

    @property
    def is_own(self) -> bool:
        """Whether this corpus is of own rows, not in the layout."""
        return self.rows is not None or self.root.is_file() or holds_own(self.root)

    @cached_property
    def kept(self) -> Layout | OwnRows:
        """The files behind it."""
        own = self.rows or RowForm()
        return OwnRows(self.name, self.root, own) if self.is_own else Layout(self.name, self.root)

    def sources(self) -> tuple[str, ...]:
        """The folders of the layout that are there (of own rows: that they stand for), known ones first."""
        return (*self.kept.sources(), *self.parted.sources())

    def files(self, source: str) -> dict[str, Path]:
        """The file of each ability (of own rows: each file by its name). Errors: DataError."""
        return self.kept.files(source)

    def scan(self, source: str) -> dict[str, Scan]:
        """What each file of a source holds, bad rows as findings, by the keys of `files`."""
        doing(f"reading the rows of {source}")
        return self.kept.scan(source)

    def read(self, source: str) -> dict[str, list[Example]]:
        """The rows of each ability of a source, in file order. Errors: DataError with every bad row of every
        file; when the source is missing or empty; when a file differs from `checksums.json`."""
        rows = _scanned(self, source) if source == SYNTHETIC or not self.parted else self.parted.rows(source)
        if not rows:
            raise DataError(f"no row for {source}", _no_row_hint(source), place=str(self.root))
        return {name: rows[name] for name in sorted(rows, key=place_of)}

    @cached_property
    def parted(self) -> Parted:
        """Own rows parted into learnt and kept out; empty where nothing is to be kept out."""
        there = self.kept.sources()
        if self.holdout is None or not self.is_own or SMALL not in there or {VALID, TEST} & set(there):
            return Parted()
        return part(_scanned(self, SMALL), self.holdout)

    def sha256(self, source: str) -> dict[str, str]:
        """The sha256 (hex) of each file of a source, by its path relative to the root. Errors: DataError."""
        return {_relative(self, path): digest_of(path) for path in self.files(source).values()}

    def verify(self, source: str) -> None:
        """Compare each file of a source with `checksums.json`, where the corpus has one. Errors: DataError
        naming each file that differs, or that the list does not know."""
        if not self.is_own and (recorded := read_checksums(self.root)):
            doing(f"comparing {source} with the corpus's checksums")
            refuse(_changes(self, source, recorded))


def _scanned(corpus: Corpus, source: str) -> dict[str, list[Example]]:
    """The good rows of a source by ability, as they stand in its files. Errors: as `Corpus.read`."""
    corpus.verify(source)
    scans = corpus.scan(source)
    refuse(tuple(finding for scan in scans.values() for finding in scan.findings))
    rows: dict[str, list[Example]] = {}
    for example in (example for scan in scans.values() for example in scan.examples):
        rows.setdefault(example.ability, []).append(example)
    return rows


def open_corpus(name_or_path: str, rows: RowForm | None = None, holdout: Holdout | None = None) -> Corpus:
    """The corpus of that name (`demo` is made on first use, `doit` must have been fetched) or at that path.

    `rows` says that the path holds own rows, and how they are written; `holdout`: see Corpus. Errors:
    DataError when there is none, or the folder is not in the layout.
    """
    if name_or_path == "demo":
        return Corpus("demo", _demo_folder())
    if name_or_path == "doit":
        root = corpora_folder() / "doit"
        if not root.is_dir():
            raise DataError("the DoIT data are not on this machine", "run `doitune data fetch doit`")
        return _checked(Corpus("doit", root))
    path = from_home(name_or_path)
    if not path.exists():
        known = ", ".join(KNOWN)
        raise DataError(
            f"no corpus `{name_or_path}`: neither a known name ({known}) nor a path",
            "check the spelling of the path",
        )
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return _checked(Corpus(name, path, rows, holdout))


def corpora_folder() -> Path:
    """The folder in the user's cache that holds fetched and made corpora ($XDG_CACHE_HOME, or ~/.cache)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = cache if cache.is_absolute() else Path.home() / ".cache"
    return root / "doitune" / "corpora"


def _checked(corpus: Corpus) -> Corpus:
    if corpus.root.is_file() or (corpus.root.is_dir() and corpus.sources()):
        return corpus
    if not corpus.root.is_dir():
        raise DataError(
            "neither a folder nor a plain file",
            "name a folder in the layout, or a file of rows",
            place=str(corpus.root),
        )
    hint = (
        "expected curated/1000, curated/full, … with <ability>_<folder>.json files, "
        "or files of rows of your own"
    )
    raise DataError("the folder is not in the corpus layout", hint, place=str(corpus.root))


def _demo_folder() -> Path:
    """The demo corpus in the cache, written on first use beside its name and renamed."""
    from doitune.demo.corpus import FINGERPRINT, write_corpus

    folder = corpora_folder() / f"demo-{FINGERPRINT[:16]}"
    if (folder / CHECKSUMS).is_file():
        return folder
    try:
        with alone(folder, "the demo corpus", Wait(seconds=120.0)):
            if not (folder / CHECKSUMS).is_file():  # else another process was quicker
                shutil.rmtree(folder, ignore_errors=True)
                doing("writing the demo corpus")
                with whole_folder(folder) as beside:
                    write_corpus(beside)
                    write_checksums(beside, {"name": "demo", "fingerprint": FINGERPRINT})
    except DiskError as error:
        raise DiskError(error.problem, CACHE_CURE) from error
    return folder


def _relative(corpus: Corpus, path: Path) -> str:
    return path.name if corpus.is_own else path.relative_to(corpus.root).as_posix()


def _changes(corpus: Corpus, source: str, recorded: dict[str, Checksum]) -> tuple[Finding, ...]:
    """The files of a source that are not as recorded."""
    problems = {
        path: difference(path, recorded.get(_relative(corpus, path)))
        for path in corpus.files(source).values()
    }
    listed = (corpus.root / name for name in recorded if name.startswith(f"{source}/"))
    lost = (path for path in listed if not path.is_file())
    problems |= dict.fromkeys(lost, f"recorded in {CHECKSUMS}, but missing")
    hint = repair_hint(corpus.name)
    return tuple(
        Finding("checksum", str(path), 0, problem, hint) for path, problem in problems.items() if problem
    )


def _no_row_hint(source: str) -> str:
    split = split_of(source)
    return "add rows" if split == "train" else f'add rows with "split": "{split}"'
