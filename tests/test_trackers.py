"""Trackers are sent what metrics.jsonl records, and a missing one is said before a run begins."""

from __future__ import annotations

import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from doitune.errors import FitError
from doitune.recipe.resolve import resolve
from doitune.train.session import start
from doitune.train.trackers import _options


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


class _Lab:
    """Stands for the package swanlab: what it was asked for. It takes Ctrl-C for itself, and fails at step
    `breaks`."""

    def __init__(self, breaks: int = 0) -> None:
        self.breaks, self.begun, self.sent, self.ended = breaks, {}, {}, False
        self.config: dict[str, str] = {}

    def init(self, **options: object) -> _Lab:
        self.begun = options
        signal.signal(signal.SIGINT, lambda number, frame: sys.exit("swanlab took the signal"))
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        if step == self.breaks:
            raise OSError("no route to host")
        self.sent[step] = values

    def finish(self) -> None:
        self.ended = True


@pytest.mark.parametrize("breaks", [0, 3])
def test_swanlab_keeps_its_files_here_without_a_login_and_ends_no_run(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: int
) -> None:
    """Traps: a prompt for a key in the middle of a training, Ctrl-C in another's hands, a run lost to a
    service that is out of reach."""
    lab = _Lab(breaks)
    monkeypatch.setitem(sys.modules, "swanlab", lab)
    monkeypatch.setattr("doitune.train.trackers.find_spec", lambda name: name)
    for name in ("SWANLAB_API_KEY", "SWANLAB_MODE", "SWANLAB_SAVE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SWANLAB_ROOT", str(tmp_path / "nobody"))
    before, notes = signal.getsignal(signal.SIGINT), []
    run = start(
        resolve(str(tiny_recipe), overrides=["train.trackers=[swanlab]"]),
        runs=tmp_path / "runs",
        scorer=None,
        on_event=lambda event: notes.append(getattr(event, "text", "")),
    )
    assert lab.begun["mode"] == "offline" and Path(str(lab.begun["log_dir"])).parent.parent == run.folder
    assert signal.getsignal(signal.SIGINT) is before
    said = [text for text in notes if "tracker swanlab" in text]
    assert (run.done() or {})["final_step"] == 8
    if breaks:
        assert {*lab.sent} == {1, 2} and len(said) == 1 and "no route to host" in said[0]
    else:
        assert {*lab.sent} == {*range(1, 9)} and lab.ended and not said
        logged = {line["step"]: line["loss"] for line in run.log.lines() if line["event"] == "step"}
        assert lab.sent[5]["train/loss"] == logged[5]


def test_a_login_or_a_mode_of_one_s_own_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SWANLAB_MODE", raising=False)
    monkeypatch.setenv("SWANLAB_ROOT", str(tmp_path))
    options = partial(_options, "swanlab", object(), tmp_path)
    assert options()["mode"] == "offline"
    (tmp_path / ".netrc").write_text("machine api login a password b")
    assert "mode" not in options()
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("SWANLAB_MODE", "disabled")
    assert "mode" not in options()
