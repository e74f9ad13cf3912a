"""Files of one's own rows, whatever they are written in: each row as one line of JSON, with its place.

JSONL, a JSON array (pretty-printed, on one line, or under `data` in an object), CSV and TSV with a header,
Parquet and Arrow (with the extra `data`); the texts also packed with gzip, or zstd (with the extra). Files
are read as a stream: one row is in memory at a time.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from doitune.data.json_values import HEAD_BYTES, array_rows, begins_array
from doitune.data.jsonl import MAX_LINE_BYTES, UTF8_MARK, numbered_lines, refuse_unplain, shown, unreadable
from doitune.data.plain_text import not_utf8, refuse_other_kinds
from doitune.errors import DataError, FitError

TEXTS = (".json", ".jsonl", ".ndjson")
TABLES = {".csv": ",", ".tsv": "\t"}
COLUMNS = (".parquet", ".arrow", ".feather")
PACKED = (".gz", ".zst")

Lines = Iterator[tuple[int, bytes]]
"""A row's place (the line that it starts in, from 1; in Parquet and Arrow its number) and its JSON."""


def is_row_file(path: Path) -> bool:
    """Whether a file's name says that rows of one's own are in it."""
    return _suffix(path) in (*TEXTS, *TABLES, *COLUMNS) and not path.name.startswith(".")


def numbered_rows(path: Path) -> Lines:
    """Every row of a file of one's own. An empty cell is null. Errors: DataError with the line where the file
    as a whole breaks; what is wrong with one row is its reader's to say. FitError where a library is
    missing."""
    refuse_unplain(path)
    suffix = _suffix(path)
    if suffix in COLUMNS:
        if path.suffix.lower() in PACKED:
            problem = f"a {suffix[1:]} file is packed inside already"
            raise DataError(problem, f"unpack the {path.suffix}", place=str(path))
        yield from _columns(path, suffix)
        return
    with _opened(path) as file:
        head = file.peek(HEAD_BYTES)[:HEAD_BYTES]  # type: ignore[attr-defined]
        refuse_other_kinds(path, head)
        if suffix in TABLES:
            yield from _table(path, file, _delimiter(head, TABLES[suffix]))
        elif begins_array(head):
            yield from array_rows(path, file, head)
        else:
            _refuse_no_rows(path, head)
            yield from _json_lines(path, file)


def _suffix(path: Path) -> str:
    return Path(path.stem if path.suffix.lower() in PACKED else path.name).suffix.lower()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked. Errors, also while it is read: DataError; FitError."""
    packed = path.suffix.lower()
    try:
        with (
            gzip.open(path)
            if packed == ".gz"
            else _zstd(path)
            if packed == ".zst"
            else path.open("rb") as file
        ):
            yield cast(IO[bytes], file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        raise (
            _damaged(path, error) if packed == ".zst" and not error.errno else unreadable(path, error)
        ) from None


def _damaged(path: Path, error: Exception) -> DataError:
    problem = f"the packed file is cut short or damaged: {error}"
    return DataError(problem, "copy it again, or pack it again", place=str(path))


def _zstd(path: Path) -> IO[bytes]:
    pyarrow = _pyarrow(path)
    return cast(
        IO[bytes], io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))
    )


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise FitError(f"{path.name} needs pyarrow", 'pip install "doitune[data]"') from None
    return pyarrow


def _refuse_no_rows(path: Path, head: bytes) -> None:
    """DataError where the first line shows that no line of the file will be a row."""
    text = head.removeprefix(UTF8_MARK)
    first = text.lstrip().partition(b"\n")[0].strip()
    line = 1 + text[: len(text) - len(text.lstrip())].count(b"\n")
    if first == b"{":
        cure = "write each object on one line (jq -c . FILE), or all of them as one array"
        raise DataError("rows over several lines, but no array around them", cure, place=f"{path}:{line}")
    if first and first[:1] not in b"{[\"'":
        problem = f"the first line is no row of JSON: {shown(first.decode('utf-8', 'replace'))}"
        cure = "a table is named .csv or .tsv; rows of JSON stand in braces, one a line"
        raise DataError(problem, cure, place=f"{path}:{line}")


def _json_lines(path: Path, file: IO[bytes]) -> Lines:
    """The lines; the first that is not UTF-8 ends the file, whose others will not be either."""
    for number, line in numbered_lines(path, file):
        try:
            line.decode("utf-8") if len(line) <= MAX_LINE_BYTES else None
        except UnicodeDecodeError as error:
            raise not_utf8(path, number, line, error.start) from None
        yield number, line


def _delimiter(head: bytes, usual: str) -> str:
    """What parts the cells: the usual sign, or `;` or a tab where the header has one and not the usual."""
    header = head.partition(b"\n")[0].decode("utf-8", "replace")
    return next((sign for sign in (usual, ";", "\t") if sign in header), usual)


def _table(path: Path, file: IO[bytes], delimiter: str) -> Lines:
    """The rows of a table with a header, as objects of texts."""
    header: list[str] = []
    csv.field_size_limit(MAX_LINE_BYTES)
    rows = csv.reader(_text_lines(path, file), delimiter=delimiter, strict=True)
    number = 1
    try:
        for cells in rows:
            number, start = rows.line_num + 1, number
            if not header:
                header = _header(path, cells) if cells else []
            elif len(cells) != len(header):
                if cells:
                    problem = f"{len(cells)} cells, the header has {len(header)}"
                    hint = f"put quotes around cells with `{delimiter}`".replace("\t", "tab")
                    raise DataError(problem, hint, place=f"{path}:{start}")
            else:
                row = {name: cell or None for name, cell in zip(header, cells, strict=True)}
                yield start, json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except csv.Error as error:
        hint = "correct the quotes: one inside of a cell is written twice"
        raise DataError(f"not a table: {error}", hint, place=f"{path}:{number}") from None


def _header(path: Path, cells: list[str]) -> list[str]:
    """The names of the columns."""
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if not name or names.count(name) > 1), None)
    if cells[0].lstrip()[:1] in ("{", "["):
        raise DataError(
            "rows of JSON in a table", "give it a name that says so: FILE.jsonl", place=f"{path}:1"
        )
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
    pyarrow = _pyarrow(path)
    from pyarrow import ipc, parquet

    try:
        with pyarrow.OSFile(str(path)) as file:
            batches = (
                parquet.ParquetFile(file).iter_batches(batch_size=1024)
                if suffix == ".parquet"
                else _arrow_batches(ipc, file)
            )
            number = 0
            for batch in batches:
                if not number:
                    _header(path, batch.schema.names)
                for row in batch.to_pylist():
                    number += 1
                    yield number, _json_of(row, f"{path}:{number}")
    except (pyarrow.ArrowException, OSError) as error:
        problem = f"not a readable {suffix[1:]} file: {(str(error).splitlines() or ['damaged'])[0][:200]}"
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
    """A row as JSON; numbers and texts only, dates as texts. A cell without a number (NaN) is empty. A key
    without a value inside of a cell is none: Arrow gives every object all keys that any of them has, so a
    call of a tool would be learnt with arguments that it never had."""
    said = {key: None if value != value else _present(value) for key, value in row.items()}
    try:
        return json.dumps(said, ensure_ascii=False, default=_plain).encode("utf-8", "surrogatepass")
    except TypeError as error:
        raise DataError(str(error), "drop the column, or write its values as text", place=place) from None


def _present(value: Any) -> Any:
    """A value without the keys that have none."""
    if isinstance(value, dict):
        return {key: _present(one) for key, one in value.items() if one is not None}
    return [_present(one) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> str:
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"a value of the type {type(value).__name__}, which no row can hold")
