"""Where rows come from: the built-in demo, the fetched DoIT data, a folder in its layout, or own rows in
JSONL files.

The layout: `curated/{1000,full,valid,test}/<ability>_<folder>.json` and `synthetic/40960/<any name>.json`,
JSON lines. A source is one of those folders. Files that `checksums.json` beside the data lists are hashed at
every use; a changed byte is an error.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from doitune.ability import ABILITIES, GENERAL, OUT_OF_DOMAIN
from doitune.data.example import Example, Scan, Split, is_ability_name, refuse, scan_examples
from doitune.data.jsonl import Finding, RowError, numbered_lines, parse_line
from doitune.data.other_formats import RowForm
from doitune.errors import DataError, DiskError
from doitune.system.disk import Wait, file_sha256, whole_folder, write_json
from doitune.system.publish import alone

SOURCES = ("curated/1000", "curated/full", "curated/valid", "curated/test", "synthetic/40960")
CHECKSUMS = "checksums.json"
CHECKSUMS_SCHEMA = "doitune.checksums/1"
KNOWN = ("demo", "doit")

CACHE_CURE = "make room, or set XDG_CACHE_HOME to a folder elsewhere"
"""What helps where the cache cannot be written."""

_ORDER = {ability.name: place for place, ability in enumerate((*ABILITIES, *OUT_OF_DOMAIN, GENERAL))}


@dataclass(frozen=True)
class Corpus:
    """Rows on disk: `root` is a folder in the layout above, or holds own rows.

    Own rows are one JSONL file whose rows name their ability (and split), or, with `rows` to say how they are
    written, such a file or a folder of them. Their train rows stand for both `curated/1000` and
    `curated/full` (those of the ability `synthetic` for `synthetic/40960`), their valid and test rows for
    `curated/valid` and `curated/test`.
    """

    name: str
    root: Path
    rows: RowForm | None = None

    @property
    def is_own(self) -> bool:
        """Whether this corpus is of own rows, not in the layout."""
        return self.rows is not None or self.root.is_file()

    def sources(self) -> tuple[str, ...]:
        """The folders of the layout that are there (of own rows: that they stand for), known ones first."""
        if self.is_own:
            return self._sources_of_rows
        found = {
            f"{folder.parent.name}/{folder.name}"
            for kind in ("curated", "synthetic")
            for folder in self.root.glob(f"{kind}/*/")
        }
        return tuple(
            sorted(
                found,
                key=lambda source: (
                    source not in SOURCES,
                    SOURCES.index(source) if source in SOURCES else 0,
                    source,
                ),
            )
        )

    def files(self, source: str) -> dict[str, Path]:
        """The file of each ability, in the order of the ten abilities, then the others by name (of own rows:
        each file by its name).

        Errors: DataError when the source or its files are missing, or two files are of one ability.
        """
        if self.is_own:
            return {path.name: path for path in self._own_files}
        folder = self._folder(source)
        files: dict[str, Path] = {}
        for path in _row_files(folder):
            _refuse_outside(path, self.root)
            ability = _ability_of(path, source)
            if ability in files:
                problem = f"two files of {ability}: {files[ability].name} and {path.name}"
                raise DataError(problem, "keep one of them", place=str(folder))
            files[ability] = path
        if not files:
            raise DataError("no .json file in the folder", _fetch_hint(self.name), place=str(folder))
        return dict(sorted(files.items(), key=lambda item: (_ORDER.get(item[0], len(_ORDER)), item[0])))

    def scan(self, source: str) -> dict[str, Scan]:
        """What each file of a source holds, bad rows as findings, by the keys of `files`. Errors: as
        `files`."""
        files, split = self.files(source), _split_of(source)
        if self.is_own:
            return {name: self._scan_own(path, source) for name, path in files.items()}
        return {
            ability: scan_examples(path, ability=ability, id_prefix=source, split=split)
            for ability, path in files.items()
        }

    def read(self, source: str) -> dict[str, list[Example]]:
        """The rows of each ability of a source, in file order.

        Errors: DataError with every bad row of every file; when the source is missing or empty; when a file
        differs from `checksums.json`.
        """
        self.verify(source)
        scans = self.scan(source)
        refuse(tuple(finding for scan in scans.values() for finding in scan.findings))
        rows: dict[str, list[Example]] = {}
        for example in (example for scan in scans.values() for example in scan.examples):
            rows.setdefault(example.ability, []).append(example)
        if not rows:
            raise DataError(f"no row for {source}", _no_row_hint(source), place=str(self.root))
        return dict(sorted(rows.items(), key=lambda item: (_ORDER.get(item[0], len(_ORDER)), item[0])))

    def sha256(self, source: str) -> dict[str, str]:
        """The sha256 (hex) of each file of a source, by its path relative to the root. Errors: as `files`."""
        return {self._relative(path): _digest(path) for path in self.files(source).values()}

    def verify(self, source: str) -> None:
        """Compare each file of a source with `checksums.json`, where the corpus has one (a user's own folder
        need not).

        Errors: DataError naming each file that differs, or that the list does not know.
        """
        recorded = {} if self.is_own else read_checksums(self.root)
        if not recorded:
            return
        problems = {
            path: _differs(path, recorded.get(self._relative(path))) for path in self.files(source).values()
        }
        lost = (
            self.root / name
            for name in recorded
            if name.startswith(f"{source}/") and not (self.root / name).is_file()
        )
        problems |= dict.fromkeys(lost, "recorded in checksums.json, but missing")
        hint = _fetch_hint(self.name)
        refuse(
            tuple(
                Finding("checksum", str(path), 0, problem, hint)
                for path, problem in problems.items()
                if problem
            )
        )

    @cached_property
    def _own_files(self) -> list[Path]:
        """The files of own rows. Errors: DataError when a folder has none."""
        files = [self.root] if self.root.is_file() else _row_files(self.root)
        if not files:
            raise DataError(
                "no .json or .jsonl file in the folder", "put the rows there", place=str(self.root)
            )
        for path in files:
            _refuse_outside(path, self.root)
        return files

    def _scan_own(self, path: Path, source: str) -> Scan:
        prefix = self.name if path == self.root else f"{self.name}/{path.stem}"
        split, as_row = _split_of(source), self.rows.as_row if self.rows else None
        scan = scan_examples(path, ability=None, id_prefix=prefix, split=split, as_row=as_row)
        general = source.startswith("synthetic/")
        return Scan(
            tuple(
                row for row in scan.examples if split != "train" or (row.ability == GENERAL.name) == general
            ),
            scan.findings,
        )

    @cached_property
    def _sources_of_rows(self) -> tuple[str, ...]:
        """The sources that own rows stand for. A line that can't be read counts as a train row, whose
        reading then refuses it."""
        found: set[str] = set()
        for path in self._own_files:
            for _, line in numbered_lines(path):
                try:
                    row = parse_line(line)
                except RowError:
                    row = {}
                ability = (self.rows.ability if self.rows else "") or row.get("ability")
                if (split := row.get("split", "train")) in ("valid", "test"):
                    found.add(f"curated/{split}")
                else:
                    found |= (
                        {"synthetic/40960"} if ability == GENERAL.name else {"curated/1000", "curated/full"}
                    )
        return tuple(source for source in SOURCES if source in found)

    def _folder(self, source: str) -> Path:
        folder = self.root / source
        if folder.is_dir():
            return folder
        there = ", ".join(self.sources()) or "none of the layout's folders"
        raise DataError(
            f"corpus `{self.name}` has no {source} (it has {there})",
            _fetch_hint(self.name),
            place=str(self.root),
        )

    def _relative(self, path: Path) -> str:
        return path.name if self.is_own else path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Checksum:
    """What a file must be."""

    sha256: str
    bytes: int


def open_corpus(name_or_path: str, rows: RowForm | None = None) -> Corpus:
    """The corpus of that name (`demo` is made on first use, `doit` must have been fetched) or at that path.

    `rows` says that the path holds own rows, and how they are written. Errors: DataError when there is none,
    or the folder is not in the layout.
    """
    if name_or_path == "demo":
        return Corpus("demo", _demo_folder())
    if name_or_path == "doit":
        root = corpora_folder() / "doit"
        if not root.is_dir():
            raise DataError("the DoIT data are not on this machine", "run `doitune data fetch doit`")
        return _checked(Corpus("doit", root))
    path = Path(name_or_path).expanduser()
    if not path.exists():
        known = ", ".join(KNOWN)
        raise DataError(
            f"no corpus `{name_or_path}`: neither a known name ({known}) nor a path",
            "check the spelling of the path",
        )
    return _checked(Corpus(path.resolve().stem if path.is_file() else path.resolve().name, path, rows))


def corpora_folder() -> Path:
    """The folder in the user's cache that holds fetched and made corpora ($XDG_CACHE_HOME, or ~/.cache)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = cache if cache.is_absolute() else Path.home() / ".cache"
    return root / "doitune" / "corpora"


