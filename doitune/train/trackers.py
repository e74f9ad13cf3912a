"""Metrics to TensorBoard, Weights & Biases, MLflow, trackio or SwanLab, through accelerate's trackers, when a
recipe asks for them.

metrics.jsonl is written in any case and is the record; a tracker that is not installed is a user's problem,
said before the run begins; one that fails later never ends a run.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from doitune.errors import FitError
from doitune.run.folder import Run
from doitune.run.layout import TRACKERS
from doitune.train.events import Event, StepLog, ValidationLog
from doitune.train.setup import Setup

INSTALL = {name: name for name in ("tensorboard", "wandb", "mlflow", "trackio", "swanlab")}
"""What `pip install` names each tracker."""


def refuse_missing(names: tuple[str, ...]) -> None:
    """FitError for a tracker whose package is not installed; called before a run begins."""
    missing = [name for name in names if find_spec(INSTALL[name]) is None]
    if missing:
        packages = " ".join(INSTALL[name] for name in missing)
        raise FitError(
            f"not installed: the tracker {', '.join(missing)}",
            f"pip install {packages}, or --set train.trackers=[]",
        )


class Trackers:
    """The trackers of one run; empty when the recipe names none. One that fails is left, with a note: the
    run goes on, and its metrics.jsonl has everything."""

    def __init__(self, names: tuple[str, ...], run: Run, note: Callable[[str], None]) -> None:
        """Start each tracker. FitError where its package is missing."""
        self.started: dict[str, Any] = {}
        self.note = note
        if not names:
            return
        refuse_missing(names)
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState(cpu=True)  # accelerate's trackers ask it whether this is the main process
        for name in names:
            with self._left_if_it_fails(name), _same_signals():
                kind = LOGGER_TYPE_TO_CLASS[name]
                tracker = kind(run.name.replace("/", "-"), **_options(name, kind, run.folder / TRACKERS))
                if hasattr(tracker, "start"):
                    tracker.start()
                self.started[name] = tracker

    def log(self, values: dict[str, float], step: int) -> None:
        """Send numbers of one step."""
        for name, tracker in [*self.started.items()]:
            with self._left_if_it_fails(name):
                tracker.log(values, step=step)

    def close(self) -> None:
        """Flush and end."""
        for name, tracker in [*self.started.items()]:
            with self._left_if_it_fails(name):
                tracker.finish()

    @contextmanager
    def _left_if_it_fails(self, name: str) -> Iterator[None]:
        """A service that is out of reach or out of order is none of the training's business."""
        try:
            yield
        except Exception as error:
            self.started.pop(name, None)
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            self.note(f"warning: the tracker {name} failed and gets no more: {first}; metrics.jsonl has all")


def _options(name: str, kind: Any, folder: Path) -> dict[str, str]:
    """What a tracker is started with. SwanLab without a login would ask for one at the terminal: it keeps its
    files offline, for `swanlab sync`, unless SWANLAB_MODE says otherwise."""
    if getattr(kind, "requires_logging_directory", False):
        return {"logging_dir": str(folder)}
    if name != "swanlab":
        return {}
    offline = not os.environ.get("SWANLAB_MODE") and not _swanlab_login()
    return {"log_dir": str(folder / name), **({"mode": "offline"} if offline else {})}


def _swanlab_login() -> bool:
    """Whether SwanLab has a key: in the environment, or from `swanlab login`."""
    home = os.environ.get("SWANLAB_ROOT") or os.environ.get("SWANLAB_SAVE_DIR") or Path.home() / ".swanlab"
    places = Path(home) / ".netrc", Path(".swanlab") / ".netrc"
    return bool(os.environ.get("SWANLAB_API_KEY")) or any(place.is_file() for place in places)


@contextmanager
def _same_signals() -> Iterator[None]:
    """After it the process answers Ctrl-C as before: SwanLab would end the run there and then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


@contextmanager
def tracked(setup: Setup) -> Iterator[Setup]:
    """The same setup; the numbers that it reports go to the recipe's trackers, too. FitError where one is
    missing."""
    trackers = Trackers(setup.recipe.train.trackers, setup.run, setup.note)

    def report(event: Event) -> None:
        if isinstance(event, (StepLog, ValidationLog)):
            trackers.log(_numbers(event), event.step)
        setup.report(event)

    try:
        yield replace(setup, report=report)
    finally:
        trackers.close()


def _numbers(event: StepLog | ValidationLog) -> dict[str, float]:
    """The numbers of an event for trackers, by a flat name."""
    prefix = "train" if isinstance(event, StepLog) else "validation"
    flat: dict[str, Any] = {}
    for key, value in asdict(event).items():
        pairs = (
            [(f"{prefix}/{key}/{inner}", number) for inner, number in value.items()]
            if isinstance(value, dict)
            else [(f"{prefix}/{key}", value)]
        )
        flat.update({name: float(number) for name, number in pairs if isinstance(number, (int, float))})
    return flat
