"""A group of commands: alone it shows its help, and ends well."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

HELP = "-h", "--help"


class Group(TyperGroup):
    """A group whose name alone asks for its help: on stdout, exit 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typed; nothing typed is `--help`."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else [HELP[-1]]))


class Later(UserDict[str, Any]):
    """Commands by name, each imported and made when it is first taken out; until then `module:noun`."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, str):
            found = self.data[name] = _made(name, found)
        return found


def _made(name: str, place: str) -> Any:
    module, _, noun = place.partition(":")
    found = getattr(import_module(f"doitune.cli.{module}"), noun)
    if isinstance(found, typer.Typer):  # also one with a single command in it
        made: Any = typer.main.get_group(found)
    else:
        alone = group("")
        alone.command(name)(found)
        made = typer.main.get_command(alone)
    made.name = name
    return made


def group(about: str, kind: type[TyperGroup] = Group) -> typer.Typer:
    """A group below `doitune`."""
    return typer.Typer(help=about, cls=kind, add_completion=False, rich_markup_mode=None)


def show_version(asked: bool) -> None:
    """The version, and the end of the command. It is asked for before anything else is parsed."""
    if asked:
        from doitune import __version__
        from doitune.console import screen

        screen.say(f"doitune {__version__}")
        raise typer.Exit
