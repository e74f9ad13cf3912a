"""The elements of one JSON array, read as a stream: one of them is in memory at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from doitune.data.jsonl import MAX_LINE_BYTES, UTF8_MARK, shown
from doitune.data.plain_text import not_utf8
from doitune.errors import DataError

HEAD_BYTES = 4096
"""What is looked at to see how a file begins."""

_CHUNK = 1 << 20
_NO_BLANK = re.compile(r"[^ \t\r\n]")
_SIMPLE = r'(?:"[^"\\]*"|[-+.\deE]+|true|false|null)'
_WRAPPED = re.compile(
    rf'[ \t\r\n]*\{{\s*(?:"[^"\\]*"\s*:\s*{_SIMPLE}\s*,\s*)*'
    r'"(?:data|rows|examples|items|records|instances|train)"\s*:\s*(?=\[\s*(?:\{|\]|$))'
)
"""What stands before the array where its rows lie in one object: `{"version": "1", "data": [...]}`."""


class _Text:
    """A stream of text with the line that each place lies in. Errors: DataError where it is not UTF-8."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.line = path, 1
        self._file, self._rest = file, b""
        self.text, self.at, self.ended = "", 0, False

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.path}:{self.line}"

    def more(self) -> bool:
        """Read on, what was passed is dropped; False at the end."""
        data = self._file.read(_CHUNK)
        first = not self.text and not self.at and self.line == 1
        if first:
            data = data.removeprefix(UTF8_MARK)
        self.ended = not data
        try:
            whole = (self._rest + data).decode("utf-8")
            self._rest = b""
        except UnicodeDecodeError as error:
            known = self._rest + data
            if self.ended or error.reason != "unexpected end of data":
                line = self.line + self.text[self.at :].count("\n") + known[: error.start].count(b"\n")
                raise not_utf8(self.path, line, known, error.start) from None
            whole, self._rest = known[: error.start].decode("utf-8"), known[error.start :]
        self.text, self.at = self.text[self.at :] + whole, 0
        return not self.ended

    def skip(self) -> str:
        """The next character that is no blank, "" at the end; what lies before it is passed."""
        while True:
            found = _NO_BLANK.search(self.text, self.at)
            self.take(found.start() if found else len(self.text))
            if found:
                return found[0]
            if not self.more():
                return ""

    def take(self, end: int) -> str:
        """The text up to `end`, which is passed."""
        found = self.text[self.at : end]
        self.line += found.count("\n")
        self.at = end
        return found


def begins_array(head: bytes) -> bool:
    """Whether a file that begins so holds one array of rows, bare or in an object."""
    text = head.removeprefix(UTF8_MARK).lstrip()
    return text[:1] == b"[" or _wrapper(head) > 0


def array_rows(path: Path, file: IO[bytes], head: bytes) -> Iterator[tuple[int, bytes]]:
    """The line that each element of the array starts in, and its JSON. Errors: DataError where the array
    breaks."""
    text, wrapper = _Text(path, file), _wrapper(head)
    while len(text.text) < wrapper and text.more():
        pass
    text.take(wrapper)
    text.skip()
    text.at += 1  # the bracket
    yield from _elements(text)
    if wrapper and (char := text.skip()) != "}":
        problem = f"behind the list of rows, {shown(char)}" if char else "the object around the rows is open"
        raise DataError(problem, "write the list of rows alone", place=text.place)
    text.at += bool(wrapper)
    if text.skip():
        raise DataError("text after the array's end", "one array a file", place=text.place)


def _wrapper(head: bytes) -> int:
    """How many characters stand before the array in its object; 0 where there is none."""
    found = _WRAPPED.match(head.removeprefix(UTF8_MARK)[:HEAD_BYTES].decode("utf-8", "ignore"))
    return found.end() if found else 0


def _elements(text: _Text) -> Iterator[tuple[int, bytes]]:
    """From behind the opening bracket up to behind the closing one."""
    due = "]"
    while True:
        char = text.skip()
        if char == "]" and due:
            text.at += 1
            return
        if char in ("", "]", ","):
            what = {
                "": "the array does not end",
                "]": "a comma before the array's end",
                ",": "a comma without a row before it",
            }[char]
            raise DataError(what, "correct the array", place=text.place)
        line, row = text.line, _element(text)
        yield line, row.encode("utf-8", "surrogatepass")
        due = text.skip()
        if due not in (",", "]"):
            problem = f"after a row, {shown(due)}" if due else "the array does not end"
            raise DataError(problem, "write a comma between rows, ] at the end", place=text.place)
        if due == ",":
            text.at, due = text.at + 1, ""


_DECODER = json.JSONDecoder()
_CUT = 16
"""Characters from the end within which a complaint may come from where the text was cut: `tru`, `\\u12`."""


def _element(text: _Text) -> str:
    """The JSON text of the element that starts here. Errors: DataError where it is none."""
    while True:
        try:
            _, end = _DECODER.raw_decode(text.text, text.at)
            if end < len(text.text) or text.ended:
                return text.take(end)
        except RecursionError:
            raise DataError("nested too deep", "flatten the row", place=text.place) from None
        except json.JSONDecodeError as error:
            inside = error.pos < len(text.text) - _CUT and not error.msg.startswith("Unterminated")
            if text.ended or inside:
                line = text.line + text.text.count("\n", text.at, error.pos)
                hint = "correct the row: names and texts in double quotes, no comma before } or ]"
                raise DataError(f"not JSON: {error.msg}", hint, place=f"{text.path}:{line}") from None
        except ValueError:
            problem = "a number with too many digits"
            raise DataError(problem, "write it as text or shorten it", place=text.place) from None
        if len(text.text) - text.at > MAX_LINE_BYTES:
            raise DataError("a row longer than 4 MiB, or broken JSON", "split it", place=text.place)
        text.more()
