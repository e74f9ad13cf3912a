"""Stillness: a training in which nothing moves ends with an error, not with an adapter that is none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.backends.probe import read_probe
from doitune.errors import DivergedError
from doitune.train.setup import Setup
from doitune.train.weights import Weights

if TYPE_CHECKING:
    import torch

STEPS = 10
"""Steps after which it is looked whether weights have moved; a shorter training is looked at when it ends."""
LEAST_MOVED = 1e-7
"""Of the weights' norm: what fp32 itself rounds away."""
WATCHED = 4096
"""Values of each weight that are watched."""


class Stillness:
    """The weights as they were when this process began to train, and how many steps it has made since."""

    def __init__(self, setup: Setup, weights: Weights) -> None:
        self.setup, self.weights = setup, weights
        self.before: torch.Tensor | None = None
        self.steps = 0

    def begin(self) -> None:
        """Training begins, from a checkpoint's weights or from fresh ones."""
        self.before = self._watched()

    def _watched(self) -> torch.Tensor:
        """[n] fp32 on the CPU: the first values of every trained weight."""
        import torch

        parts = [value.detach().flatten()[:WATCHED].float().cpu() for _, value in self.weights.parameters]
        return torch.cat(parts)

    def see(self) -> None:
        """A step was made. DivergedError after some of them if no weight has moved."""
        self.steps += 1
        if self.steps == STEPS:
            self._look()

    def end(self, last: Path) -> None:
        """The training is over, `last` is its last checkpoint. DivergedError if no weight has moved, or the
        adapter leaves every loss of its probe as the base has it."""
        if self.steps:
            self._look()
        if read_probe(last).distance == 0:
            raise DivergedError(
                "nothing is learnt: the adapter changes no loss of the base", cure(self.setup)
            )

    def _look(self) -> None:
        if self.before is None:
            return
        moved, size = float((self._watched() - self.before).norm()), float(self.before.norm())
        self.before = None
        if not math.isfinite(moved) or moved > LEAST_MOVED * size:
            return
        after = f"{self.steps} steps" if self.steps > 1 else "the only step"
        raise DivergedError(
            f"nothing moves: {after} changed the weights by {moved:.2g} of {size:.2g}", cure(self.setup)
        )


def cure(setup: Setup) -> str:
    """What to look at where a training learns nothing."""
    train, lora = setup.recipe.train, setup.recipe.lora
    values = f"train.learning_rate is {train.learning_rate:g}, train.clip_norm {train.clip_norm:g}"
    return f"{values}, lora.alpha {lora.alpha:g} (rank {lora.rank}): raise what is too small"
