"""Standing: where a training stands at an optimiser boundary, and how a checkpoint's files keep it with the
weights and moments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.optimiser import put_state, take_state
from doitune.errors import CheckpointError, DivergedError
from doitune.run.layout import STATE, STATE_TENSORS
from doitune.system.disk import write_json
from doitune.system.versions import version_of

if TYPE_CHECKING:
    import torch

    from doitune.backends.loaded import LoadedModel

STATE_SCHEMA = "doitune.state/1"


@dataclass(frozen=True)
class Standing:
    """Everything beside tensors that a resume needs.

    `step`: optimiser steps done, of `total_steps`. `tokens_per_micro_batch`, `packed`: how the next step is
    arranged. `trained_tokens` and `seconds` of all steps so far. `validations`: the log's lines of them, as
    they decide about the best checkpoint and an early stop.
    """

    step: int
    total_steps: int
    tokens_per_micro_batch: int
    packed: bool
    trained_tokens: int
    seconds: float
    validations: tuple[Mapping[str, Any], ...] = ()


def write_state(
    folder: Path, model: LoadedModel, optimiser: torch.optim.Optimizer, standing: Standing
) -> None:
    """Put the adapter, the optimiser's state and the standing into an existing folder: safetensors and JSON.

    Errors: DivergedError for a weight that is not finite: no checkpoint ever has one.
    """
    from safetensors.torch import save_file

    spoilt = [name for name, parameter in model.trainable() if not bool(parameter.detach().isfinite().all())]
    if spoilt:
        raise DivergedError(
            f"after step {standing.step} {len(spoilt)} weights are not finite, first {spoilt[0]}: "
            "they are not saved",
            "the last good checkpoint is kept; try a lower train.learning_rate",
        )
    model.save_adapter(folder)
    tensors, numbers = take_state(optimiser, model.trainable())
    save_file(tensors, folder / STATE_TENSORS)
    document = {
        "schema": STATE_SCHEMA,
        **asdict(standing),
        "optimiser": made_by(optimiser),
        "optimiser_numbers": numbers,
    }
    write_json(folder / STATE, document)


def made_by(optimiser: torch.optim.Optimizer) -> str:
    """Whose state it is: `bitsandbytes 0.50.2 AdamW8bit`; another version may mean other things by the
    same bytes."""
    library = type(optimiser).__module__.partition(".")[0]
    return f"{library} {version_of(library)} {type(optimiser).__name__}"


def read_state(
    folder: Path, model: LoadedModel, optimiser: torch.optim.Optimizer, total_steps: int | None
) -> Standing:
    """Read what `write_state` wrote into the model and a fresh optimiser; CheckpointError where it is not of
    this recipe.

    `total_steps`: what the checkpoint must have been written for, None where a longer run is the same run.
    """
    from safetensors.torch import load_file

    document = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if document.get("optimiser") != made_by(optimiser):
        raise CheckpointError(
            f"the optimiser's state in {folder} is of {document.get('optimiser')}, "
            f"here is {made_by(optimiser)}",
            "bring that version back, or start a new run",
        )
    if document.get("schema") != STATE_SCHEMA or total_steps not in (None, document["total_steps"]):
        raise CheckpointError(
            f"{folder} was written for {document.get('total_steps')} steps, this recipe makes {total_steps}",
            "resume with the run's own recipe and data",
        )
    model.load_adapter(folder)
    put_state(optimiser, model.trainable(), load_file(folder / STATE_TENSORS), document["optimiser_numbers"])
    return Standing(**{name: document[name] for name in Standing.__dataclass_fields__})
