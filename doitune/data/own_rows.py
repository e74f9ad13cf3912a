"""Own rows: a corpus that is not in the layout, but one file of rows or a folder of them.

Rows may name their ability and split; `form` says how they are written. Train rows stand for both sources
that recipes train on (those of the ability `synthetic` for the synthetic one), valid and test rows for the
sources of these names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

from doitune.ability import INSTRUCTIONS, known_near
from doitune.data.checksums import CHECKSUMS
from doitune.data.example import Example, Split
from doitune.data.jsonl import Finding, RowError, refuse_unplain
from doitune.data.layout import refuse_outside, source_folders, split_of
from doitune.data.other_formats import RowForm, say_form
from doitune.data.row_files import COLUMNS, TABLES, TEXTS, is_row_file, numbered_rows
from doitune.data.rows import Rows
from doitune.data.scan import Reading, Scan
from doitune.data.sources import FULL, SMALL, SOURCES, SYNTHETIC, TEST, VALID
from doitune.errors import DataError
from doitune.system.scratch import Scratch


@dataclass(frozen=True)
class OwnRows:
    """Rows in `root`, a file or a folder; `name` is their corpus's."""

    name: str
    root: Path
    form: RowForm

    def sources(self) -> tuple[str, ...]:
        """The sources that the rows stand for."""
        return tuple(source for source in SOURCES if source in self._seen.sources)

    def files(self, source: str) -> dict[str, Path]:
        """Each file by its name, whatever the source. Errors: DataError when a folder has none."""
        return {path.name: path for path in self._paths}

    def scan(self, source: str) -> dict[str, Scan]:
        """What each file holds for a source, by the file's name. Errors: as `files`."""
        split = split_of(source)
        found = {name: scans[split] for name, scans in self._seen.scans.items()}
        if split != "train":
            return found
        general = source.startswith("synthetic/")
        return {name: replace(one, examples=_of_kind(one.examples, general)) for name, one in found.items()}

    @cached_property
    def _paths(self) -> list[Path]:
        paths = [self.root] if self.root.is_file() else own_files(self.root)
        if not paths:
            kinds = ", ".join((*TEXTS, *TABLES, *COLUMNS))
            raise DataError(
                "no file of rows in the folder", f"it holds none of {kinds}", place=str(self.root)
            )
        for path in paths:
            refuse_unplain(path)
            refuse_outside(path, self.root)
        return paths

    @property
    def forms(self) -> dict[str, int]:
        """How many rows are in each form; those that show none, and say why when they are read, are left
        out."""
        return dict(self._seen.forms)

    @cached_property
    def _seen(self) -> _Seen:
        """All that the files hold, read once."""
        seen = _Seen(self.form)
        for path in self._paths:
            prefix = self.name if path == self.root else f"{self.name}/{_name(path, self._paths)}"
            reading = Reading(path, None, prefix, as_row=self.form.as_row, see=seen.see, store=seen.store)
            seen.scans[path.name] = reading.scans(numbered_rows)
        return seen


@dataclass(frozen=True)
class _Seen:
    """What files hold: of each the rows of each split; how many rows are in each form, and the sources that
    they stand for."""

    form: RowForm
    scans: dict[str, dict[Split, Scan]] = field(default_factory=dict)
    forms: Counter[str] = field(default_factory=Counter)
    sources: set[str] = field(default_factory=set)
    store: Scratch = field(default_factory=Scratch)

    def see(self, row: Mapping[str, object]) -> None:
        """One more row, as it stands in the file."""
        self.sources.update(_sources_of(row, self.form))
        with suppress(RowError):
            self.forms[say_form(self.form, row)] += 1


def _of_kind(rows: Rows, general: bool) -> Rows:
    """The rows of the ability `synthetic`, or the others."""
    import numpy as np

    kinds = np.array([name == INSTRUCTIONS.name for name in rows.table.names], dtype=bool)
    return rows.at(kinds[rows.column("abilities")] == general)


def ability_slips(
    rows: Mapping[str, Sequence[Example]], declared: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Abilities of own rows that are like a known name, and not declared as others."""
    slips = {name: near for name in rows if name not in declared and (near := known_near(name))}
    return tuple(
        at_row(
            rows[name][0],
            "ability_slip",
            f"the ability `{name}` ({len(rows[name]):,} rows) looks like `{near}`",
            f"write `{near}` in the rows, or declare an ability of your own of this name: "
            f"`abilities: {{{name}: }}` in the recipe, or --set abilities.{name}=null",
        )
        for name, near in slips.items()
    )


def at_row(example: Example, kind: str, problem: str, hint: str) -> Finding:
    """A finding at the row's place."""
    file, _, line = example.place.rpartition(":")
    return Finding(kind, file, int(line), problem, hint)


def _name(path: Path, paths: Sequence[Path]) -> str:
    """What ids call a file: its name, without the suffix where no other file has the same."""
    return path.name if [one.stem for one in paths].count(path.stem) > 1 else path.stem


def own_files(folder: Path) -> list[Path]:
    """The files of rows in a folder, by name; also what bears such a name and is none;
    a list of checksums holds no rows."""
    return sorted(path for path in folder.iterdir() if is_row_file(path) and path.name != CHECKSUMS)


def holds_own(root: Path) -> bool:
    """Whether a folder holds files of own rows and is not in the data set's layout."""
    return root.is_dir() and not source_folders(root) and bool(own_files(root))


def _sources_of(row: Mapping[str, object], form: RowForm) -> tuple[str, ...]:
    """The sources that a row stands for."""
    row = form.named(row)
    split = row.get("split")
    if split in ("valid", "test"):
        return (VALID if split == "valid" else TEST,)
    ability = form.ability or row.get("ability")
    return (SYNTHETIC,) if ability == INSTRUCTIONS.name else (SMALL, FULL)


def distinct_names(roots: Sequence[Path]) -> list[str]:
    """A name for each file or folder: the shortest end of its path, without the suffix where that is enough,
    that no other of them has. Errors: DataError where one is named twice, or lies in another."""
    paths = [root.resolve() for root in roots]
    for one, other in combinations(paths, 2):
        if one == other or one in other.parents or other in one.parents:
            what = "is named twice" if one == other else f"and {other} lie in each other"
            raise DataError(f"the corpus {one} {what}", "name each file once: its rows would count twice")
    stems = [path.stem if path.is_file() else path.name for path in paths]
    return [
        stem if stems.count(stem) == 1 else _distinct_end(path, paths)
        for stem, path in zip(stems, paths, strict=True)
    ]


def _distinct_end(path: Path, paths: Sequence[Path]) -> str:
    ends = (tuple(one.parts[-depth:] for one in paths) for depth in range(1, len(path.parts) + 1))
    return next(
        "/".join(path.parts[-len(end[0]) :]) for end in ends if end.count(path.parts[-len(end[0]) :]) == 1
    )
