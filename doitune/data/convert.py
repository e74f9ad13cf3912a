"""Rows of one's own, written in doitune's own form: JSON lines of `messages`, `ability`, and what else they
say. Read and written as a stream."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from doitune.data.corpus import Corpus
from doitune.data.example import MAX_SHOWN_PROBLEMS, refuse
from doitune.data.files import Files
from doitune.data.jsonl import MAX_LINE_BYTES, Finding, RowError, parse_line
from doitune.data.other_formats import RowForm, say_form
from doitune.data.row_files import TEXTS, numbered_rows
from doitune.data.scan import own_example
from doitune.data.sources import FULL
from doitune.errors import DataError, UsageError
from doitune.system.disk import disk_error, rename, sync_file, sync_folder
from doitune.system.doing import doing
from doitune.system.publish import alone

ENDS = (*TEXTS, *(f"{end}.gz" for end in TEXTS))
_EVERY = 10_000


@dataclass(frozen=True)
class Converted:
    """What was written: `rows` in all, by form (as they were) and by ability; `refused`: rows left out."""

    path: Path
    rows: int
    forms: dict[str, int]
    abilities: dict[str, int]
    refused: tuple[Finding, ...]

    def to_json(self) -> dict[str, object]:
        """The document of `doitune data convert --json`."""
        return {
            "schema": "doitune.convert/1",
            "path": str(self.path),
            "rows": self.rows,
            "forms": self.forms,
            "abilities": self.abilities,
            "refused": [asdict(one) for one in self.refused],
        }


def convert(corpus: Corpus, out: Path, *, leave_out: bool = False, force: bool = False) -> Converted:
    """Write every row of a corpus of one's own to `out`, wholly or not at all.

    `leave_out`: without the rows that cannot be read, which are else an error. `force`: over a file that is
    there. Errors: DataError, UsageError, DiskError, LockedError.
    """
    _refuse_target(corpus, out, force=force)
    forms: Counter[str] = Counter()
    abilities: Counter[str] = Counter()
    refused: list[Finding] = []
    with alone(out, str(out)):
        beside = out.with_name(f".{out.name}.{os.getpid()}.part")
        try:
            with gzip.GzipFile(beside, "wb", mtime=0) if out.suffix == ".gz" else beside.open("wb") as file:
                for row, ability, form in _rows(corpus, refused, leave_out=leave_out):
                    file.write(row)
                    forms[form] += 1
                    abilities[ability] += 1
                    if not forms.total() % _EVERY:
                        doing(f"writing {out.name}: {forms.total():,} rows")
            if not leave_out:
                refuse(tuple(refused))
            if not forms:
                raise DataError("no row can be written", "see what is wrong: `doitune data check`")
            sync_file(beside)
            rename(beside, out)
            sync_folder(out.parent)
        except OSError as error:
            raise disk_error(out.parent, error) from error
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
    return Converted(out, forms.total(), dict(forms), dict(abilities), tuple(refused))


def _refuse_target(corpus: Corpus, out: Path, *, force: bool) -> None:
    laid = [one.name for one in corpus.units if not one.is_own]
    if laid:
        problem = f"{laid[0]} is in the data set's layout, which is doitune's own form already"
        raise UsageError(problem, "name a file or folder of your own rows")
    if not out.name.endswith(ENDS):
        raise UsageError(f"{out} is not the name of a file of rows", f"end it in {', '.join(ENDS)}")
    if any(one.root.is_dir() and one.root.resolve() in out.resolve().parents for one in corpus.units):
        raise UsageError(
            f"{out} lies in the folder that is read: its rows would be there twice", "write elsewhere"
        )
    if (out.exists() or out.is_symlink()) and not (force and out.is_file() and not out.is_symlink()):
        cure = "name another file" + (
            "" if out.is_dir() or out.is_symlink() else ", or write over it: --force"
        )
        raise UsageError(f"{out} is there already", cure)


def _rows(corpus: Corpus, refused: list[Finding], *, leave_out: bool) -> Iterator[tuple[bytes, str, str]]:
    """Each row as a line in our form, its ability, and the form that it had. Bad ones are put into `refused`;
    where these are an error already, no more is read than fills a message."""
    for one in corpus.units:
        for path in one.kept.files(FULL).values():
            doing(f"reading {path.name}")
            for number, line in numbered_rows(path):
                try:
                    yield _converted(one, line, f"{path}:{number}")
                except RowError as error:
                    refused.append(Finding(error.kind, str(path), number, error.problem, error.hint))
                    if not leave_out and len(refused) > MAX_SHOWN_PROBLEMS:
                        return


def _converted(one: Files, line: bytes, place: str) -> tuple[bytes, str, str]:
    form = one.rows or RowForm()
    read = parse_line(line)
    row = form.as_row(read)
    example = own_example(row, place)
    said = {
        key: value for key, value in row.items() if value is not None and key not in ("messages", "ability")
    }
    whole = {"messages": row["messages"], "ability": example.ability, **said}
    text = json.dumps(whole, ensure_ascii=False).encode("utf-8")
    if len(text) > MAX_LINE_BYTES:
        raise RowError("line_too_long", "the row would be longer than 4 MiB", "split or drop it")
    return text + b"\n", example.ability, say_form(form, read)
