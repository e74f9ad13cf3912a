"""What the help says stays true: every command has an example that can be typed, and the numbers in it are
the program's own."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from doitune.cli import data, export
from doitune.cli.app import app
from doitune.errors import DataError, DoituneError, FitError, ModelError, ParityError
from doitune.export.parity import AGREEMENT
from doitune.export.trial import QUESTIONS
from doitune.recipe.fields import Recipe


def commands() -> dict[str, Any]:
    """Every command by its words, groups left out."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield " ".join(words), command
            return
        for name, one in inner.items():
            yield from below(one, (*words, name))

    return dict(below(typer.main.get_command(app), ()))


COMMANDS = commands()


def test_the_list_of_commands_is_whole() -> None:
    assert len(COMMANDS) >= 25 and {"train", "data check", "selftest gpu"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_can_be_typed(name: str) -> None:
    """Trap: an option is renamed and the example stays."""
    found = re.search(r"Example: doitune (.+)", COMMANDS[name].help)
    assert found, "no example"
    words, arguments = name.split(), shlex.split(found[1])
    assert arguments[: len(words)] == words
    COMMANDS[name].make_context(name, arguments[len(words) :])  # parses, or raises


EXITS: dict[str, type[DoituneError]] = {
    "plan": FitError,
    "doctor": FitError,
    "export": ParityError,
    "data check": DataError,
    "base check": ModelError,
    "selftest gpu": FitError,
}


def test_exit_codes_in_the_help_are_those_of_the_errors() -> None:
    named = {
        name: int(found[1])
        for name, command in COMMANDS.items()
        if (found := re.search(r"[Ee]xit (\d+)", command.help))
    }
    assert named == {name: error.exit_code for name, error in EXITS.items()}


def test_numbers_in_the_help_of_export_are_the_rooms_own() -> None:
    assert inspect.signature(export.export).parameters["questions"].default == QUESTIONS
    assert f"more than {100 * (1 - AGREEMENT):.0f} % of" in " ".join(COMMANDS["export"].help.split())


def test_rows_are_checked_at_the_length_that_a_recipe_trains() -> None:
    limit = Recipe.model_fields["train"].annotation.model_fields["max_tokens"].default  # type: ignore[union-attr]
    assert inspect.signature(data.check).parameters["max_tokens"].default == limit


def test_the_start_of_every_command_loads_names_only() -> None:
    """Trap: one name that a help text needs brings the reader of rows, json and hashlib into every start."""
    code = (
        "import sys, typer; from doitune.cli.app import app; made = dict(typer.main.get_command(app).commands)\n"
        "assert len(made) > 20; print(*(name for name in sys.modules if name[:7] == 'doitune'))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name for name in loaded.stdout.split() if not name.startswith("doitune.cli")}
    assert "doitune.errors" in names
    light = {"doitune", "doitune.errors", "doitune.system", "doitune.system.units", "doitune.data"}
    light |= {"doitune.run", "doitune.run.default"}
    assert names <= {*light, "doitune.data.sources", "doitune.data.suites"}
