"""The text of a JSONL file: lines to JSON objects, strictly, and what is wrong with a line.

`json.loads` alone accepts NaN, repeated keys and lone surrogates, and `str.splitlines` splits inside of
strings at U+2028: each of them changes data in silence. Here a file is split at b"\\n" only (a b"\\r" before
it is dropped, so CRLF files give the same rows), a UTF-8 byte order mark is allowed at the start of a file
and nowhere else, and blank lines may only end a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import IO

from doitune.errors import DataError, Problem

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
SHOWN_CHARACTERS = 40
LFS_POINTER = b"version https://git-lfs"
"""What a file starts with where a git clone has not brought the data."""
LFS_PROBLEM, LFS_CURE = "a Git LFS pointer, not the data", "run `git lfs pull` in the clone"

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
UTF8_MARK = b"\xef\xbb\xbf"


class RowError(Exception):
    """Why one row can't be used: a `kind` to count by, the problem with its value, the cure. Only readers
    of rows see it."""

    def __init__(self, kind: str, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.kind, self.problem, self.hint = kind, problem, hint


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a corpus: a kind to count by, where (`line` counts from 1; 0 is the
    whole file), what, and the cure."""

    kind: str
    file: str
    line: int
    problem: str
    hint: str = ""

    @property
    def place(self) -> str:
        """`file:line`, or the file."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def as_problem(self) -> Problem:
        """The same, as errors carry it."""
        return Problem(self.place, self.problem, self.hint)


def shown(value: object) -> str:
    """A value as a message may show it: on one line, without control or direction characters, at most
    SHOWN_CHARACTERS of it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def numbered_lines(path: Path, file: IO[bytes] | None = None) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, the line without its end) of every line but the blank ones that end the file.
    `file`: its bytes, where they are not as they lie on disk.

    A longer line than MAX_LINE_BYTES comes cut, one byte longer than the limit, which `parse_line` refuses.
    Errors: DataError when `path` is missing, is no plain file, or may not be read.
    """
    if file is not None:
        yield from _lines(file)
        return
    refuse_unplain(path)
    try:
        with path.open("rb") as opened:
            yield from _lines(opened)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the system does not let be read."""
    return DataError(
        f"cannot be read: {error.strerror or error}", "check the file's rights and the disk", place=str(path)
    )


def refuse_unplain(path: Path) -> None:
    """DataError where `path` is missing or no plain file."""
    if not path.is_file():
        what = (
            "is a folder, not a file"
            if path.is_dir()
            else "is not a plain file"
            if path.exists()
            else "a link that leads nowhere"
            if path.is_symlink()
            else "no such file"
        )
        raise DataError(what, "name a file of rows", place=str(path))


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number, blank = 0, 0
    while line := file.readline(MAX_LINE_BYTES + 2):
        while (
            not line.endswith(b"\n")
            and len(line) > MAX_LINE_BYTES
            and (rest := file.readline(MAX_LINE_BYTES))
        ):
            line = line[: MAX_LINE_BYTES + 1] + rest[-1:]
        if not number and line.startswith(UTF8_MARK):
            line = line[len(UTF8_MARK) :]
        number += 1
        if not line.strip():
            blank += 1
            continue
        yield from ((number - blank + place, b"") for place in range(blank))
        blank = 0
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def parse_line(line: bytes) -> dict[str, object]:
    """The JSON object of one line. Errors: RowError of kind line_too_long, blank_line, git_lfs, utf8,
    json, duplicate_key, not_finite, depth, surrogate or not_object.
    """
    if len(line) > MAX_LINE_BYTES:
        raise RowError(
            "line_too_long", "the line is longer than 4 MiB", "write one row a line; split or drop this one"
        )
    if not line:
        raise RowError("blank_line", "a blank line between rows", "delete the line")
    if line.startswith(LFS_POINTER):
        raise RowError("git_lfs", LFS_PROBLEM, LFS_CURE)
    value = _decode(_as_text(line))
    if _SURROGATE.search(line):
        _refuse_surrogates(value)
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()
    if not isinstance(value, dict):
        hint = (
            "write one object a line, without brackets around the file"
            if isinstance(value, list)
            else "write one object a line"
        )
        raise RowError("not_object", f"a row must be a JSON object, this is {_json_name(value)}", hint)
    return value


def parse_json(text: str) -> object:
    """JSON text within a row, read as strictly as the row. Errors: RowError of kind duplicate_key,
    not_finite, depth or surrogate; ValueError for what is no JSON."""
    try:
        value: object = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep() from None
    _refuse_surrogates(value)
    if _depth(value) > MAX_DEPTH:
        raise _too_deep()
    return value


def _as_text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        guess = "; it looks like UTF-16" if line[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        problem = f"byte {error.start + 1} of the line (0x{line[error.start]:02x}) is not UTF-8{guess}"
        raise RowError("utf8", problem, "save the file as UTF-8") from None


def _decode(text: str) -> object:
    try:
        value: object = _DECODER.decode(text)
        return value
    except json.JSONDecodeError as error:
        if text.lstrip()[:1] == "[" or text.strip() in ("{", "}", "]", "},"):
            raise RowError(
                "json",
                f"not a JSON row: {_said(error)} at character {error.pos + 1}",
                "write each object on one line",
            ) from None
        hint = (
            "escape line ends, tabs and quotes inside of strings"
            if "control character" in error.msg
            else "correct the row"
        )
        raise RowError("json", f"not JSON: {_said(error)} at character {error.pos + 1}", hint) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise RowError("number", "a number with too many digits", "write it as text or shorten it") from None


def _no_repeated_key(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    raise RowError(
        "duplicate_key", f"the key {shown(twice)} stands twice in one object", "keep one of the two"
    )


def _no_constant(name: str) -> object:
    raise RowError("not_finite", f"{name} is not JSON", "write a finite number or leave the key out")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise RowError("not_finite", f"the number {shown(text)} is too large", "write a finite number")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_repeated_key, parse_constant=_no_constant, parse_float=_finite
)


def _refuse_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise RowError(
            "surrogate", f"\\u{code:04x} is half a character", "write the whole character, or delete it"
        ) from None


def _too_deep() -> RowError:
    return RowError("depth", f"objects or lists nested deeper than {MAX_DEPTH}", "flatten the row")


def _depth(value: object) -> int:
    deepest, left = 0, [(value, 1)]
    while left:
        item, level = left.pop()
        if isinstance(item, (dict, list)):
            deepest = max(deepest, level)
            left.extend((inner, level + 1) for inner in (item.values() if isinstance(item, dict) else item))
    return deepest


def _json_name(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names[type(value)]


def _said(error: json.JSONDecodeError) -> str:
    """What Python's parser says, without the word that its own place would follow."""
    return error.msg.removesuffix(" starting at")
