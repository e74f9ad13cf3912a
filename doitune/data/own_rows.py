"""Own rows: a corpus that is not in the layout, but one JSONL file or a folder of them.

Rows name their ability (and split), or `form` says how they are written. Train rows stand for both sources
that recipes train on (those of the ability `synthetic` for the synthetic one), valid and test rows for the
sources of these names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from doitune.ability import INSTRUCTIONS
from doitune.data.example import Scan, scan_examples
from doitune.data.jsonl import RowError, numbered_lines, parse_line
from doitune.data.layout import refuse_outside, row_files, split_of
from doitune.data.other_formats import RowForm
from doitune.data.sources import FULL, SMALL, SOURCES, SYNTHETIC, TEST, VALID
from doitune.errors import DataError


@dataclass(frozen=True)
class OwnRows:
    """Rows in `root`, a file or a folder; `name` is their corpus's."""

    name: str
    root: Path
    form: RowForm | None

    def sources(self) -> tuple[str, ...]:
        """The sources that the rows stand for."""
        return tuple(source for source in SOURCES if source in self._found)

    def files(self, source: str) -> dict[str, Path]:
        """Each file by its name, whatever the source. Errors: DataError when a folder has none."""
        return {path.name: path for path in self._paths}

    def scan(self, source: str) -> dict[str, Scan]:
        """What each file holds for a source, by the file's name. Errors: as `files`."""
        return {name: self._scan(path, source) for name, path in self.files(source).items()}

    @cached_property
    def _paths(self) -> list[Path]:
        paths = [self.root] if self.root.is_file() else row_files(self.root)
        if not paths:
            raise DataError(
                "no .json or .jsonl file in the folder", "put the rows there", place=str(self.root)
            )
        for path in paths:
            refuse_outside(path, self.root)
        return paths

    @cached_property
    def _found(self) -> set[str]:
        return {
            source
            for path in self._paths
            for _, line in numbered_lines(path)
            for source in _sources_of(line, self.form)
        }

    def _scan(self, path: Path, source: str) -> Scan:
        split = split_of(source)
        scan = scan_examples(
            path,
            ability=None,
            id_prefix=self.name if path == self.root else f"{self.name}/{path.stem}",
            split=split,
            as_row=self.form.as_row if self.form else None,
        )
        if split != "train":
            return scan
        general = source.startswith("synthetic/")
        kept = tuple(row for row in scan.examples if (row.ability == INSTRUCTIONS.name) == general)
        return replace(scan, examples=kept)


def _sources_of(line: bytes, form: RowForm | None) -> tuple[str, ...]:
    """The sources that a row stands for. A line that can't be read counts as a train row, whose reading then
    refuses it."""
    try:
        row = parse_line(line)
    except RowError:
        row = {}
    split = row.get("split")
    if split in ("valid", "test"):
        return (VALID if split == "valid" else TEST,)
    ability = (form.ability if form else "") or row.get("ability")
    return (SYNTHETIC,) if ability == INSTRUCTIONS.name else (SMALL, FULL)
