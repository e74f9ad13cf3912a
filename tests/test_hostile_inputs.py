"""Corpora, recipes, names, edited evaluations and `--set` values that are broken or mean harm: never a
traceback, never over 10 s or 1 GiB. The default run takes a sample of the full one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hostile_inputs import CORPORA, DEEP, EDITS, NAMES, RECIPES, settings
from limited import assert_refused, command

import doitune.train.plan  # noqa: F401  # once, in this process
from doitune.data.example import Message
from doitune.evals import saved
from doitune.evals.task import Item, Reply, Verdict
from doitune.report.read import _scored

USER = (2, 65, 74, 78)
"""Exit codes of what a user does wrong."""
SETTINGS = settings()
assert len(SETTINGS) >= 130


def sampled(names: Iterable[Any], every: int) -> list[Any]:
    """All: one of so many in the default tests, one with the slow ones, the rest marked hostile."""

    def marks(number: int) -> tuple[pytest.MarkDecorator, ...]:
        place = number % every
        return () if place == 0 else (pytest.mark.slow,) if place == every // 2 else (pytest.mark.hostile,)

    return [
        pytest.param(one, id=f"{number} {str(one)[:30].encode('unicode_escape').decode()}", marks=marks(number))
        for number, one in enumerate(names)
    ]  # fmt: skip


@pytest.mark.parametrize("name", sampled(CORPORA, 16))
def test_a_hostile_corpus(name: str, tmp_path: Path) -> None:
    path = str(CORPORA[name](tmp_path))
    for words in (("data", "check", path), ("data", "draw", "demo", "--corpus", path)):
        assert_refused(command(*words, folder=tmp_path), (0, *USER), f"{name}: {words[:2]}")


@pytest.mark.parametrize("name", sampled(RECIPES, 13))
def test_a_hostile_recipe(name: str, tmp_path: Path) -> None:
    content = RECIPES[name]
    (tmp_path / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = command("train", "mine.yaml", "--dry-run", folder=tmp_path)
    assert_refused(found, (0, *USER), name)


COMMANDS = (
    ("train", "{}", "--dry-run"), ("train", "demo", "--dry-run", "--model", "{}"), ("train", "demo", "--dry-run", "--corpus", "{}"), ("eval", "{}", "--limit", "1"),
    ("resume", "{}"), ("compare", "{}"), ("report", "{}"), ("data", "check", "{}"), ("base", "check", "{}"), ("plan", "demo", "--model", "{}"), ("export", "{}", "--out", "x"), ("score", "{}"),
)  # fmt: skip


@pytest.mark.parametrize("number", sampled(range(len(NAMES)), 16))
def test_a_hostile_name(number: int, tmp_path: Path) -> None:
    """Each name with three of the commands by turns."""
    for turn in range(3):
        words = COMMANDS[(number + 4 * turn) % len(COMMANDS)]
        found = command(*(NAMES[number] if word == "{}" else word for word in words), folder=tmp_path)
        assert_refused(found, USER, f"{words} of {NAMES[number][:40]!r}")


@pytest.mark.parametrize("text", sampled(SETTINGS, 50))
def test_a_hostile_setting(text: str, tmp_path: Path) -> None:
    found = command("train", "demo", "--dry-run", f"--set={text}", folder=tmp_path)
    assert_refused(found, (0, *USER), text[:60])


@pytest.mark.parametrize("edit", sampled(EDITS, 9))
def test_a_hostile_outcome(edit: tuple[str, Any], tmp_path: Path) -> None:
    """Trap: `choices` of ten thousand million took 80 GB."""
    key, value = edit
    folder = tmp_path / "runs" / "demo" / "20260101-000000" / "evals" / "doit-valid" / "base"
    manifest = saved.Manifest("doit-valid", 0, "d", {"base": "x"}, "f", ("a",), {"a": 2})
    saved.write_manifest(folder, manifest)
    item = Item("a#1", "a", "single_choice", "letters", (Message("user", "?"),), "A", ("A", "B"))
    line = saved.Line(item, "d", manifest.model, Reply("p", 3), {"fixed": Verdict("A", True)}, {"fixed": 0.5})
    path = folder / saved.OUTCOMES
    rows = [json.dumps({**line.to_json(), "id": f"a#{number}"}) for number in (1, 2)]
    path.write_text("\n".join([json.dumps({**json.loads(rows[0]), key: value}), rows[1]]) + "\n")
    found = command("score", str(folder))
    assert_refused(found, (65,), f"{key}={value!r}")
    assert f"{path}:1" in found.said.replace("\n", ""), found.said


@pytest.mark.parametrize(
    "text", [DEEP, '{"tables": ' + DEEP + "}", "[]", "{}", '{"tables": []}', "NaN", "\0"]
)
def test_a_hostile_report(text: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "demo" / "20260101-000000"
    folder = run / "evals" / "doit-valid" / "base"
    folder.mkdir(parents=True)
    (run / "recipe.yaml").write_text("x")
    (folder / "report.json").write_text(text)
    assert_refused(command("runs", "list", folder=tmp_path), (0,), text[:20])
    with pytest.raises(saved.CheckpointError, match=r"report\.json: not the scores") as caught:
        _scored(folder)
    assert caught.value.hint
