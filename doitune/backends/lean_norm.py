"""RMSNorm by torch's own function, which on CUDA is one kernel forward and one backward.

transformers writes the norm out: its input copied to fp32 and kept so, seven kernels, thirteen more in the
backward pass. Here the same numbers are made (on a CPU, where torch writes it out itself, to the byte),
rounded where transformers rounds them, and the input is kept as it came.
"""

from __future__ import annotations

from types import CodeType
from typing import Any

import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class Lean:
    """A norm that takes the lean way, by torch's function or (simulations) as a card runs it."""

    rms_norm: Any = staticmethod(torch.rms_norm)


class LeanNorm(Lean):
    """LLaMA's: normalised, rounded, then scaled."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        """[..., N] -> [..., N]."""
        normal: torch.Tensor = self.rms_norm(hidden, hidden.shape[-1:], None, self.variance_epsilon)
        return self.weight * normal


class LeanGemmaNorm(Lean):
    """Gemma's: normalised and scaled by 1 + weight, then rounded."""

    def forward(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        """[..., N] -> [..., N]."""
        scale = 1.0 + self.weight.float()
        normal: torch.Tensor = self.rms_norm(hidden.float(), hidden.shape[-1:], scale, self.eps)
        return normal.type_as(hidden)


def lean_norms(model: nn.Module) -> None:
    """Let a model's norms that compute as LLaMA's or Gemma's, in whatever class, take the lean way."""
    for module in model.modules():
        for written_out, lean in ((LlamaRMSNorm, LeanNorm), (Gemma2RMSNorm, LeanGemmaNorm)):
            if _computes_as(type(module), written_out):
                module.__class__ = type(type(module).__name__, (lean, type(module)), {})


def _computes_as(kind: type, known: type) -> bool:
    """Whether two classes have the same code, whatever it is called."""
    names = ("forward", "_norm") if hasattr(known, "_norm") else ("forward",)
    pairs = [(getattr(kind, name, None), getattr(known, name)) for name in names]
    return all(_code(one) == _code(other) for one, other in pairs)


def _code(function: Any) -> tuple[Any, ...] | None:
    code: CodeType | None = getattr(function, "__code__", None)
    return None if code is None else (code.co_code, code.co_names, code.co_consts)
