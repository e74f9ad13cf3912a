"""Where a training stands: weights, moments and counters of an optimiser boundary, in a checkpoint's files
or kept aside in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.optimiser import put_state, take_state
from doitune.errors import CheckpointError, DivergedError
from doitune.run.layout import STATE, STATE_TENSORS
from doitune.system.disk import write_json

if TYPE_CHECKING:
    import torch

    from doitune.backends.loaded import LoadedModel

STATE_SCHEMA = "doitune.state/1"

Named = list[tuple[str, "torch.nn.Parameter"]]


@dataclass(frozen=True)
class Counters:
    """Everything beside tensors that a resume needs. `step` is the number of optimiser steps done."""

    step: int
    total_steps: int
    tokens_per_micro_batch: int
    packed: bool
    trained_tokens: int
    seconds: float
    validations: tuple[Mapping[str, Any], ...] = ()
    """The log's lines of them, as they decide about the best checkpoint and an early stop."""


def write_state(
    folder: Path, model: LoadedModel, optimiser: torch.optim.Optimizer, counters: Counters
) -> None:
    """Put the adapter, the optimiser's state and the counters into an existing folder: safetensors and JSON.

    Errors: DivergedError for a weight that is not finite: no checkpoint ever holds one.
    """
    from safetensors.torch import save_file

    spoilt = [name for name, parameter in model.trainable() if not bool(parameter.detach().isfinite().all())]
    if spoilt:
        raise DivergedError(
            f"after step {counters.step} {len(spoilt)} weights are not finite, first {spoilt[0]}: they are not saved",
            "the last good checkpoint is kept; try a lower train.learning_rate",
        )
    model.save_adapter(folder)
    tensors, numbers = take_state(optimiser, model.trainable())
    save_file(tensors, folder / STATE_TENSORS)
    document = {
        "schema": STATE_SCHEMA,
        **asdict(counters),
        "optimiser": made_by(optimiser),
        "optimiser_numbers": numbers,
    }
    write_json(folder / STATE, document)


def made_by(optimiser: torch.optim.Optimizer) -> str:
    """Whose state it is: `bitsandbytes 0.50.2 AdamW8bit`; another version may mean other things by the
    same bytes."""
    library = type(optimiser).__module__.partition(".")[0]
    return f"{library} {_version(library)} {type(optimiser).__name__}"


@cache
def _version(library: str) -> str:
    return metadata.version(library)


def expected_bytes(parameters: Named, optimizer: str) -> int:
    """About how large a checkpoint will be: weights in fp32, two moments of each (a byte and a share of a
    scale in 8 bits), and small files."""
    moments = 8 if optimizer == "adamw" else 2.2
    return int(
        sum(
            parameter.numel() * (4 + (8 if parameter.numel() < 4096 else moments))
            for _, parameter in parameters
        )
    ) + (1 << 16)


def read_state(
    folder: Path, model: LoadedModel, optimiser: torch.optim.Optimizer, total_steps: int | None
) -> Counters:
    """Read what `write_state` wrote into the model and a fresh optimiser; CheckpointError where it is not of
    this recipe.

    `total_steps`: what the checkpoint must have been written for, None where a longer run is the same run.
    """
    from safetensors.torch import load_file

    document = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if document.get("optimiser") != made_by(optimiser):
        raise CheckpointError(
            f"the optimiser's state in {folder} is of {document.get('optimiser')}, here is {made_by(optimiser)}",
            "bring that version back, or start a new run",
        )
    if document.get("schema") != STATE_SCHEMA or total_steps not in (None, document["total_steps"]):
        raise CheckpointError(
            f"{folder} was written for {document.get('total_steps')} steps, this recipe makes {total_steps}",
            "resume with the run's own recipe and data",
        )
    model.load_adapter(folder)
    put_state(optimiser, model.trainable(), load_file(folder / STATE_TENSORS), document["optimiser_numbers"])
    return Counters(**{name: document[name] for name in Counters.__dataclass_fields__})


@dataclass(frozen=True)
class Aside:
    """Weights and moments kept on the CPU, to be put back bit by bit."""

    weights: dict[str, torch.Tensor]
    tensors: dict[str, torch.Tensor]
    numbers: dict[str, int | float]

    @classmethod
    def of(cls, parameters: Named, optimiser: torch.optim.Optimizer) -> Aside:
        """A copy of what they hold."""
        return cls(
            {name: parameter.detach().cpu().clone() for name, parameter in parameters},
            *take_state(optimiser, parameters),
        )

    def put(self, parameters: Named, optimiser: torch.optim.Optimizer) -> None:
        """Give the weights back, and the moments to a fresh optimiser."""
        import torch

        with torch.no_grad():
            for name, parameter in parameters:
                parameter.copy_(self.weights[name])
        if self.tensors or self.numbers:
            put_state(optimiser, parameters, self.tensors, self.numbers)
