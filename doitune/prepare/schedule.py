"""Which examples each optimiser step of a run learns from and at what rate: pure functions of ids and
recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.system.arrays import each

if TYPE_CHECKING:
    from doitune.recipe.fields import TrainSection


def steps_per_epoch(section: TrainSection, examples: int) -> int:
    """Optimiser steps that see every example once; the last one may be smaller."""
    return math.ceil(examples / section.examples_per_step)


def total_steps(section: TrainSection, examples: int) -> int:
    """Optimiser steps of a whole run."""
    whole = steps_per_epoch(section, examples) * section.epochs
    return whole if section.max_steps is None else min(whole, section.max_steps)


@dataclass(frozen=True, eq=False)
class Course:
    """Which examples each optimiser step learns from: a pure function of their ids (an array of bytes) and of
    a recipe's `train` section. The last step of an epoch may be smaller."""

    ids: Any
    section: TrainSection

    @property
    def steps_per_epoch(self) -> int:
        """See `steps_per_epoch`."""
        return steps_per_epoch(self.section, len(self.ids))

    @property
    def total_steps(self) -> int:
        """See `total_steps`."""
        return total_steps(self.section, len(self.ids))

    def members(self, step: int) -> tuple[int, ...]:
        """Places of the examples of step `step` (from 0)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        count = self.section.examples_per_step
        return tuple(self.order(epoch)[place * count : (place + 1) * count].tolist())

    def order(self, epoch: int) -> Any:
        """Places of all examples in the order of an epoch (from 0), int64."""
        known = self.__dict__.get("_known")
        if known is None or known[0] != epoch:
            from doitune.prompt.batch import epoch_order  # not for a plan, which only counts steps

            known = (epoch, epoch_order(each(self.ids), self.section.seed, epoch))
            object.__setattr__(self, "_known", known)
        return known[1]

    def epoch_at(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return step / self.steps_per_epoch


def rate_at(step: int, total_steps: int, section: TrainSection) -> float:
    """The learning rate of optimiser step `step` (from 0) of `total_steps`.

    Warm-up: (step + 1) / warmup_steps of the peak. Then from `learning_rate` at the first full step to
    `end_rate` at the last one, or (`end_rate_at`) at the one that would come next.
    """
    peak, end = section.learning_rate, section.end_rate
    if step < section.warmup_steps:
        return peak * (step + 1) / (section.warmup_steps + 1)
    way = total_steps - section.warmup_steps - (section.end_rate_at == "last_step")
    done = min(1.0, (step - section.warmup_steps) / way) if way > 0 else 0.0
    if section.schedule == "constant":
        return peak
    if section.schedule == "cosine":
        return end + (peak - end) * (1 + math.cos(math.pi * done)) / 2
    power = section.polynomial_power if section.schedule == "polynomial" else 1.0
    return end + (peak - end) * (1 - done) ** power
