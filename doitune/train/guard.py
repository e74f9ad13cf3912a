"""Guard: what watches over the steps of one training; what it finds is logged and reported, or raised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property

from doitune.train.events import StepLog
from doitune.train.setup import Setup
from doitune.train.spikes import Watch

NAMED_ROWS = 5


class Guard:
    """Its watch starts from what the run has logged, when the first step is seen."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @cached_property
    def watch(self) -> Watch:
        """The last steps."""
        return Watch(self.setup.material.course.total_steps, self.setup.run.log.lines())

    def forget(self) -> None:
        """The run stands at another step than the last one seen: the watch starts from its log again."""
        self.__dict__.pop("watch", None)

    def is_finite(
        self, step: int, loss: float, grad_norm: float, members: Sequence[int], sums: Sequence[float]
    ) -> bool:
        """Whether a step (from 1) may be made. One that may not is logged with its rows and reported;
        DivergedError where it is one too many.

        `sums`: the losses of the examples at the places `members`.
        """
        watch = self.watch  # read before a skipped step is logged: it would count twice
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return True
        rows = [
            self.setup.material.examples[place].place
            for place, value in zip(members, sums, strict=True)
            if not math.isfinite(value)
        ]
        problem = f"step {step}: loss {loss}, gradient norm {grad_norm}{_named(rows)}"
        watch.skip(step, problem)
        self.setup.run.log.add(
            {"event": "skipped", "step": step, "loss": str(loss), "grad_norm": str(grad_norm), "rows": rows}
        )
        self.setup.note(f"{problem}: the step is skipped, no weight moves")
        return False

    def see(self, log: StepLog) -> None:
        """Take note of a step that was made and logged; spikes are logged and reported. DivergedError after
        steps with a loss of exactly 0."""
        for spike in self.watch.see(log.step, log.loss, log.grad_norm):
            self.setup.run.log.add({"event": "spike", **asdict(spike)})
            self.setup.note(spike.text)


def _named(rows: Sequence[str]) -> str:
    """The first rows, and how many there are beside them."""
    more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    return f"; rows: {', '.join(rows[:NAMED_ROWS])}{more}" if rows else ""
