"""The files behind a corpus: one folder in the data set's layout, files of own rows, or several of these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from doitune.data.checksums import digest_of
from doitune.data.layout import Layout
from doitune.data.other_formats import RowForm
from doitune.data.own_rows import OwnRows, holds_own
from doitune.data.scan import Scan


@dataclass(frozen=True)
class Files:
    """`root` is a folder in the data set's layout, or a file of own rows or a folder of them; `rows` says how
    they are written, where that is not to be recognised. `parts`: what it is made of, where it is made of
    several; `root` is then the first one's."""

    name: str
    root: Path
    rows: RowForm | None = None
    parts: tuple[Files, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether there are own rows among them, not in the layout."""
        if self.parts:
            return any(one.is_own for one in self.parts)
        return self.rows is not None or self.root.is_file() or holds_own(self.root)

    @property
    def units(self) -> tuple[Files, ...]:
        """What it is made of; itself, where it is made of one."""
        return self.parts or (self,)

    @cached_property
    def kept(self) -> Layout | OwnRows:
        """The reader of one that is made of no others."""
        own = self.rows or RowForm()
        return OwnRows(self.name, self.root, own) if self.is_own else Layout(self.name, self.root)

    def having(self, source: str) -> list[Files]:
        """Its units that have a source; own ones are always read, so that an empty file says so."""
        return [one for one in self.units if not self.parts or one.is_own or source in one.kept.sources()]

    def files(self, source: str) -> dict[str, Path]:
        """The file of each ability (of own rows: each file by its name); among several behind the name of
        its unit. Errors: DataError."""
        found = ((one, one.kept.files(source).items()) for one in self.having(source))
        return {self._key(one, name): path for one, files in found for name, path in files}

    def scan(self, source: str) -> dict[str, Scan]:
        """What each file of a source holds, bad rows as findings, by the keys of `files`."""
        found = ((one, one.kept.scan(source).items()) for one in self.having(source))
        return {self._key(one, name): scan for one, scans in found for name, scan in scans}

    def sha256(self, source: str) -> dict[str, str]:
        """The sha256 (hex) of each file of a source, by its path relative to the root. Errors: DataError."""
        found = ((one, one.kept.files(source).values()) for one in self.having(source))
        return {
            self._key(one, path.name) if one.is_own else relative(one, path): digest_of(path)
            for one, paths in found
            for path in paths
        }

    def _key(self, one: Files, name: str) -> str:
        return f"{one.name}/{name}" if self.parts else name


def relative(unit: Files, path: Path) -> str:
    """The path of a file inside of its unit."""
    return path.name if unit.is_own else path.relative_to(unit.root).as_posix()
