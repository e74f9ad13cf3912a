"""What a shell is offered, through the variables that the scripts of bash, zsh and fish set; and how a command
answers that asks for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from patience import HANGS
from test_house import PACKAGE, PROGRAM, WATCHED, loaded_by

from doitune import __version__
from doitune.cli.app import app
from doitune.recipe.files import list_models, list_recipes

SHELLS = "bash", "zsh", "fish"


def offered(shell: str, line: str, folder: Path) -> tuple[list[str], set[str]]:
    """The names that a shell offers at the end of a line, and the watched libraries that were loaded."""
    words = line.split(" ")
    more = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    environment = {"PYTHONPATH": str(PACKAGE.parent), "_DOITUNE_COMPLETE": f"complete_{shell}", **more}
    program = "import sys; sys.argv[0] = 'doitune'\n" + PROGRAM % (WATCHED,)
    done = subprocess.run(
        [sys.executable, "-c", program, "[]"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=folder,
        timeout=HANGS,
        check=True,
    )
    text = done.stdout.strip()
    if shell == "zsh":
        text = text.removeprefix("_arguments '*: :((").removesuffix("))'")
    names = [name.partition("\t")[0].partition('":"')[0].strip('"') for name in text.splitlines()]
    return names, set(json.loads(done.stderr.strip().splitlines()[-1]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Runs where they are by default, and elsewhere."""
    for place in ("runs/demo/20260101-120000", "else/mine/20260102-120000"):
        run = tmp_path / place
        run.mkdir(parents=True)
        (run / "recipe.yaml").write_text("x: 1\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_names_are_offered_and_nothing_heavy_is_loaded(shell: str, folder: Path) -> None:
    recipes, models = [one.name for one in list_recipes()], [one.name for one in list_models()]
    assert len(recipes) > 15 and len(models) > 5
    expected = {
        "doitune train ": recipes,
        "doitune train curated-16": ["curated-160"],
        "doitune plan demo --model ": models,
        "doitune resume ": ["last", "demo/20260101-120000"],
        "doitune export --runs else m": ["mine/20260102-120000"],
        "doitune eval d": ["demo/20260101-120000", "demo"],
        "doitune eval last --suite doit-test,cm": ["doit-test,cmmlu"],
        "doitune plan demo --card rtx4090": ["rtx4090", "rtx4090d", "rtx4090laptopgpu"],
        "doitune data dr": ["draw"],
    }
    for line, names in expected.items():
        found, loaded = offered(shell, line, folder)
        assert found == names, line
        assert not loaded, line


def test_commands_are_offered(folder: Path) -> None:
    commands, _ = offered("bash", "doitune ", folder)
    assert {"train", "resume", "eval", "data"} <= set(commands)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_given_its_script(shell: str) -> None:
    """By the name of the shell, as an installer of packages asks; a person's own shell is found."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'doitune'; from doitune.__main__ import main; main()",
        ],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "_DOITUNE_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=True,
    )
    assert f"_DOITUNE_COMPLETE=complete_{shell}" in done.stdout


GROUPS = "base", "data", "grow", "recipes", "runs", "selftest"


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doitune", *words],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )


def test_alone_doitune_and_its_groups_show_their_help() -> None:
    """Trap: the help as an error on stderr, exit 2."""
    commands = typer.main.get_command(app).commands
    assert {name for name, one in commands.items() if hasattr(one, "commands")} == set(GROUPS)
    for words in ((), *((name,) for name in GROUPS)):
        alone, asked, short = typed(*words), typed(*words, "--help"), typed(*words, "-h")
        assert alone.returncode == asked.returncode == short.returncode == 0
        assert alone.stdout == asked.stdout == short.stdout and "Commands:" in alone.stdout
        assert not alone.stderr
    assert typed("train", "-h").stdout == typed("train", "--help").stdout != ""
    assert typed("data", "check", "-h").stdout == typed("data", "check", "--help").stdout != ""


def test_the_version() -> None:
    shown = typed("--version")
    assert (shown.returncode, shown.stdout) == (0, f"doitune {__version__}\n")
    assert not loaded_by("--version")
