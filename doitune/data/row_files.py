"""Files of one's own rows, whatever they are written in: each row as one line of JSON, with its place.

JSONL, a JSON array (pretty-printed or on one line), CSV and TSV with a header, Parquet and Arrow (with the
extra `data`); the texts also packed with gzip. Files are read as a stream: one row is in memory at a time.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from doitune.data.jsonl import MAX_LINE_BYTES, UTF8_MARK, numbered_lines, refuse_unplain, shown, unreadable
from doitune.errors import DataError, FitError

TEXTS = (".json", ".jsonl", ".ndjson")
TABLES = {".csv": ",", ".tsv": "\t"}
COLUMNS = (".parquet", ".arrow", ".feather")
PACKED = ".gz"

Lines = Iterator[tuple[int, bytes]]
"""A row's place (the line that it starts in, from 1; in Parquet and Arrow its number) and its JSON."""

_CHUNK = 1 << 20
_BLANKS = " \t\r\n"


def is_row_file(path: Path) -> bool:
    """Whether a file's name says that rows of one's own are in it."""
    return _suffix(path) in (*TEXTS, *TABLES, *COLUMNS) and not path.name.startswith(".")


def numbered_rows(path: Path) -> Lines:
    """Every row of a file of one's own. Errors: DataError with the line where the file as a whole breaks;
    what is wrong with one row is its reader's to say. FitError where a library is missing."""
    refuse_unplain(path)
    suffix = _suffix(path)
    if suffix in COLUMNS:
        yield from _columns(path, suffix)
        return
    with _opened(path) as file:
        if suffix in TABLES:
            yield from _table(path, file, TABLES[suffix])
        elif file.peek(4096).removeprefix(UTF8_MARK).lstrip()[:1] == b"[":  # type: ignore[attr-defined]
            yield from _array(path, file)
        else:
            yield from numbered_lines(path, file)


def _suffix(path: Path) -> str:
    return Path(path.stem if path.suffix.lower() == PACKED else path.name).suffix.lower()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked. Errors, also while it is read: DataError."""
    try:
        with gzip.open(path) if path.suffix.lower() == PACKED else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the packed file is cut short or damaged: {error}", "copy it again", place=str(path)
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error


class _Text:
    """A stream of text with the line that each place lies in. Errors: DataError where it is not UTF-8."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.line = path, 1
        self._file, self._rest = file, b""
        self.text, self.at, self.ended = "", 0, False

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
            start = self.at
            while self.at < len(self.text) and self.text[self.at] in _BLANKS:
                self.at += 1
            self.line += self.text.count("\n", start, self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, end: int) -> str:
        """The text up to `end`, which is passed."""
        found = self.text[self.at : end]
        self.line += found.count("\n")
        self.at = end
        return found


def not_utf8(path: Path, line: int, data: bytes, at: int) -> DataError:
    """The error for bytes that are not UTF-8, with what they may be."""
    guess, sample = "", data[:4096]
    if sample[:2] in (b"\xff\xfe", b"\xfe\xff"):
        guess = "; it looks like UTF-16"
    else:
        try:
            data[max(0, at - 200) : at + 200].decode("gb18030", "strict" if len(data) < 200 else "ignore")
            guess = "; it may be GB18030: iconv -f gb18030 -t utf-8 FILE"
        except UnicodeDecodeError:
            pass
    return DataError(
        f"a byte (0x{data[at]:02x}) is not UTF-8{guess}", "save the file as UTF-8", place=f"{path}:{line}"
    )


def _array(path: Path, file: IO[bytes]) -> Lines:
    """The elements of one JSON array."""
    text = _Text(path, file)
    text.skip()
    text.at += 1  # the bracket
    due = "]"
    while True:
        char = text.skip()
        if char == "]" and due:
            text.at += 1
            break
        if char in ("", "]", ","):
            what = {
                "": "the array does not end",
                "]": "a comma before the array's end",
                ",": "a comma without a row before it",
            }[char]
            raise DataError(what, "correct the array", place=f"{path}:{text.line}")
        line, row = text.line, _element(text)
        yield line, row.encode("utf-8")
        due = text.skip()
        if due not in (",", "]"):
            problem = f"after a row, {shown(due)}" if due else "the array does not end"
            raise DataError(problem, "write a comma between rows, ] at the end", place=f"{path}:{text.line}")
        if due == ",":
            text.at, due = text.at + 1, ""
    if text.skip():
        raise DataError("text after the array's end", "one array a file", place=f"{path}:{text.line}")


