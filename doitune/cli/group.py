"""A group of commands: alone it shows its help, and ends well."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

HELP = "-h", "--help"


class Group(TyperGroup):
    """A group whose name alone asks for its help: on stdout, exit 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typed; nothing typed is `--help`."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else [HELP[-1]]))


def group(about: str) -> typer.Typer:
    """A group below `doitune`."""
    return typer.Typer(help=about, cls=Group)


def show_version(asked: bool) -> None:
    """The version, and the end of the command. It is asked for before anything else is parsed."""
    if asked:
        from doitune import __version__
        from doitune.console import screen

        screen.say(f"doitune {__version__}")
        raise typer.Exit
