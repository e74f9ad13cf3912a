"""A model of Unsloth's engine, for counting its memory without a card: not its code, but a block that keeps
and reuses the same tensors.

What is modelled, from its published design: checkpoints wait in main memory and come back through two buffers
on the card (the last block's stays); a block keeps its input, both norms' outputs, queries, keys, values, the
attention's output, the residual, and the feed-forward's two halves; the feed-forward's backward pass writes
over them; dequantised weights go through one global buffer, and through a second one in the feed-forward's
backward pass. The loss is not modelled: it is this project's own (`backends/loss.py`). What Unsloth does in
one kernel is computed under `inside_kernel`. The sums are those of a LLaMA block, so that its gradients can
be checked against plain autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import embedding, scaled_dot_product_attention, silu

from doitune.backends.chunks import positions_at_once
from doitune.backends.loaded import Loss
from doitune.backends.loss import FrozenHead, HeadLoss
from doitune.base.architecture import Architecture
from doitune.base.nf4 import BLOCK
from doitune.memory.block import SMALLEST_OFFLOAD
from doitune.memory.simulation.live_bytes import layer_phases
from doitune.memory.simulation.workspace import (
    Adapted,
    Workspace,
    adapter_gradients,
    input_gradient,
    product,
)
from doitune.prompt.batch import Batch


class Norm(torch.autograd.Function):
    """RMSNorm that keeps its input and writes its gradient over the arriving one."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, work: Workspace) -> torch.Tensor:
        out, inverse = torch.empty_like(x), torch.empty(x.shape[0], 1)
        with work.kernel():
            inverse.copy_((x.float().square().mean(-1, keepdim=True) + 1e-6).rsqrt())
            out.copy_((x.float() * inverse).to(x.dtype) * weight)
        ctx.save_for_backward(x, weight, inverse)
        ctx.work = work
        return out

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        with ctx.work.kernel():
            normal, wide = x.float() * inverse, (arriving * weight).float()
            arriving.copy_(inverse * (wide - normal * (wide * normal).mean(-1, keepdim=True)))
        return arriving, None, None


class Project(torch.autograd.Function):
    """One input through one layer (output) or three (queries, keys, values), whose input gradient is
    written over the input."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, work: Workspace, layers: tuple[Adapted, ...], *adapters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(x)
        ctx.work, ctx.layers = work, layers
        return tuple(product(work, x, layer) for layer in layers)

    @staticmethod
    def backward(ctx: Any, *arriving: torch.Tensor) -> tuple[Any, ...]:
        (x,), work = ctx.saved_tensors, ctx.work
        pairs = [
            adapter_gradients(work, x, one, layer) for one, layer in zip(arriving, ctx.layers, strict=True)
        ]
        out = x if len(ctx.layers) > 1 else torch.empty_like(x)
        for place, (one, layer) in enumerate(zip(arriving, ctx.layers, strict=True)):
            input_gradient(work, one, layer, out, add=place > 0)
        return out, None, None, *(matrix for pair in pairs for matrix in pair)


class FeedForward(torch.autograd.Function):
    """down(silu(gate(x)) * up(x)); keeps x and the two halves, and its backward pass writes over all of
    them."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, work: Workspace, layers: tuple[Adapted, ...], *adapters: torch.Tensor
    ) -> torch.Tensor:
        gate, up, down = layers
        e, g = product(work, x, gate), product(work, x, up)
        h = torch.empty_like(e)
        with work.kernel():
            h.copy_(silu(e.float()).to(e.dtype) * g)
        ctx.save_for_backward(x, e, g)
        ctx.work, ctx.layers = work, layers
        return product(work, h, down)

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[Any, ...]:
        (x, e, g), work = ctx.saved_tensors, ctx.work
        gate, up, down = ctx.layers
        dh = torch.empty_like(e)
        input_gradient(work, arriving, down, dh)
        with work.kernel():
            share = torch.sigmoid(e.float())
            half, slope = (e * share), (dh * g) * share * (1 + e * (1 - share))
            h, de, dg = half * g, slope, dh * half
            (
                dh.copy_(h),
                e.copy_(de),
                g.copy_(dg),
            )  # each half now holds its own gradient, and dh what goes into down
        pairs = [
            adapter_gradients(work, x, e, gate),
            adapter_gradients(work, x, g, up),
            adapter_gradients(work, dh, arriving, down),
        ]
        input_gradient(work, g, up, x, shared=False)
        input_gradient(work, e, gate, x, shared=False, add=True)
        return x, None, None, *(matrix for pair in pairs for matrix in pair)


