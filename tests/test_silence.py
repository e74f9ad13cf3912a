"""No command is silent for two seconds: whatever takes long has said what it is by then, on a terminal and in a
log."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from doitune.console import activity, progress
from doitune.recipe.resolve import resolve
from doitune.system.doing import Doing, counted, doing, heard_by
from doitune.train.session import resume, start

CLI = Path(__file__).parents[1] / "doitune" / "cli"

TRAINING = {
    "doitune.data.layout:Layout.scan": "reading the rows of",
    "doitune.data.leaks:_pairs": "looking for judged rows in",
    "doitune.backends.tokenizer:refuse_wild": "reading the tokenizer",
    "doitune.prepare.encoding:encode_all": "encoding and proving rows",
    "doitune.prepare.encoding:prove_law": "encoding and proving rows",
    "doitune.run.model:pick_backend": "loading torch",
    "doitune.backends.hf:_load_base": "loading the base",
    "doitune.backends.hf:adapt": "putting an adapter on the base",
    "doitune.base.folder:file_sha256": "hashing the base's files",
    "doitune.train.packing:_measure": "comparing packed rows with each row alone",
    "doitune.train.loop:forward_backward": "",
    "doitune.train.validation:_measured": "measuring validation rows",
    "doitune.evals.suites.doit:judge_reply": "asking validation questions",
    "doitune.train.retention:save_checkpoint": "saving the checkpoint of step",
    "doitune.train.endings:in_parts": r"asking \d+ questions to see whether the model ends its replies",
}
"""What takes long in a training on a real model, and what has been said when it begins. "": it says it itself,
with each micro-batch."""


def place_of(name: str) -> tuple[Any, str]:
    """The module or class, and the attribute of it, that `module:name` is."""
    module, _, path = name.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, last = path.split(".")
    for one in outer:
        owner = getattr(owner, one)
    return owner, last


@contextmanager
def watched(names: list[str], seen: Callable[[str], None]) -> Iterator[None]:
    """Inside, `seen` is told of each call of these functions, before it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            owner, last = place_of(name)
            real = getattr(owner, last)

            def call(*arguments: Any, name: str = name, real: Any = real, **more: Any) -> Any:
                seen(name)
                return real(*arguments, **more)

            patch.setattr(owner, last, call)
        yield


def test_every_phase_of_a_training_has_been_said_when_it_begins(tiny_recipe: Path, tmp_path: Path) -> None:
    """Traps: a phase that nobody named (over a minute before step 1 on a real model), or one that runs under the
    name of the one before."""
    from doitune.evals.suites.doit import validation_score

    said: list[Doing] = []
    found: dict[str, set[str]] = {}

    def seen(name: str) -> None:
        found.setdefault(name, set()).add(said[-1].text if said else "")

    resolved = resolve(
        str(tiny_recipe), overrides=["train.max_steps=2", "train.validation_rows_per_ability=2"]
    )
    with heard_by(said.append), watched(list(TRAINING), seen):
        start(resolved, runs=tmp_path / "runs", scorer=validation_score, on_event=lambda event: None)
    assert set(found) == set(TRAINING), set(TRAINING) - set(found)
    wrong = {
        name: texts
        for name, texts in found.items()
        if not all(re.match(TRAINING[name], text) for text in texts)
    }
    assert not wrong
    counts = [one for one in said if one.text.startswith("step 2: micro-batches")]
    assert counts and all(one.total for one in counts)


class Kept(activity.Activity):
    """Keeps the lines that it is to show."""

    def __init__(self, *, live: bool) -> None:
        super().__init__(live=live)
        self.lines: list[str] = []

    def show(self, line: str) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self.lines.append("closed")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is 20 ms."""
    monkeypatch.setattr(activity, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(activity, "TICK_SECONDS", 0.005)


def test_each_delay_of_a_training_is_explained_in_its_log(
    quick: None, tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of the long phases takes ten times as long as may be silent: the last line names it while it goes
    on."""
    from doitune.evals.suites.doit import validation_score

    delayed: set[str] = set()
    shown: list[str] = []
    unexplained: list[str] = []

    def slow(name: str) -> None:
        if name not in delayed:
            delayed.add(name)
            time.sleep(0.2)
            shown.extend(capsys.readouterr().err.splitlines())
            if not re.match(TRAINING[name], shown[-1]):
                unexplained.append(f"{name}: {shown[-1]}")

    slow_ones = [name for name, text in TRAINING.items() if text and "save_checkpoint" not in name]
    resolved = resolve(
        str(tiny_recipe), overrides=["train.max_steps=1", "train.validation_rows_per_ability=1"]
    )
    with watched(slow_ones, slow), progress.TrainingDisplay() as display:
        start(resolved, runs=tmp_path / "runs", scorer=validation_score, on_event=display)
    assert delayed == set(slow_ones) and not unexplained


