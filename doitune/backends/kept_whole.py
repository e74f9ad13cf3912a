"""The matrices of a base in 4 bits as they are multiplied, kept by a model on a CPU.

Every product makes its matrix anew out of 4 bits, in a step on the way forward and back. On a CPU that is
half of a written token's time, and as much as 30 positions of a batch (SmolLM2-135M,
`tests/bench/bench_kept_whole.py`). Values and gradients are the same to the bit.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit

from doitune.backends.lean_lora import whole
from doitune.system.ram import ram
from doitune.system.units import GIB

ANSWERING, TRAINING = 0.25, 0.1
"""The most that is taken of the main memory that is free: a step needs more beside it than an answer."""


def keep_whole(model: torch.nn.Module, share: float) -> None:
    """Let the 4-bit layers of `model`, on a CPU, multiply with matrices that are made once, where all of them
    take at most `share` of the free memory; else none is kept."""
    layers = [one for one in _layers(model) if _multiplies_as_it_is(one)]
    made = {one for one in layers if "forward" in vars(one)}
    free = ram()[1] * GIB + sum(_whole_bytes(one) for one in made)
    if sum(_whole_bytes(one) for one in layers) > share * free:
        let_go(model)
        return
    for layer in layers:
        if layer not in made:
            layer.forward = partial(_product, layer, whole(layer))


def let_go(model: torch.nn.Module) -> None:
    """Give up what `keep_whole` has made."""
    for layer in _layers(model):
        vars(layer).pop("forward", None)


def _layers(model: torch.nn.Module) -> list[Any]:
    return [one for one in model.modules() if type(one) is Linear4bit]


def _multiplies_as_it_is(layer: Any) -> bool:
    """Whether its product is one of its matrix and its bias, with nothing cast."""
    state = getattr(layer.weight, "quant_state", None)
    return (
        layer.weight.device.type == "cpu"
        and state is not None
        and (layer.bias is None or layer.bias.dtype == state.dtype)
    )


def _whole_bytes(layer: Any) -> int:
    state = layer.weight.quant_state
    return int(state.shape.numel() * state.dtype.itemsize)


def _product(layer: Any, matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[..., K] -> [..., N]; the layer's own way for another dtype than its matrix's."""
    if x.dtype != matrix.dtype:
        return type(layer).forward(layer, x)  # type: ignore[no-any-return]
    return torch.nn.functional.linear(x, matrix, layer.bias)
