"""What a command says of a run whose own training works on it meanwhile, as under `doitune grow`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import checkpoint, make

from doitune.__main__ import main
from doitune.errors import CheckpointError, ModelError
from doitune.evals import targets
from doitune.evals.request import Request
from doitune.recipe.resolve import resolve
from doitune.run.checkpoints import keep
from doitune.run.folder import Run
from doitune.run.layout import MANIFEST
from doitune.run.model import one_checkpoint
from doitune.train.session import start

COMMANDS = (
    ("export", "last", "--out", "out"),
    ("export", "last", "--to", "adapter,gguf", "--out", "out"),
    ("push", "last", "me/mine", "--dry-run"),
    ("eval", "last"),
    ("eval", "last", "--checkpoint", "all"),
    ("chat", "last", "--prompt", "x"),
    ("serve", "last", "--port", "0"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_run_without_a_checkpoint_yet_says_that_it_is_still_training(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["doitune", *words])
    with run.lock(), pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().err
    assert left.value.code == CheckpointError.exit_code, said
    assert f"error: {run.name} is still training and has no checkpoint yet" in said
    assert "wait for its end" in said and "doitune runs list" in said and "doitune resume" not in said
    assert not (tmp_path / "out").exists()


def test_a_run_that_stopped_or_lost_its_checkpoints_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: `resume`, which says of a whole run only that it is whole."""
    run = make(tmp_path / "my runs")
    with pytest.raises(CheckpointError, match="has no checkpoint") as caught, one_checkpoint(run, "best"):
        pass
    assert "doitune resume" in caught.value.hint
    monkeypatch.setattr(Run, "done", lambda self: {"best_step": 1})
    with pytest.raises(CheckpointError, match="are gone") as caught, one_checkpoint(run, "best"):
        pass
    assert caught.value.hint.endswith(f"doitune train '{run.folder / 'recipe.yaml'}'")


def test_a_checkpoint_that_the_training_deletes_meanwhile_is_what_is_said(tmp_path: Path) -> None:
    """Trap: an adapter that is in no folder any more, and a hint at --lora, which nobody typed."""
    run = make(tmp_path)
    for step in (1, 2):
        checkpoint(run, step)
    failed = ModelError("is no language adapter", "--lora takes a folder")
    with pytest.raises(ModelError, match="no language adapter"), one_checkpoint(run, "last"):
        raise failed
    deleted = pytest.raises(CheckpointError, match="is still training, and has deleted")
    with run.lock(), deleted as caught, one_checkpoint(run, "1") as step:
        assert step == "1"
        keep(run.checkpoints, {2})
        raise failed
    assert "step 1 " in caught.value.problem and "wait for its end" in caught.value.hint
    with pytest.raises(CheckpointError, match="was deleted while it was read"), one_checkpoint(run, "2"):
        (run.checkpoints.of_step(2).folder / MANIFEST).unlink()
        raise OSError


@pytest.fixture
def trained(tiny_recipe: Path, tmp_path: Path) -> Run:
    few = ["train.max_steps=2"]
    return start(
        resolve(str(tiny_recipe), overrides=few), runs=tmp_path, scorer=None, on_event=lambda event: None
    )


def test_an_evaluation_does_not_need_the_checkpoint_that_it_has_taken_up(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: the base is asked for hours, and the checkpoint looked up only then."""
    take: Callable[..., object] = targets._evaluated

    def asked(loaded: object, task: object, folder: Path, *more: str) -> object:
        if folder.name == "base":
            for one in trained.checkpoints.all():
                (one.folder / MANIFEST).unlink()
        return take(loaded, task, folder, *more)

    monkeypatch.setattr(targets, "_evaluated", asked)
    request = Request(suites=("doit-valid",), limit=1)
    found = targets.evaluate_target(
        str(trained.folder), request, runs=trained.folder, on_progress=lambda *_: None
    )
    assert [one.checkpoint for one in found] == ["base", "step-000002"]