def test_a_resume_says_what_it_takes_up(tiny_recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []
    resolved = resolve(str(tiny_recipe), overrides=["train.max_steps=2", "train.schedule=constant"])
    run = start(resolved, runs=tmp_path / "runs", scorer=None, on_event=lambda event: None)
    (run.folder / "done.json").unlink()
    with heard_by(lambda now: said.append(now.text)):
        resume(run, scorer=None, on_event=lambda event: None)
    assert "taking up the checkpoint of step 2" in said


def test_a_log_names_long_work_once_and_then_at_longer_and_longer_gaps(
    quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traps: a line for each of thousands of quick steps; a line a second in the log of a run of hours."""
    monkeypatch.setattr(activity, "FIRST_GAP_SECONDS", 0.05)
    with Kept(live=False) as now:
        for place in range(200):
            doing(f"quick {place}")
        for _ in counted("long", range(8)):
            time.sleep(0.1)
    lines = now.lines[:-1]
    assert 3 <= len(lines) <= 6 and lines[0].startswith("long: ") and lines[-1].startswith("long: ")
    assert re.search(r"of 8 \(\d+s\)$", lines[-1])


def test_steps_are_one_work_in_a_log(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: a line for each of the slow steps of a run of hours, beside that of the step itself."""
    monkeypatch.setattr(activity, "FIRST_GAP_SECONDS", 0.1)
    with Kept(live=False) as now:
        for step in range(12):
            doing(f"step {step}: micro-batches", 0, 3)
            time.sleep(0.05)
            now.pace.said()
    assert len(now.lines) == 2


def test_a_terminal_is_told_several_times_a_second(quick: None) -> None:
    with Kept(live=True) as now:
        doing("loading", 3, 9)
        time.sleep(0.3)
    lines = now.lines[:-1]
    assert len(lines) > 10 and lines[0].startswith("loading: 3 of 9")


def test_a_live_line_never_stays_at_work_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: steps that are too quick to be named, below a line that says `loading` all the while."""
    monkeypatch.setattr(activity, "TICK_SECONDS", 0.005)
    monkeypatch.setattr(activity, "FIRST_SECONDS", 0.2)
    with Kept(live=True) as now:
        doing("quick")
        time.sleep(0.05)
        assert not now.lines
        doing("loading")
        time.sleep(0.4)
        for step in range(20):
            doing(f"step {step}")
            time.sleep(0.02)
    assert now.lines[0].startswith("loading") and now.lines[-2].startswith("step 1")


def test_nobody_hears_after_the_work_and_a_child_has_no_hearer() -> None:
    import os

    heard: list[Doing] = []
    with heard_by(heard.append):
        doing("in")
        child = os.fork()
        if child == 0:
            doing("in the child")
            os._exit(len(heard))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    doing("after")
    assert heard == [Doing("in")]


LIGHT = {
    "manual",
    "plans",
    "base_list",
    "recipes_list",
    "recipes_show",
    "recipes_diff",
    "recipes_copy",
    "recipes_check",
    "recipes_explain",
    "runs_list",
}
"""Commands that read a few small files."""


def test_every_command_shows_what_it_does() -> None:
    commands = {
        node.name: ast.unparse(node)
        for path in CLI.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and "Example: doitune" in (ast.get_docstring(node) or "")
    }
    assert len(commands) > 20 and set(commands) >= LIGHT
    silent = {
        name
        for name, text in commands.items()
        if not re.search("LiveLine|TrainingDisplay|FamilyDisplay", text)
    }
    assert silent == LIGHT
