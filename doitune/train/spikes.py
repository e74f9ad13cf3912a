"""A watch on the steps of a run: values that are not finite, losses of exactly 0, spikes.

Its memory is the run's own metrics, so that a resumed run sees what an undisturbed one saw.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from doitune.errors import DivergedError

MOST_IN_A_ROW = 3
MOST_SHARE = 0.01
"""Steps that may be skipped: at most three in a row, at most 1 % of the run's. A short run may skip none."""

ZERO_LOSSES = 3
BY_HEART = 1e-4
"""Nats a token: a loss that fell below this before it was 0 is of rows that are known by heart."""

WINDOW, LEAST_KNOWN, FAR = 100, 20, 10
"""A spike is more than FAR median deviations above the median of the last WINDOW steps; at least
LEAST_KNOWN must be known."""

LOWER_RATE = "try a lower train.learning_rate, or look at the rows"


@dataclass(frozen=True)
class Spike:
    """A value of a step (`loss` or `grad_norm`) far above the median of the steps before it."""

    step: int
    what: str
    value: float
    median: float

    @property
    def text(self) -> str:
        """The same as a sentence."""
        median = f"the median of the last steps is {self.median:.4g}"
        return f"step {self.step}: {self.what} {self.value:.4g}, {median}"


class Watch:
    """What is known of the last steps."""

    def __init__(self, total_steps: int, metrics: Sequence[Mapping[str, Any]] = ()) -> None:
        """`metrics`: the lines that the run has logged so far."""
        self.total_steps = total_steps
        self.known: dict[str, deque[float]] = {
            "loss": deque(maxlen=WINDOW),
            "grad_norm": deque(maxlen=WINDOW),
        }
        self.zeros, self.last = 0, math.inf
        self.skipped: list[int] = []
        for line in metrics:
            if line.get("event") == "step":
                self._remember(line["loss"], line["grad_norm"])
            elif line.get("event") == "skipped":
                self.skipped.append(line["step"])

    def _remember(self, loss: float, grad_norm: float) -> None:
        self.zeros = self.zeros + 1 if loss == 0 and self.last > BY_HEART else 0
        self.last = loss or self.last
        self.known["loss"].append(loss)
        self.known["grad_norm"].append(grad_norm)

    def skip(self, step: int, problem: str) -> None:
        """Count a step (from 1) whose values are not finite. DivergedError with `problem` where that is
        one too many."""
        self.skipped.append(step)
        in_a_row = next(
            (back for back in range(len(self.skipped)) if self.skipped[-1 - back] != step - back),
            len(self.skipped),
        )
        if in_a_row > MOST_IN_A_ROW or len(self.skipped) > MOST_SHARE * self.total_steps:
            before = (
                f"; {len(self.skipped)} of {self.total_steps} steps are not finite, {in_a_row} in a row"
                if len(self.skipped) > 1
                else ""
            )
            raise DivergedError(f"{problem}{before}", f"the last good checkpoint is kept; {LOWER_RATE}")

    def see(self, step: int, loss: float, grad_norm: float) -> list[Spike]:
        """Take note of a step that was made; its spikes. DivergedError after ZERO_LOSSES steps with a loss
        of exactly 0 that did not come there little by little."""
        values = {"loss": loss, "grad_norm": grad_norm}
        spikes = [_spike(self.known[what], step, what, value) for what, value in values.items()]
        self._remember(loss, grad_norm)
        if self.zeros >= ZERO_LOSSES:
            raise DivergedError(
                f"the loss of steps {step - ZERO_LOSSES + 1} to {step} is exactly 0: "
                "nothing is learnt, or nothing is counted",
                "look at what is trained: doitune data preview",
            )
        return [spike for spike in spikes if spike]


def _spike(known: Sequence[float], step: int, what: str, value: float) -> Spike | None:
    if len(known) < LEAST_KNOWN:
        return None
    middle = median(known)
    # a loss that hardly moves has no spread of its own
    spread = max(median(abs(one - middle) for one in known), 0.01 * abs(middle))
    return Spike(step, what, value, middle) if value > middle + FAR * spread else None
