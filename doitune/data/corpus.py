"""Where rows come from: the built-in demo, the fetched DoIT data, a folder in its layout, own rows in files,
or several of these.

Files that `checksums.json` beside the data lists are hashed at every use; a changed byte is an error.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from doitune.ability import place_of
from doitune.data.cache import CACHE_CURE, corpora_folder
from doitune.data.checksums import CHECKSUMS, Checksum, difference, read_checksums, write_checksums
from doitune.data.example import Example, refuse
from doitune.data.files import Files, relative
from doitune.data.holdout import Holdout, Parted, part
from doitune.data.hub_rows import HubRows, fetch_rows, hub_rows
from doitune.data.hubs import HuggingFace
from doitune.data.jsonl import Finding
from doitune.data.layout import repair_hint, split_of
from doitune.data.other_formats import RowForm
from doitune.data.own_rows import OwnRows, distinct_names
from doitune.data.rows import Rows, together
from doitune.data.scan import Scan
from doitune.data.sources import FULL, SMALL, SOURCES, SYNTHETIC, TEST, VALID
from doitune.errors import DataError, DiskError, UsageError
from doitune.system.disk import whole_folder
from doitune.system.doing import doing
from doitune.system.lock import Wait
from doitune.system.paths import from_home
from doitune.system.publish import alone

KNOWN = ("demo", "doit")


@dataclass(frozen=True)
class Corpus(Files):
    """Rows on disk. `holdout`: what is kept out of own rows that have no valid and no test rows."""

    holdout: Holdout | None = None

    @property
    def forms(self) -> dict[str, int]:
        """How many own rows are in each form."""
        forms: Counter[str] = Counter()
        for one in self.units:
            forms.update(one.kept.forms if isinstance(one.kept, OwnRows) else {})
        return dict(forms)

    def sources(self) -> tuple[str, ...]:
        """The folders of the layout that are there (of own rows: that they stand for), known ones first."""
        there = {source: None for one in self.units for source in one.kept.sources()}
        known = (source for source in SOURCES if source in there)
        return tuple(dict.fromkeys((*known, *there, *self.parted.sources())))

    def read(self, source: str) -> dict[str, Sequence[Example]]:
        """The rows of each ability of a source, in file order. Errors: DataError with every bad row of every
        file; when the source is missing or empty; when a file differs from `checksums.json`."""
        learnt = [one for one in self.having(source) if not (self.parted and one.is_own)]
        rows = _scanned(learnt, source)
        for name, found in self.parted.rows(source).items():
            rows[name] = together((rows.get(name, ()), found))
        if not rows:
            raise DataError(f"no row for {source}", _no_row_hint(source), place=str(self.root))
        return {name: rows[name] for name in sorted(rows, key=place_of)}

    @cached_property
    def parted(self) -> Parted:
        """Own rows parted into learnt and kept out; empty where nothing is to be kept out."""
        own = [one for one in self.units if one.is_own]
        there = {source for one in own for source in one.kept.sources()}
        if self.holdout is None or not there & {SMALL, SYNTHETIC} or {VALID, TEST} & there:
            return Parted()
        rows = {**_scanned(own, SMALL), **_scanned(own, SYNTHETIC)}
        laid = [one for one in self.units if not one.is_own]
        beside: list[Sequence[Example]] = []
        for source in (SMALL, FULL, SYNTHETIC):
            those = [one for one in laid if source in one.kept.sources()]
            beside += _scanned(those, source).values()
        return part(rows, self.holdout, together(beside))

    def verify(self, source: str) -> None:
        """Compare each file of a source with `checksums.json`, where there is one. Errors: DataError naming
        each file that differs, or that the list does not know."""
        for one in self.having(source):
            _verify(one, source)


def _scanned(units: Sequence[Files], source: str) -> dict[str, Sequence[Example]]:
    """The good rows of a source by ability, as they stand in the files of units. Errors: as `Corpus.read`."""
    found: list[Scan] = []
    for one in units:
        _verify(one, source)
        doing(f"reading the rows of {source}")
        found += one.scan(source).values()
    refuse(tuple(finding for scan in found for finding in scan.findings))
    every = together(scan.examples for scan in found)
    return dict(every.by_ability()) if isinstance(every, Rows) else {}


def _verify(one: Files, source: str) -> None:
    if recorded := read_checksums(one.root):
        doing(f"comparing {source if not one.is_own else one.name} with the corpus's checksums")
        refuse(_changes(one, source, recorded))


def open_corpus(name_or_path: str, rows: RowForm | None = None, holdout: Holdout | None = None) -> Corpus:
    """The corpus of that name (`demo` is made on first use, `doit` must have been fetched), at that path, or
    on the hub.

    `rows` says that the path holds own rows, and how they are written; `holdout`: see Corpus. Errors:
    DataError when there is none, or the folder is not in the layout.
    """
    if name_or_path == "demo":
        return Corpus("demo", _demo_folder())
    if name_or_path == "-":
        raise UsageError("`-` is stdin, which only the command line reads", "as in: --corpus -")
    if name_or_path == "doit":
        root = corpora_folder() / "doit"
        if not root.is_dir():
            raise DataError("the DoIT data are not on this machine", "run `doitune data fetch doit`")
        return _checked(Corpus("doit", root))
    path = from_home(name_or_path)
    if not path.exists() and not path.parent.is_dir() and (wanted := hub_rows(name_or_path)):
        path = _from_hub(wanted)
    if not path.exists():
        if path.is_symlink():
            raise DataError("a link that leads nowhere", "name the file itself", place=str(path))
        known = ", ".join(KNOWN)
        raise DataError(
            f"no corpus `{name_or_path}`: neither a known name ({known}) nor a path",
            "check the spelling of the path; a data set on the hub is OWNER/NAME[:CONFIG][@SPLIT]",
        )
    name = path.resolve().stem if path.is_file() else path.resolve().name
    return _checked(Corpus(name, path, rows, holdout=holdout))


def _from_hub(wanted: HubRows) -> Path:
    """The rows of a data set in the cache, brought there from the Hugging Face hub where they are not yet."""
    if not wanted.folder.is_dir():
        doing(f"looking for {wanted.asked} on the hub")
        hub = HuggingFace(wanted.repository)
        try:
            fetch_rows(wanted, hub, "", lambda now: doing(f"fetching {now.file}", now.bytes, now.total_bytes))
        except DataError as error:
            problem = f"there is no path {wanted.asked} here, and as a data set: {error.problem}"
            cure = (
                f"check the spelling; or fetch it where the hub is reached: doitune data fetch {wanted.asked}"
            )
            raise DataError(problem, cure) from error
    return wanted.folder


def open_several(wanted: Sequence[tuple[str, RowForm | None]], holdout: Holdout | None = None) -> Corpus:
    """The corpora of these names or paths, each with how its rows are written, as one. Errors: as
    `open_corpus`; DataError where one is named twice, or two are in the data set's layout."""
    if len(wanted) == 1:
        return open_corpus(*wanted[0], holdout)
    parts = [open_corpus(*one) for one in wanted]
    names = distinct_names([part.root for part in parts])
    laid = [part.name for part in parts if not part.is_own]
    if len(laid) > 1:
        problem = f"{' and '.join(laid)} are both in the data set's layout: their rows have the same names"
        raise DataError(problem, "name one of them beside files of your own")
    named = [
        replace(part, name=name) if part.is_own else part for part, name in zip(parts, names, strict=True)
    ]
    return Corpus(" + ".join(part.name for part in named), parts[0].root, parts=tuple(named), holdout=holdout)


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


def _changes(corpus: Files, source: str, recorded: dict[str, Checksum]) -> tuple[Finding, ...]:
    """The files of a source that are not as recorded."""
    problems = {
        path: difference(path, recorded.get(relative(corpus, path))) for path in corpus.files(source).values()
    }
    own = corpus.is_own
    listed = (corpus.root / name for name in recorded if own or name.startswith(f"{source}/"))
    lost = (path for path in listed if not path.is_file())
    problems |= dict.fromkeys(lost, f"recorded in {CHECKSUMS}, but missing")
    hint = repair_hint(corpus.name)
    return tuple(
        Finding("checksum", str(path), 0, problem, hint) for path, problem in problems.items() if problem
    )


def _no_row_hint(source: str) -> str:
    split = split_of(source)
    return "add rows" if split == "train" else f'add rows with "split": "{split}"'
