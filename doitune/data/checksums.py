"""checksums.json: the size and sha256 of every file of a corpus, and where the corpus came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from doitune.data.layout import row_files, source_folders
from doitune.errors import DataError
from doitune.system.disk import file_sha256, write_json

CHECKSUMS = "checksums.json"
CHECKSUMS_SCHEMA = "doitune.checksums/1"

_ORIGIN = ("source", "repository", "revision")


@dataclass(frozen=True)
class Checksum:
    """What a file must be."""

    sha256: str
    bytes: int


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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"damaged list of checksums ({error})", "fetch the corpus again", place=str(path)
        ) from error


def write_checksums(root: Path, origin: Mapping[str, str], paths: Sequence[Path] | None = None) -> None:
    """Record size and sha256 of `paths`, or every file of the layout, under `root`, with where they came
    from. Errors: DiskError."""
    laid = (path for folder in source_folders(root) for path in row_files(folder))
    entries = {
        path.relative_to(root).as_posix(): {"sha256": digest_of(path), "bytes": path.stat().st_size}
        for path in (laid if paths is None else paths)
    }
    write_json(root / CHECKSUMS, {"schema": CHECKSUMS_SCHEMA, **origin, "files": entries})


def origin_of(root: Path) -> dict[str, str]:
    """Where a fetched corpus came from: source, repository, revision (empty texts where that was not
    recorded)."""
    try:
        document = json.loads((root / CHECKSUMS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        document = {}
    return {key: str(document.get(key, "")) if isinstance(document, dict) else "" for key in _ORIGIN}


def digest_of(path: Path) -> str:
    """The sha256 (hex) of a file. Errors: DataError when it cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", "check the file's rights and the disk", place=str(path)
        ) from error


def difference(path: Path, recorded: Checksum | None) -> str:
    """What is wrong with a file beside its record; "" when it is as recorded. Errors: DataError when it
    cannot be read."""
    if recorded is None:
        return f"not in {CHECKSUMS}"
    size = path.stat().st_size
    if size != recorded.bytes:
        return f"{size:,} bytes, {recorded.bytes:,} were recorded"
    digest = digest_of(path)
    if digest == recorded.sha256:
        return ""
    return f"its sha256 {digest[:12]}… is not the recorded {recorded.sha256[:12]}…"
