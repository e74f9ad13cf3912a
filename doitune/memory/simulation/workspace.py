"""A linear layer with its adapter as Unsloth computes it: its matrix dequantised into buffers that all layers
share, products and gradients in place."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

import torch

from doitune.base.nf4 import ABSMAX_BLOCK, BLOCK
from doitune.memory.simulation.live_bytes import LiveBytes


class Adapted(torch.nn.Linear):
    """A frozen linear layer and its adapter: `weight` a plain matrix or bitsandbytes' packed one (with
    `quant_state`)."""

    def __init__(self, outputs: int, inputs: int, rank: int) -> None:
        super().__init__(inputs, outputs, bias=False, device="meta")
        self.a = torch.nn.Parameter(torch.empty(rank, inputs))
        self.b = torch.nn.Parameter(torch.zeros(outputs, rank))


@dataclass
class Workspace:
    """What all blocks share: the counter, the dequantisation buffers and the two buffers for returning
    checkpoints."""

    dtype: torch.dtype
    live: LiveBytes | None = None
    scale: float = 2.0
    matrix: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    scales: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    returning: list[torch.Tensor] = field(default_factory=list)
    turn: int = 0

    def kernel(self) -> contextlib.AbstractContextManager[None]:
        """Inside, nothing is counted."""
        return self.live.inside_kernel() if self.live is not None else contextlib.nullcontext()

    def buffers(self) -> list[torch.Tensor]:
        """What stays from step to step."""
        return [self.matrix, self.scales, *self.returning]

    def enter(self, *phases: str) -> None:
        """Name the phase for the counter."""
        if self.live is not None:
            self.live.tally.enter(*phases)

    def weight(self, layer: Adapted, *, shared: bool = True) -> torch.Tensor:
        """The layer's matrix [outputs, inputs], in the global buffer or in one of its own."""
        state = getattr(layer.weight, "quant_state", None)
        if state is None:
            return layer.weight
        count, blocks = state.shape.numel(), state.absmax.numel()
        scales = self.scales[:blocks] if shared else torch.empty(blocks)
        matrix = (
            self.matrix[:count].view(state.shape) if shared else torch.empty(state.shape, dtype=self.dtype)
        )
        with self.kernel():
            ops, nested = torch.ops.bitsandbytes, state.state2
            scales.copy_(
                ops.dequantize_blockwise(
                    state.absmax, nested.absmax, nested.code, ABSMAX_BLOCK, torch.float32
                )
                + state.offset
            )
            matrix.copy_(ops.dequantize_4bit(layer.weight, scales, BLOCK, "nf4", state.shape, self.dtype))
        return matrix

    def park(self, hidden: torch.Tensor) -> torch.Tensor:
        """A checkpoint in main memory."""
        with self.kernel():
            return hidden.clone()

    def fetch(self, parked: torch.Tensor) -> torch.Tensor:
        """A checkpoint back on the card, in the buffer whose turn it is."""
        self.turn = 1 - self.turn
        return self.returning[self.turn].copy_(parked)


def product(work: Workspace, x: torch.Tensor, layer: Adapted) -> torch.Tensor:
    """x [T, inputs] through the layer and its adapter."""
    out = x @ work.weight(layer).t()
    return out.addmm_(x @ layer.a.to(work.dtype).t(), layer.b.to(work.dtype).t(), alpha=work.scale)


def adapter_gradients(
    work: Workspace, x: torch.Tensor, arriving: torch.Tensor, layer: Adapted
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the adapter's two matrices."""
    a, b = layer.a.to(work.dtype), layer.b.to(work.dtype)
    return ((arriving @ b).t() @ x).mul_(work.scale), (arriving.t() @ (x @ a.t())).mul_(work.scale)


def input_gradient(
    work: Workspace,
    arriving: torch.Tensor,
    layer: Adapted,
    out: torch.Tensor,
    *,
    shared: bool = True,
    add: bool = False,
) -> None:
    """The gradient of the layer's input, written over `out` or added to it."""
    weight = work.weight(layer, shared=shared)
    if add:
        out.addmm_(arriving, weight)
    else:
        torch.mm(arriving, weight, out=out)
    out.addmm_(arriving @ layer.b.to(work.dtype), layer.a.to(work.dtype), alpha=work.scale)