def read_checksums(root: Path) -> dict[str, Checksum]:
    """What `checksums.json` in `root` records, by relative path; empty without that file. Errors:
    DataError when it is damaged."""
    path = root / CHECKSUMS
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Checksum(str(entry["sha256"]), int(entry["bytes"]))
            for name, entry in document["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"damaged list of checksums ({error})", "fetch the corpus again", place=str(path)
        ) from error


def write_checksums(root: Path, origin: Mapping[str, str]) -> None:
    """Record size and sha256 of every file of the layout under `root`, with where they came from. Errors:
    DiskError."""
    files = sorted(
        path
        for kind in ("curated", "synthetic")
        for path in root.glob(f"{kind}/*/*")
        if path.suffix in (".json", ".jsonl")
    )
    entries = {
        path.relative_to(root).as_posix(): {"sha256": _digest(path), "bytes": path.stat().st_size}
        for path in files
    }
    write_json(root / CHECKSUMS, {"schema": CHECKSUMS_SCHEMA, **origin, "files": entries})


def _checked(corpus: Corpus) -> Corpus:
    if corpus.root.is_file() or (corpus.root.is_dir() and corpus.sources()):
        return corpus
    if not corpus.root.is_dir():
        raise DataError(
            "neither a folder nor a plain file",
            "name a folder in the layout, or a JSONL file",
            place=str(corpus.root),
        )
    hint = "expected curated/1000, curated/full, … with <ability>_<folder>.json files, or one JSONL file with an `ability` field"
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
                with whole_folder(folder) as beside:
                    write_corpus(beside)
                    write_checksums(beside, {"name": "demo", "fingerprint": FINGERPRINT})
    except DiskError as error:
        raise DiskError(error.problem, CACHE_CURE) from error
    return folder


