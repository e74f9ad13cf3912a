"""Trackers are sent what metrics.jsonl records, and a missing one is said before a run begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from doitune.errors import FitError
from doitune.recipe.resolve import resolve
from doitune.train.session import start


def test_tensorboard_gets_the_logged_losses(tiny_recipe: Path, tmp_path: Path) -> None:
    """Trap: a tracker that is started and never written to."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = start(
        resolve(str(tiny_recipe), overrides=["train.trackers=[tensorboard]"]),
        runs=tmp_path,
        scorer=None,
        on_event=lambda event: None,
    )
    (events,) = run.folder.rglob("events.out.tfevents.*")
    read = accumulator.EventAccumulator(str(events.parent))
    read.Reload()
    sent = {event.step: event.value for event in read.Scalars("train/loss")}
    logged = {line["step"]: line["loss"] for line in run.log.lines() if line["event"] == "step"}
    assert len(logged) == 8
    assert sent == pytest.approx(logged, rel=1e-5)
    assert {event.step for event in read.Scalars("validation/loss")} == {4, 8}


def test_a_missing_tracker_is_refused_before_a_run_begins(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doitune.train.trackers.find_spec", lambda name: None)
    with pytest.raises(FitError, match="not installed: the tracker wandb"):
        start(
            resolve(str(tiny_recipe), overrides=["train.trackers=[wandb]"]),
            runs=tmp_path / "runs",
            scorer=None,
            on_event=lambda event: None,
        )
    assert not list((tmp_path / "runs").iterdir())
