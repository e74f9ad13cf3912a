"""The directory of a run has one plan: its names stand in `run/layout.py`, and every reader and writer asks there.

Trap: a file that is renamed in one room, while another still looks for it under the old name and finds nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from doitune.run import layout

PACKAGE = Path(layout.__file__).parents[1]

NAMES = {
    value
    for name, value in vars(layout).items()
    if name.isupper() and isinstance(value, str) and name not in ("BASE", "BASES")
}
"""Names of files and folders; an untrained model is called `base` in reports, too."""

WORDS = {layout.TRACKERS, layout.CHECKPOINTS}
"""Words that stand for other things where they stand alone."""


def _written(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every text in a module that may be a path: docstrings and prose (texts with a space) are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            yield node.lineno, node.value


def _names_in(text: str) -> set[str]:
    parts = set(text.split("/"))
    found = parts & NAMES
    if len(parts) == 1:
        found -= WORDS
    return found | {
        text for begin in (layout.STEP, layout.BAD, layout.OLD, layout.TRASH) if text.startswith(begin)
    }


@pytest.mark.parametrize(
    "text",
    ["recipe.yaml", "*/*/evals/*", "checkpoints/step-*", "step-", ".bad-step-000001", "x/outcomes.jsonl"],
)
def test_a_name_is_seen(text: str) -> None:
    assert _names_in(text)


@pytest.mark.parametrize(
    "text", ["base", "checkpoints", "recipe", "steps", "report", "adapter_model.safetensors"]
)
def test_a_word_is_no_name(text: str) -> None:
    assert not _names_in(text)


def test_no_other_file_writes_a_name_of_the_layout() -> None:
    assert len(NAMES) > 20
    elsewhere = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == Path(layout.__file__):
            continue
        for line, text in _written(ast.parse(path.read_text(encoding="utf-8"))):
            elsewhere += [f"{path.relative_to(PACKAGE)}:{line}: {text!r}" for _ in _names_in(text)]
    assert not elsewhere


def test_a_steps_folder_is_named_after_it() -> None:
    for step in (0, 1, 320, 999_999, 1_000_000):
        assert layout.step_of(layout.step_name(step)) == step
    assert [
        layout.step_of(name) for name in ("step-1", "step-best", "step-0000001x", "base", ".bad-step-000001")
    ] == [None] * 5


def test_a_runs_recipe_knows_its_name_and_no_other_file_does(tmp_path: Path) -> None:
    run = tmp_path / "curated-40" / "20260101-000000"
    run.mkdir(parents=True)
    recipe = run / layout.RECIPE
    recipe.write_text("")
    assert layout.recipe_name(recipe) is None, "a file called recipe.yaml anywhere"
    (run / layout.ORIGIN).write_text("{}")
    assert layout.recipe_name(recipe) == "curated-40"
    assert layout.recipe_name(run / "other.yaml") is None
    assert layout.recipe_name(Path("a\0b") / layout.RECIPE) is None, "a name that no file can have"
