"""Metrics to TensorBoard, Weights & Biases, MLflow or trackio, through accelerate's trackers, when a recipe asks for them.

metrics.jsonl is written in any case and is the record; a tracker that fails to start is a user's problem, said before the first step.
"""

from __future__ import annotations

from typing import Any

from doitune.errors import FitError
from doitune.run import Run

INSTALL = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
"""What `pip install` calls each tracker."""


class Trackers:
    """The trackers of one run; empty when the recipe names none."""

    def __init__(self, names: tuple[str, ...], run: Run) -> None:
        """Start each tracker. FitError where its package is missing."""
        self.started: list[Any] = []
        if not names:
            return
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

        PartialState(cpu=True)  # accelerate's trackers ask it whether this is the main process
        available = {str(getattr(name, "value", name)) for name in get_available_trackers()}
        for name in names:
            if name not in available:
                raise FitError(f"the tracker {name} is not installed", f"pip install {INSTALL[name]}, or --set train.trackers=[]")
            kind = LOGGER_TYPE_TO_CLASS[name]
            where = {"logging_dir": str(run.folder / "trackers")} if getattr(kind, "requires_logging_directory", False) else {}
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
