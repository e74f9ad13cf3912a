"""The data set's layout on disk, and a corpus in it.

`curated/{1000,full,valid,test}/<ability>_<folder>.json` and `synthetic/40960/<any name>.json`, JSON lines. A
source is one of those folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from doitune.ability import INSTRUCTIONS, is_ability_name, place_of
from doitune.data.example import Split
from doitune.data.scan import Scan, scan_examples
from doitune.data.sources import SOURCES, TEST, VALID
from doitune.errors import DataError

_SUFFIXES = (".json", ".jsonl")


@dataclass(frozen=True)
class Layout:
    """A folder in the layout; `name` is its corpus's."""

    name: str
    root: Path

    def sources(self) -> tuple[str, ...]:
        """The folders of the layout that are there, known ones first."""
        found = {f"{folder.parent.name}/{folder.name}" for folder in source_folders(self.root)}
        return (*(source for source in SOURCES if source in found), *sorted(found - set(SOURCES)))

    def files(self, source: str) -> dict[str, Path]:
        """The file of each ability, in the order of the ten abilities, then the others by name. Errors:
        DataError when the source or its files are missing, or two files are of one ability."""
        folder = self._folder(source)
        files: dict[str, Path] = {}
        for path in row_files(folder):
            refuse_outside(path, self.root)
            ability = _ability_of(path, source)
            if ability in files:
                problem = f"two files of {ability}: {files[ability].name} and {path.name}"
                raise DataError(problem, "keep one of them", place=str(folder))
            files[ability] = path
        if not files:
            raise DataError("no .json file in the folder", repair_hint(self.name), place=str(folder))
        return {ability: files[ability] for ability in sorted(files, key=place_of)}

    def scan(self, source: str) -> dict[str, Scan]:
        """What each file of a source holds, by ability. Errors: as `files`."""
        split = split_of(source)
        return {
            ability: scan_examples(path, ability=ability, id_prefix=source, split=split)
            for ability, path in self.files(source).items()
        }

    def _folder(self, source: str) -> Path:
        folder = self.root / source
        if folder.is_dir():
            return folder
        there = ", ".join(self.sources()) or "none of the layout's folders"
        problem = f"corpus `{self.name}` has no {source} (it has {there})"
        raise DataError(problem, repair_hint(self.name), place=str(self.root))


def source_folders(root: Path) -> list[Path]:
    """The folders of the layout under `root`, also ones of unknown names."""
    return [
        folder
        for kind in ("curated", "synthetic")
        for folder in sorted(root.glob(f"{kind}/*"))
        if folder.is_dir()
    ]


def row_files(folder: Path) -> list[Path]:
    """The files of rows in a folder, by name; hidden ones are none."""
    return sorted(
        path for path in folder.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith(".")
    )


def refuse_outside(path: Path, root: Path) -> None:
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


def split_of(source: str) -> Split:
    """What the rows of a source are for."""
    return "valid" if source == VALID else "test" if source == TEST else "train"


def repair_hint(name: str) -> str:
    """What to do where a corpus of this name lacks a file or has a changed one."""
    if name == "doit":
        return "run `doitune data fetch doit` again"
    return (
        "delete the folder; it is made again"
        if name == "demo"
        else "restore the file, or fetch the corpus again"
    )


def _ability_of(path: Path, source: str) -> str:
    """The ability that a file's name says: `math_full.json` in `curated/full` is math's; the one file in
    `synthetic/` is synthetic's. Errors: DataError for a name that no ability may have."""
    if source.startswith("synthetic/"):
        return INSTRUCTIONS.name
    stem = path.stem.removesuffix("_" + source.rpartition("/")[2])
    if not is_ability_name(stem):
        raise DataError(
            f"`{stem}` is not a name for an ability",
            "name the file in letters, digits, _ and -",
            place=str(path),
        )
    return stem
