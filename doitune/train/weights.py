"""Weights: what a training moves, the optimiser that moves it, and a copy of both to go back to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.backends.optimiser import build_optimiser, put_state, set_rate, take_state
from doitune.backends.out_of_memory import memory_for

if TYPE_CHECKING:
    import torch

    from doitune.backends.loaded import LoadedModel
    from doitune.recipe.fields import TrainSection


@dataclass(frozen=True)
class Aside:
    """Weights and moments kept on the CPU, to be put back bit by bit."""

    weights: dict[str, torch.Tensor]
    tensors: dict[str, torch.Tensor]
    numbers: dict[str, int | float]


class Weights:
    """The trainable parameters of a model and their optimiser."""

    def __init__(self, model: LoadedModel, section: TrainSection) -> None:
        self.model, self.section = model, section
        self.parameters = model.trainable()
        self.untrained: Aside | None = None  # until there is a checkpoint to go back to
        self.renew()

    def renew(self) -> None:
        """A fresh optimiser, without moments."""
        self.optimiser = build_optimiser(self.parameters, self.section, self.model.device)

    def clip(self) -> float:
        """Clip the gradient by its norm; returns the norm before clipping."""
        import torch

        limit = self.section.clip_norm
        with memory_for("step"):
            return float(
                torch.nn.utils.clip_grad_norm_(
                    [parameter for _, parameter in self.parameters], limit if limit > 0 else math.inf
                )
            )

    def move(self, rate: float) -> None:
        """The optimiser's step. An optimiser that runs out of memory may have moved some weights and not
        others."""
        set_rate(self.optimiser, rate)
        with memory_for("optimiser"):
            self.optimiser.step()

    def aside(self) -> Aside:
        """A copy of weights and moments."""
        return Aside(
            {name: parameter.detach().cpu().clone() for name, parameter in self.parameters},
            *take_state(self.optimiser, self.parameters),
        )

    def put_back(self, aside: Aside) -> None:
        """Weights and moments as they were set aside, in a fresh optimiser: the old one's may be half
        made."""
        import torch

        self.renew()
        with torch.no_grad():
            for name, parameter in self.parameters:
                parameter.copy_(aside.weights[name])
        if aside.tensors or aside.numbers:
            put_state(self.optimiser, self.parameters, aside.tensors, aside.numbers)


def expected_bytes(weights: Weights) -> int:
    """About how large a checkpoint will be: weights in fp32, two moments of each (a byte and a share of a
    scale in 8 bits), and small files."""
    moments = 8 if weights.section.optimizer == "adamw" else 2.2
    sizes = [parameter.numel() for _, parameter in weights.parameters]
    return int(sum(size * (4 + (8 if size < 4096 else moments)) for size in sizes)) + (1 << 16)