def _row_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in (".json", ".jsonl") and not path.name.startswith(".")
    )


def _refuse_outside(path: Path, root: Path) -> None:
    """DataError for a link that leads out of the corpus; the hub library's cache, whose files all link to
    `blobs` beside them, may.

    A corpus that is one file is what its owner named, wherever that leads.
    """
    if path == root:
        return
    real, inside = path.resolve(), root.resolve()
    if not real.is_relative_to(inside) and not real.is_relative_to(inside.parent.parent / "blobs"):
        raise DataError(
            f"a link that leads out of the corpus, to {real}",
            "copy the file into the corpus",
            place=str(path),
        )


def _ability_of(path: Path, source: str) -> str:
    """The ability that a file's name says: `math_full.json` in `curated/full` is math's; the one file in
    `synthetic/` is synthetic's.

    Errors: DataError for a name that no ability may have.
    """
    if source.startswith("synthetic/"):
        return GENERAL.name
    stem = path.stem.removesuffix("_" + source.rpartition("/")[2])
    if not is_ability_name(stem):
        raise DataError(
            f"`{stem}` is not a name for an ability",
            "name the file in letters, digits, _ and -",
            place=str(path),
        )
    return stem


def _split_of(source: str) -> Split:
    last = source.rpartition("/")[2]
    return "valid" if last == "valid" else "test" if last == "test" else "train"


def _differs(path: Path, recorded: Checksum | None) -> str:
    if recorded is None:
        return "not in checksums.json"
    size = path.stat().st_size
    if size != recorded.bytes:
        return f"{size:,} bytes, {recorded.bytes:,} were recorded"
    digest = _digest(path)
    return (
        ""
        if digest == recorded.sha256
        else f"its sha256 {digest[:12]}… is not the recorded {recorded.sha256[:12]}…"
    )


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", "check the file's rights and the disk", place=str(path)
        ) from error


def _fetch_hint(name: str) -> str:
    if name == "doit":
        return "run `doitune data fetch doit` again"
    return (
        "delete the folder; it is made again"
        if name == "demo"
        else "restore the file, or fetch the corpus again"
    )


def _no_row_hint(source: str) -> str:
    split = _split_of(source)
    return "add rows" if split == "train" else f'add rows with "split": "{split}" and `question_format`'
