"""peft's LoRA layers in bf16 by few kernels: what a training step on a card runs.

peft computes the adapter in fp32: each layer's input is copied to fp32, the adapter's output made there,
scaled, cast and added, so that matrices as large as the layer's output are read and written again and again.
Here A and B are cast, as torch's autocast and Unsloth's kernels do it, sums stay in fp32 inside the products,
and the frozen product is added onto the adapter's where that lies.

What the backward pass needs is kept before the frozen product is made. So the recomputation of a checkpointed
block, which torch ends with the last tensor that is kept, ends before the product of its last layer.

Left to peft: other dtypes (fp16 has too narrow a range for an adapter's gradient, and a CPU computes in
fp32), evaluation, other adapters than plain LoRA.
"""

from __future__ import annotations

from typing import Any

import bitsandbytes.nn
import torch
from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora import Linear
from peft.tuners.lora.bnb import Linear4bit

from doitune.backends.dropout import SteadyDropout, only


class _Adapted(torch.autograd.Function):
    """What the adapter adds to a frozen layer's output, [T, N] of x [T, K]. Its backward pass is the whole
    layer's: the gradient of the frozen product is added where the adapter's lies."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        kept: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        frozen: Any,
        scales: tuple[float, float],
    ) -> torch.Tensor:
        scale, rise = scales
        dropped = x if kept is None else only(x, kept, rise)
        inner = dropped @ a.to(x.dtype).t()
        ctx.save_for_backward(dropped, kept, inner, a, b)
        ctx.frozen, ctx.scale, ctx.rise = frozen, scale, rise
        return _scaled(inner, b.to(x.dtype).t(), scale)

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        dropped, kept, inner, a, b = ctx.saved_tensors
        to_inner = _scaled(arriving, b.to(arriving.dtype), ctx.scale)
        to_a = to_inner.t() @ dropped
        to_b = _scaled(arriving.t(), inner, ctx.scale)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = to_inner @ a.to(arriving.dtype)
            to_x = to_x if kept is None else only(to_x, kept, ctx.rise)
            to_x.addmm_(arriving, whole(ctx.frozen))
        return to_x, None, to_a.to(a.dtype), to_b.to(b.dtype), None, None


class _Added(torch.autograd.Function):
    """The frozen product, added onto what the adapter gives; the gradient passes on as it came."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, x: torch.Tensor, frozen: Any) -> torch.Tensor:
        ctx.mark_dirty(given)
        given.addmm_(x, whole(frozen).t())
        return given if frozen.bias is None else given.add_(frozen.bias)

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return arriving, None, None


def _scaled(one: torch.Tensor, other: torch.Tensor, scale: float) -> torch.Tensor:
    """scale * one @ other, in one kernel."""
    out = one.new_empty(one.shape[0], other.shape[1])
    return out.addmm_(one, other, beta=0, alpha=scale)


def whole(frozen: Any) -> torch.Tensor:
    """A frozen layer's matrix [N, K] in its dtype of products."""
    state = getattr(frozen.weight, "quant_state", None)
    return frozen.weight if state is None else dequantize_4bit(frozen.weight.view(-1, 1), state)


class _Lean:
    """The forward of a peft layer where it trains one plain adapter in bf16."""

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """[..., K] -> [..., N]."""
        if args or kwargs or not self._is_plain(x):
            return super().forward(x, *args, **kwargs)  # type: ignore[misc,no-any-return]
        (name,) = self.active_adapters
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        rows = x.reshape(-1, x.shape[-1])
        drop, kept, rise = self.lora_dropout[name], None, 1.0
        if isinstance(drop, SteadyDropout):
            kept, rise = drop.kept(x), drop.scale
        kept = kept if kept is None else kept.view(rows.shape)
        given = _Adapted.apply(rows, kept, a, b, self.base_layer, (self.scaling[name], rise))
        return _Added.apply(given, rows, self.base_layer).view(*x.shape[:-1], b.shape[0])

    def _is_plain(self: Any, x: torch.Tensor) -> bool:
        names, base = self.active_adapters, self.base_layer
        return (
            torch.is_grad_enabled()
            and x.dtype == torch.bfloat16 == _dtype(base)
            and len(names) == 1
            and isinstance(self.lora_dropout[names[0]], (torch.nn.Identity, SteadyDropout))
            and not (self.disable_adapters or self.merged or self.lora_variant)
            and x.numel() > 0
        )


def _dtype(frozen: Any) -> torch.dtype:
    """The dtype of a frozen layer's products."""
    state = getattr(frozen.weight, "quant_state", None)
    return frozen.weight.dtype if state is None else state.dtype


class LeanLinear4bit(_Lean, Linear4bit):  # type: ignore[misc]
    """Over a layer in 4 bits."""


class LeanLinear(_Lean, Linear):  # type: ignore[misc]
    """Over a layer in 16 bits."""


LEAN = {(Linear4bit, bitsandbytes.nn.Linear4bit): LeanLinear4bit, (Linear, torch.nn.Linear): LeanLinear}
"""By the types of peft's layer and of the one that it is over: others may compute in another way."""


def lean(adapted: Any) -> None:
    """Let peft's layers in a model take their lean way where it is open to them."""
    for module in adapted.modules():
        kinds = type(module), type(getattr(module, "base_layer", None))
        module.__class__ = LEAN.get(kinds, type(module))
