"""What a file of rows is by its first bytes, where it is not the text that its name says."""

from __future__ import annotations

from pathlib import Path

from doitune.data.jsonl import LFS_CURE, LFS_POINTER, LFS_PROBLEM
from doitune.errors import DataError

_SAVE, _UNPACK = (
    "save it as UTF-8: iconv -f utf-16 -t utf-8 FILE",
    "unpack it, or pack it with gzip (FILE.gz)",
)
_SHEET = "save the sheet as CSV in UTF-8"
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (LFS_POINTER, LFS_PROBLEM, LFS_CURE),
    (b"\xff\xfe\0\0", "the file is UTF-32", "save it as UTF-8: iconv -f utf-32 -t utf-8 FILE"),
    (b"\xff\xfe", "the file is UTF-16", _SAVE),
    (b"\xfe\xff", "the file is UTF-16", _SAVE),
    (b"PK\x03\x04", "the file is an Excel workbook (xlsx) or a zip archive", f"{_SHEET}; unpack an archive"),
    (b"\xd0\xcf\x11\xe0", "the file is an old Excel workbook (xls)", _SHEET),
    (b"\x1f\x8b", "the file is packed with gzip", "give it a name that says so: FILE.gz"),
    (b"\x28\xb5\x2f\xfd", "the file is packed with zstd", "give it a name that says so: FILE.zst"),
    (b"BZh", "the file is packed with bzip2", _UNPACK),
    (b"\xfd7zXZ", "the file is packed with xz", _UNPACK),
    (b"7z\xbc\xaf", "the file is a 7z archive", _UNPACK),
    (b"PAR1", "the file is Parquet", "give it a name that says so: FILE.parquet"),
    (b"ARROW1", "the file is Arrow", "give it a name that says so: FILE.arrow"),
    (b"%PDF", "the file is a PDF", "write its text as rows of questions and answers"),
    (b"SQLite format 3", "the file is a SQLite database", "write the table as CSV: sqlite3 -csv -header"),
    (b"\x89HDF", "the file is HDF5", "write it as Parquet or JSONL"),
    (b"\x80\x04\x95", "the file is a Python pickle, which is never opened", "write it as Parquet or JSONL"),
    (b"\x80\x05\x95", "the file is a Python pickle, which is never opened", "write it as Parquet or JSONL"),
)
"""How files begin that are no text in UTF-8, what they are, what to do."""

_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")


def refuse_other_kinds(path: Path, head: bytes) -> None:
    """DataError where the first bytes of a text file, unpacked, show that it is something else."""
    for start, problem, hint in _STARTS:
        if head.startswith(start):
            raise DataError(problem, hint, place=str(path))
    if head.lstrip()[:9].lower().startswith(_PAGES):
        hint = "fetch the file itself: on a hub, the address with `resolve`"
        raise DataError("the file is a web page or XML, not rows", hint, place=str(path))
    if head and not head.strip(b"\0"):
        hint = "copy it again: it was never written through"
        raise DataError("the file holds only NUL bytes", hint, place=str(path))
    if max(head[:400:2].count(0), head[1:400:2].count(0)) > 0.4 * len(head[:400:2]):
        raise DataError("the file looks like UTF-16 without a mark", _SAVE, place=str(path))


def not_utf8(path: Path, line: int, data: bytes, at: int) -> DataError:
    """The error for bytes that are not UTF-8, with what they may be."""
    guess, hint = "", "save the file as UTF-8"
    try:
        data[max(0, at - 200) : at + 200].decode("gb18030", "strict" if len(data) < 200 else "ignore")
        guess, hint = "; it may be GB18030", "save the file as UTF-8: iconv -f gb18030 -t utf-8 FILE"
    except UnicodeDecodeError:
        pass
    return DataError(f"a byte (0x{data[at]:02x}) is not UTF-8{guess}", hint, place=f"{path}:{line}")
