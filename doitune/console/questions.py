"""Questions to the person at the terminal, on stderr; an answer that does not serve is asked for again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from doitune.console.screen import note, safe, show_error
from doitune.errors import DoituneError

T = TypeVar("T")


def anybody_there() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, read: Callable[[str], T], default: str = "") -> T:
    """What `read` makes of the answer; `default` is what Enter means. An error of `read` is shown, and the
    question is put again."""
    import typer

    while True:
        typed = typer.prompt(safe(question), default=safe(default) or None, err=True)
        try:
            return read(str(typed).strip())
        except DoituneError as error:
            show_error(error, as_json=False)


def remark(text: str) -> None:
    """A line between two questions."""
    note(text)
