"""The record of a base: where it came from and what its files were, and whether they still are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from doitune.base.folder import RECORD, Base, find_whole
from doitune.base.headers import read_header
from doitune.errors import ModelError
from doitune.system.disk import file_sha256, git_sha1, write_json
from doitune.system.doing import counted

SCHEMA = "doitune.base/1"
COMPARING = "comparing files with what is recorded of them"


@dataclass(frozen=True)
class Difference:
    """A file that is not as recorded, or not whole in itself."""

    file: str
    problem: str


@dataclass(frozen=True)
class BaseReport:
    """What a check found. `compared_with`: "record", "hub" (the digests that name the hub library's files)
    or "" where nothing is known."""

    folder: Path
    compared_with: str
    files: int
    bytes: int
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `doitune base check`."""
        return {
            "schema": "doitune.base-check/1",
            **asdict(self),
            "folder": str(self.folder),
            "whole": not self.differences,
        }


def model_files(folder: Path) -> list[Path]:
    """The files of a folder that make its model, by name."""
    return Base(str(folder), folder, "").files()


def digests(files: list[Path]) -> dict[str, dict[str, Any]]:
    """Bytes and sha256 of each file by its name."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in counted("hashing the base's files", files)
    }


def write_record(folder: Path, fields: Mapping[str, Any]) -> None:
    """Put the record of what is in `folder` now beside it; `fields` say where it came from."""
    write_json(folder / RECORD, {"schema": SCHEMA, **fields, "files": digests(model_files(folder))})


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a base, or None. ModelError where it cannot be read."""
    path = folder / RECORD
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(
            f"is not a readable record: {error}", "make or fetch the base again", place=str(path)
        ) from None
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, dict) or not all(
        isinstance(one, dict) and {"bytes", "sha256"} <= one.keys() for one in files.values()
    ):
        raise ModelError("is not a record of a base", "make or fetch the base again", place=str(path))
    return dict(document)


def check_folder(folder: Path) -> BaseReport:
    """Compare a base with its record, or with the digests of the hub library's cache, and every weights
    file with its own header."""
    record, files = read_record(folder), model_files(folder)
    found = [*_structure(folder, files)]
    if record is not None:
        found += _against_record(record["files"], files)
    else:
        found += [
            Difference(path.name, problem)
            for path in counted(COMPARING, files)
            if (problem := blob_problem(path))
        ]
    known = "record" if record is not None else "hub" if any(_blob(path) for path in files) else ""
    return BaseReport(folder, known, len(files), sum(path.stat().st_size for path in files), tuple(found))


def _structure(folder: Path, files: list[Path]) -> Iterator[Difference]:
    """What is wrong whatever the record says."""
    names: dict[str, set[str]] = {}
    for path in files:
        if path.suffix == ".safetensors":
            try:
                names[path.name] = set(read_header(path))
            except ModelError as error:
                yield Difference(path.name, error.problems[0].problem)
    try:
        find_whole(folder)
    except ModelError as error:
        yield Difference("", error.problem)
        return
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        for name, shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items():
            if shard in names and name not in names[shard]:
                yield Difference(shard, f"lacks {name}, which the index says is there")


def _against_record(recorded: Mapping[str, Any], files: list[Path]) -> Iterator[Difference]:
    """Files that are missing, changed, or not in the record."""
    here = {path.name: path for path in files}
    for name, known in counted(COMPARING, [*recorded.items()]):
        if name not in here:
            yield Difference(name, "is missing")
        elif here[name].stat().st_size != known["bytes"]:
            yield Difference(
                name, f"has {here[name].stat().st_size:,} bytes, recorded are {known['bytes']:,}"
            )
        elif file_sha256(here[name]) != known["sha256"]:
            yield Difference(name, "other bytes than recorded (sha256)")
    for name in here:
        if name not in recorded:
            yield Difference(name, "is not in the record")


def _blob(path: Path) -> str:
    """The digest by which the hub library's cache names the bytes behind a file; "" for a file that lies
    elsewhere."""
    target = path.resolve()
    return (
        target.name
        if path.is_symlink() and target.parent.name == "blobs" and len(target.name) in (40, 64)
        else ""
    )


def blob_problem(path: Path) -> str:
    """What is wrong with a file of the hub library's cache by its own name; "" for a whole one and for
    files elsewhere."""
    digest = _blob(path)
    if not digest:
        return ""
    own = file_sha256(path) if len(digest) == 64 else git_sha1(path)
    return "" if own == digest else "other bytes than the hub says (its digest)"
