"""Course: which examples each optimiser step of a run learns from, as a pure function of ids and recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass

from doitune.prompt.batch import epoch_order, steps


@dataclass(frozen=True)
class Course:
    """Which examples each optimiser step learns from: a pure function of ids, seed, epochs and step size."""

    ids: tuple[str, ...]
    seed: int
    examples_per_step: int
    epochs: int
    max_steps: int | None

    @property
    def steps_per_epoch(self) -> int:
        """The last step of an epoch may be smaller."""
        return math.ceil(len(self.ids) / self.examples_per_step)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        whole = self.steps_per_epoch * self.epochs
        return whole if self.max_steps is None else min(whole, self.max_steps)

    def members(self, step: int) -> tuple[int, ...]:
        """Places of the examples of step `step` (from 0)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._epoch(epoch)[place]

    def _epoch(self, epoch: int) -> list[tuple[int, ...]]:
        known = self.__dict__.get("_known")
        if known is None or known[0] != epoch:
            known = (epoch, steps(epoch_order(self.ids, self.seed, epoch), self.examples_per_step))
            object.__setattr__(self, "_known", known)
        return known[1]

    def epoch_at(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return step / self.steps_per_epoch
