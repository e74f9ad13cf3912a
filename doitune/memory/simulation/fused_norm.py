"""torch.rms_norm as a card runs it: one operation forward, one backward, which keep the input and a number a
row. On a CPU, where fake tensors lie, torch writes it out in fp32."""

from __future__ import annotations

from typing import Any

import torch

from doitune.backends.lean_norm import Lean


@torch.library.custom_op("doitune::rms_norm", mutates_args=())
def _normal(x: torch.Tensor, scale: torch.Tensor | None, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    wide = x.float()
    inverse = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    wide = wide * inverse
    return (wide if scale is None else wide * scale).to(x.dtype, copy=True), inverse


@torch.library.custom_op("doitune::rms_norm_backward", mutates_args=())
def _gradient(
    arriving: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor, scale: torch.Tensor | None
) -> torch.Tensor:
    normal, wide = x.float() * inverse, arriving.float()
    wide = wide if scale is None else wide * scale
    return (inverse * (wide - normal * (wide * normal).mean(-1, keepdim=True))).to(x.dtype, copy=True)


@_normal.register_fake
def _(x: torch.Tensor, scale: torch.Tensor | None, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)


@_gradient.register_fake
def _(arriving: torch.Tensor, x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(inputs[0], output[1], inputs[1])


def _backward(ctx: Any, arriving: torch.Tensor, _: Any) -> tuple[torch.Tensor, None, None]:
    return _gradient(arriving, *ctx.saved_tensors), None, None


_normal.register_autograd(_backward, setup_context=_keep)


def fused(x: torch.Tensor, _: Any, scale: torch.Tensor | None, eps: float) -> torch.Tensor:
    """torch.rms_norm over the last dimension."""
    return _normal(x, scale, eps)[0]


def fuse_norms(model: torch.nn.Module) -> None:
    """Let a model's norms run as on a card."""
    for module in model.modules():
        if isinstance(module, Lean):
            module.rms_norm = fused
