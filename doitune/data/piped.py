"""Rows that come on stdin, kept as a file that a later command can read again."""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from doitune.data.cache import CACHE_CURE, corpora_folder
from doitune.errors import DataError, DiskError, UsageError
from doitune.system.disk import PRIVATE, disk_error, make_folder, rename
from doitune.system.doing import doing

STDIN = "-"
_BLOCK = 1 << 20
_PACKED = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
_COLUMNS = {b"PAR1": ".parquet", b"ARROW1": ".arrow"}


def keep_stdin(stream: BinaryIO | None = None) -> Path:
    """All of stdin (or `stream`) in a file of the cache that is named after what it holds, so that the same
    rows have the same name. Errors: UsageError for a terminal, DataError where nothing came, DiskError."""
    if stream is None:
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError("several processes cannot read one stdin", "write the rows to a file")
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "`-` is stdin, and nothing is piped into it", "as in: cat rows.jsonl | doitune ..."
            )
        stream = sys.stdin.buffer
    folder = corpora_folder() / "stdin"
    part = folder / f".stdin.{os.getpid()}.part"
    make_folder(folder)
    folder.chmod(PRIVATE)
    digest, head, size = sha256(), b"", 0
    try:
        with part.open("wb") as file:
            while block := stream.read(_BLOCK):
                doing(f"reading stdin: {size >> 20:,} MiB")
                head = head or block[:4096]
                digest.update(block)
                size += len(block)
                file.write(block)
        if not size:
            raise DataError("nothing came on stdin", "as in: cat rows.jsonl | doitune ... --corpus -")
        path = folder / f"stdin-{digest.hexdigest()[:16]}{_ending(head)}"
        rename(part, path)
    except OSError as error:
        raise DiskError(disk_error(folder, error).problem, CACHE_CURE) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _ending(head: bytes) -> str:
    """What the kind of file that begins so is called by."""
    for start, ending in _COLUMNS.items():
        if head.startswith(start):
            return ending
    for start, ending in _PACKED.items():
        if head.startswith(start):
            return f".jsonl{ending}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first = text.partition(b"\n")[0]
    if text[:1] in (b"{", b"[") or not any(mark in first for mark in (b",", b";", b"\t")):
        return ".jsonl"
    return ".csv" if b"," in first or b";" in first else ".tsv"