class Turn(torch.autograd.Function):
    """Rotary positions, written over queries or keys [T, width]."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor], work: Workspace
    ) -> torch.Tensor:
        ctx.mark_dirty(x)
        ctx.tables, ctx.work = tables, work
        return _turned(x, tables, work, 1)

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _turned(arriving, ctx.tables, ctx.work, -1), None, None


def _turned(
    x: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor], work: Workspace, sign: int
) -> torch.Tensor:
    with work.kernel():
        cos, sin = tables
        heads = x.view(x.shape[0], -1, cos.shape[-1]).float()
        half = heads.shape[-1] // 2
        other = torch.cat((-heads[..., half:], heads[..., :half]), dim=-1)
        x.copy_((heads * cos[:, None] + sign * other * sin[:, None]).view(x.shape))
    return x


class Attend(torch.autograd.Function):
    """Causal flash attention: keeps queries, keys, values, output, and a sum for each head and row."""

    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, head: int, work: Workspace
    ) -> torch.Tensor:
        out, sums = torch.empty_like(q), torch.empty(q.shape[1] // head, q.shape[0])
        with work.kernel():
            out.copy_(_attention(q, k, v, head))
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.head, ctx.work = head, work
        return out

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[Any, ...]:
        q, k, v, _, _ = ctx.saved_tensors
        gradients = [torch.empty_like(one) for one in (q, k, v)]
        with ctx.work.kernel(), torch.enable_grad():
            own_q, own_k, own_v = own = [one.detach().requires_grad_() for one in (q, k, v)]
            for to, found in zip(
                gradients,
                torch.autograd.grad(_attention(own_q, own_k, own_v, ctx.head), own, arriving),
                strict=True,
            ):
                to.copy_(found)
        return (*gradients, None, None)


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, head: int) -> torch.Tensor:
    """[T, width] each -> [T, query width]."""
    queries, keys, values = (one.view(1, one.shape[0], -1, head).transpose(1, 2) for one in (q, k, v))
    out = scaled_dot_product_attention(
        queries, keys, values, is_causal=True, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2).reshape(q.shape)


class Block(torch.nn.Module):
    """A LLaMA block on hidden states [T, H]."""

    def __init__(self, shape: Architecture, rank: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.head = shape.query // shape.heads
        self.layers = torch.nn.ModuleDict(
            {name: Adapted(*size, rank) for name, size in shape.linears.items()}
        )
        self.norms = torch.nn.ParameterList([torch.ones(shape.hidden, dtype=dtype) for _ in range(2)])

    def some(self, *names: str) -> tuple[tuple[Any, ...], list[torch.Tensor]]:
        """Layers by name, and their adapters' matrices."""
        found: tuple[Any, ...] = tuple(self.layers[name] for name in names)
        return found, [matrix for layer in found for matrix in (layer.a, layer.b)]

    def forward(
        self, hidden: torch.Tensor, tables: tuple[torch.Tensor, torch.Tensor], work: Workspace
    ) -> torch.Tensor:
        """[T, H] -> [T, H]."""
        layers, adapters = self.some("q_proj", "k_proj", "v_proj")
        q, k, v = Project.apply(Norm.apply(hidden, self.norms[0], work), work, layers, *adapters)
        attended = Attend.apply(Turn.apply(q, tables, work), Turn.apply(k, tables, work), v, self.head, work)
        layers, adapters = self.some("o_proj")
        (out,) = Project.apply(attended, work, layers, *adapters)
        residual = hidden + out
        del q, k, v, attended, out
        layers, adapters = self.some("gate_proj", "up_proj", "down_proj")
        return residual + FeedForward.apply(
            Norm.apply(residual, self.norms[1], work), work, layers, *adapters
        )


