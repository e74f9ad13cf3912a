"""What of a model is not finite: a value of its config, a weight, or what quantisation keeps of one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from doitune.errors import ModelError


def refuse_not_finite(model: Any, name: str, logits: torch.Tensor) -> None:
    """ModelError that names the value, where a base's `logits` [1, T, V] are not finite.

    `model`: the base of transformers, `name`: as the recipe calls it.
    """
    if bool(torch.isfinite(logits).all()):
        return
    found = next(_settings(model.config.to_dict()), None) or next(_tensors(model), None)
    if found is None:
        problem = (
            f"{name}: its logits are not finite in {str(model.dtype).removeprefix('torch.')}, its weights are"
        )
        raise ModelError(problem, "compute in a wider type: --set model.compute_dtype=bf16, or fp32")
    raise ModelError(f"{name}: {found}", "copy or download the model again")


def _settings(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The numbers of a config that are not finite, but for limits that may be infinite."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{key}.")
        elif isinstance(value, float) and math.isnan(value):
            yield f"`{prefix}{key}` of its config.json is {value}"


def _tensors(model: Any) -> Iterator[str]:
    """The weights that hold a value which is not finite."""
    for name, parameter in (*model.named_parameters(), *model.named_buffers()):
        state = getattr(parameter, "quant_state", None)
        nested = getattr(state, "state2", None)
        parts = [parameter, *(getattr(one, "absmax", None) for one in (state, nested))]
        parts.append(getattr(state, "offset", None))
        for part in parts:
            if isinstance(part, torch.Tensor) and part.is_floating_point():
                wrong = int((~torch.isfinite(part)).sum())
                if wrong:
                    own = name.replace(".base_layer", "")  # peft puts the base's layer there
                    yield f"{own} holds {wrong:,} that are not finite"
