"""Metrics to TensorBoard, Weights & Biases, MLflow or trackio, through accelerate's trackers, when a recipe
asks for them.

metrics.jsonl is written in any case and is the record; a tracker that fails to start is a user's problem,
said before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import Any

from doitune.errors import FitError
from doitune.run.folder import Run
from doitune.run.layout import TRACKERS
from doitune.train.events import Event, StepLog, ValidationLog
from doitune.train.setup import Setup

INSTALL = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
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
    """The trackers of one run; empty when the recipe names none."""

    def __init__(self, names: tuple[str, ...], run: Run) -> None:
        """Start each tracker. FitError where its package is missing."""
        self.started: list[Any] = []
        if not names:
            return
        refuse_missing(names)
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState(cpu=True)  # accelerate's trackers ask it whether this is the main process
        for name in names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            where = (
                {"logging_dir": str(run.folder / TRACKERS)}
                if getattr(kind, "requires_logging_directory", False)
                else {}
            )
            tracker = kind(run.name.replace("/", "-"), **where)
            if hasattr(tracker, "start"):
                tracker.start()
            self.started.append(tracker)

    def log(self, values: dict[str, float], step: int) -> None:
        """Send numbers of one step."""
        for tracker in self.started:
            tracker.log(values, step=step)

    def close(self) -> None:
        """Flush and end."""
        for tracker in self.started:
            tracker.finish()


@contextmanager
def tracked(setup: Setup) -> Iterator[Setup]:
    """The same setup; the numbers that it reports go to the recipe's trackers, too. FitError where one is
    missing."""
    trackers = Trackers(setup.recipe.train.trackers, setup.run)

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