class Checkpoint(torch.autograd.Function):
    """A block whose input waits elsewhere until its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        run: Callable[[torch.Tensor], torch.Tensor],
        work: Workspace,
        names: tuple[str, ...],
    ) -> torch.Tensor:
        ctx.stays = "top layer" in names or hidden.nbytes < SMALLEST_OFFLOAD
        ctx.kept = hidden if ctx.stays else work.park(hidden)
        ctx.run, ctx.work, ctx.names = run, work, names
        return run(hidden)

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[Any, ...]:
        ctx.work.enter(*ctx.names)
        own = (ctx.kept if ctx.stays else ctx.work.fetch(ctx.kept)).detach().requires_grad_()
        with torch.enable_grad():
            out = ctx.run(own)
        torch.autograd.backward(out, arriving)
        return own.grad, None, None, None


class LeanModel(torch.nn.Module):
    """A decoder of such blocks with one row of tokens; weights come from the caller (`weight` of each
    Adapted, `embedding`, `head`)."""

    def __init__(self, shape: Architecture, rank: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.work = shape, Workspace(dtype)
        self.blocks = torch.nn.ModuleList([Block(shape, rank, dtype) for _ in range(shape.layers)])
        self.norm = torch.nn.Parameter(torch.ones(shape.hidden, dtype=dtype))
        self.embedding = torch.nn.Parameter(torch.empty(shape.vocabulary, shape.hidden, dtype=dtype))
        self.head = (
            self.embedding
            if shape.tied
            else torch.nn.Parameter(torch.empty(shape.vocabulary, shape.hidden, dtype=dtype))
        )
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.endswith((".a", ".b")))

    def prepare(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Make the shared buffers for rows of `tokens`; gives the rotary tables."""
        largest = max(outputs * inputs for outputs, inputs in self.shape.linears.values())
        if not self.work.returning:
            self.work.matrix, self.work.scales = (
                torch.empty(largest, dtype=self.work.dtype),
                torch.empty(-(-largest // BLOCK)),
            )
            kept = tokens * self.shape.hidden * self.work.dtype.itemsize >= SMALLEST_OFFLOAD
            self.work.returning = [
                torch.empty(tokens, self.shape.hidden, dtype=self.work.dtype) for _ in range(2 if kept else 0)
            ]
        size = self.shape.query // self.shape.heads
        places = torch.outer(
            torch.arange(tokens).float(), 10000.0 ** (-torch.arange(0, size, 2).float() / size)
        )
        both = torch.cat((places, places), dim=-1)
        return both.cos(), both.sin()

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The adapters' matrices by name, sorted."""
        return sorted(
            (name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad
        )

    def loss(self, batch: Batch, trained_tokens: int) -> Loss:
        """The first row's mean token loss."""
        work = self.work
        work.enter("forward")
        tables = self.prepare(batch.ids.shape[1])
        hidden = embedding(batch.ids[0], self.embedding).requires_grad_()
        for place, block in enumerate(self.blocks):
            hidden = Checkpoint.apply(
                hidden, lambda x, b=block: b(x, tables, work), work, layer_phases(place, len(self.blocks))
            )
        work.enter("loss")
        at_once = positions_at_once(self.shape.vocabulary)
        final = Norm.apply(hidden, self.norm, work)[:-1]
        losses = HeadLoss.apply(final, None, batch.labels[0, 1:], FrozenHead(self.head, at_once))
        return Loss(losses.sum() / trained_tokens, losses.detach().sum()[None])
