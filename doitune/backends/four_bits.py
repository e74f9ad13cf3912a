"""Bases in 4 bits: quantised as they are loaded, or read as `doitune base make` (or bitsandbytes) has written them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.nn import Linear4bit
from transformers import BitsAndBytesConfig

from doitune.errors import ModelError

if TYPE_CHECKING:
    from doitune.backends import LoadRequest


def quantisation(request: LoadRequest, dtype: torch.dtype) -> dict[str, Any]:
    """transformers' option for quantising as it loads; empty for 16 bits and for a base that is in NF4 already. ModelError for other kinds."""
    found = request.base.config.get("quantization_config")
    if found and (request.quantise != "nf4" or found.get("bnb_4bit_quant_type") != "nf4"):
        kind = "in 4 bits" if found.get("load_in_4bit") else f"quantised ({found.get('quant_method', 'in an unknown way')})"
        raise ModelError(f"{request.base.name} is {kind} already", "model.quantise nf4 takes a base in 16 bits or in NF4, none takes 16 bits")
    if found or request.quantise != "nf4":
        return {}
    wanted = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": wanted}


def compute_in(model: Any, dtype: torch.dtype) -> None:
    """Let 4-bit layers compute in `dtype`: a base that was quantised before names the type of the machine that made it."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype, module.compute_type_is_set = dtype, True
            if module.weight.quant_state is not None:
                module.weight.quant_state.dtype = dtype
