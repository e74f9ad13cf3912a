"""The only room that writes to the screen: results on stdout, progress, notes and errors with their cure on
stderr, JSON for scripts.

Everything printed passes through `safe`: text of models, files and names can hold escape sequences that would
drive the terminal, and messages of libraries can hold secrets. JSON is escaped to the same effect.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from doitune.errors import DoituneError
from doitune.system.secrets import redact
from doitune.system.visible import hidden, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

PIPED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""

ERROR_SCHEMA = "doitune.error/1"


def safe(text: str) -> str:
    """`text` as a screen may have it: secrets as `***`, hidden characters as their codes.

    The consoles here read no markup, so brackets need no escape.
    """
    return visible(redact(text))


def out() -> Console:
    """The console of results."""
    console = _console(sys.stdout)
    console.on_broken_pipe = _unread  # type: ignore[method-assign]  # rich would end the process with 1
    return console


def _unread() -> None:
    raise BrokenPipeError


def err() -> Console:
    """The console of progress, notes and errors."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() else PIPED_WIDTH
    piped = width is not None
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=piped, width=width)


def styled(*parts: tuple[str, str]) -> Text:
    """Texts with their styles, one behind the other, each made safe."""
    from rich.text import Text

    return Text.assemble(*((safe(text), style) for text, style in parts))


def say(text: str) -> None:
    """A line of a result."""
    out().print(safe(text))


def note(text: str) -> None:
    """A line for the reader, on stderr."""
    err().print(safe(text), style="dim")


def show_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout and nothing else there; hidden characters are escaped, so that they read
    back the same."""
    escaped = (sys.stdout.encoding or "utf-8").lower() not in ("utf-8", "utf8")
    text = redact(json.dumps(document, ensure_ascii=escaped, indent=2, allow_nan=False, default=_plain))
    text = text if text.isascii() else "".join(_escaped(char) for char in text)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


def _escaped(char: str) -> str:
    """A character of a JSON text, as an escape where it would hide."""
    return json.dumps(char)[1:-1] if not char.isascii() and hidden(char) else char


def _plain(value: object) -> object:
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def show_error(error: DoituneError, *, as_json: bool) -> None:
    """An error with its cure: JSON on stdout for scripts, else text on stderr."""
    if as_json:
        problems = [{"place": one.place, "problem": one.problem, "hint": one.hint} for one in error.problems]
        about = {"kind": error.kind, "problem": error.problem, "hint": error.hint, "problems": problems}
        show_json({"schema": ERROR_SCHEMA, **about})
        return
    screen = err()
    if error.kind == "stopped":  # no error: the last line is the command that goes on, to be copied
        screen.print(styled(("stopped: ", "bold yellow"), (error.problem, "")))
        screen.print(styled((error.hint, "")))
        return
    shown: set[str] = set()
    for one in error.problems:
        screen.print(styled(("error: ", "bold red"), (str(one), "")))
        if one.hint and one.hint not in shown:
            shown.add(one.hint)
            screen.print(styled(("  hint: ", "bold cyan"), (one.hint, "")))


def show_crash(error: BaseException) -> None:
    """A bug of our own: its traceback on stderr, without secrets and control characters."""
    import traceback

    screen = err()
    screen.print(styled(("".join(traceback.format_exception(error)).rstrip(), "")))
    screen.print(styled(("this is a bug in doitune: please report it with these lines", "bold red")))


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    """What a library warns of, in the place of Python's own writer."""
    note(f"{category.__name__}: {message} ({filename}:{lineno})")


def grid(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Sequence[int] = ()
) -> Table:
    """A table of plain text; columns whose number is in `right` are set right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    heading = styled((title, "")) if title else None
    table = Table(title=heading, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, name in enumerate(columns):
        side: Any = "right" if number in right else "left"
        table.add_column(styled((name, "")), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(styled((str(cell), "")) for cell in row))
    return table


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Sequence[int] = ()
) -> None:
    """Print a table on stdout."""
    out().print(grid(columns, rows, title=title, right=right))


def duration(seconds: float) -> str:
    """Seconds in words: 42s, 3m05s, 2h07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