_DECODER = json.JSONDecoder()


def _element(text: _Text) -> str:
    """The JSON text of the element that starts here. Errors: DataError where it is none."""
    while True:
        try:
            _, end = _DECODER.raw_decode(text.text, text.at)
            if end < len(text.text) or text.ended:
                return text.take(end)
        except RecursionError:
            raise DataError("nested too deep", "flatten the row", place=f"{text.path}:{text.line}") from None
        except ValueError as error:
            broken = error
            if text.ended:
                where = getattr(broken, "pos", text.at)
                line = text.line + text.text.count("\n", text.at, where)
                what = getattr(broken, "msg", str(broken))
                raise DataError(f"not JSON: {what}", "correct the row", place=f"{text.path}:{line}") from None
        if len(text.text) - text.at > MAX_LINE_BYTES:
            raise DataError(
                "a row longer than 4 MiB, or broken JSON", "split it", place=f"{text.path}:{text.line}"
            )
        text.more()


def _table(path: Path, file: IO[bytes], delimiter: str) -> Lines:
    """The rows of a table with a header, as objects of texts; an empty cell says nothing."""
    header: list[str] = []
    rows = csv.reader(_text_lines(path, file), delimiter=delimiter, strict=True)
    number = 1
    try:
        for cells in rows:
            number, start = rows.line_num + 1, number
            if not header:
                header = _header(path, cells)
            elif len(cells) != len(header):
                if cells:
                    problem = f"{len(cells)} cells, the header has {len(header)}"
                    raise DataError(problem, "put quotes around cells with commas", place=f"{path}:{start}")
            else:
                row = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
                yield start, json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except csv.Error as error:
        raise DataError(f"not a table: {error}", "correct the quotes", place=f"{path}:{number}") from None


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if not name or names.count(name) > 1), None)
    if twice is not None:
        problem = f"the column {shown(twice)} stands twice" if twice else "a column without a name"
        raise DataError(problem, "give each column a name of its own in the first line", place=f"{path}:1")
    return names


def _text_lines(path: Path, file: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
        if len(line) > MAX_LINE_BYTES:
            raise DataError("a line longer than 4 MiB", "split the row", place=f"{path}:{number}")
        data = line.removeprefix(UTF8_MARK) if number == 1 else line
        try:
            yield data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(path, number, data, error.start) from None


def _columns(path: Path, suffix: str) -> Lines:
    """The rows of a Parquet or Arrow file."""
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError:
        raise FitError(f"{path.name} needs pyarrow", 'pip install "doitune[data]"') from None
    try:
        with pyarrow.OSFile(str(path)) as file:
            batches = (
                parquet.ParquetFile(file).iter_batches(batch_size=1024)
                if suffix == ".parquet"
                else _arrow_batches(ipc, file)
            )
            number = 0
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    yield number, _json_of(row, f"{path}:{number}")
    except (pyarrow.ArrowException, OSError) as error:
        problem = f"not a readable {suffix[1:]} file: {str(error).splitlines()[0][:200]}"
        raise DataError(problem, "copy or write it again", place=str(path)) from None


def _arrow_batches(ipc: Any, file: Any) -> Iterator[Any]:
    """Batches of an Arrow file, or of a stream, as `datasets` writes it."""
    start = file.read(6)
    file.seek(0)
    if start == b"ARROW1":
        whole = ipc.open_file(file)
        yield from (whole.get_batch(number) for number in range(whole.num_record_batches))
    else:
        yield from ipc.open_stream(file)


def _json_of(row: dict[str, Any], place: str) -> bytes:
    """A row as JSON; numbers and texts only, dates as texts."""
    said = {key: value for key, value in row.items() if value is not None}
    try:
        return json.dumps(said, ensure_ascii=False, default=_plain).encode("utf-8", "surrogatepass")
    except TypeError as error:
        raise DataError(str(error), "drop the column, or write its values as text", place=place) from None


def _plain(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"a value of the type {type(value).__name__}, which no row can hold")
