"""The loss of a frozen head in pieces of a fixed size, with its gradient made on the way forward: no logits
are kept, none are made twice.

Two products with the head instead of the three of a recomputation, and a peak that depends on nothing but the
piece.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear


class HeadLoss(torch.autograd.Function):
    """Token losses of hidden states under a head whose matrix is not trained; the rows behind it may be."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        targets: torch.Tensor,
        weight: torch.Tensor,
        rows: torch.Tensor | None,
        at_once: int,
    ) -> torch.Tensor:
        """[n] fp32 losses in nats of hidden [n, H] and targets [n]; weight [V, H], rows [k, H] for the
        tokens from V on, `at_once` positions a piece."""
        losses, returned, of_rows = [], [], []
        for start in range(0, len(targets), at_once):
            piece, wanted = hidden[start : start + at_once], targets[start : start + at_once, None]
            logits = _logits(piece, weight, rows)
            total = logits.logsumexp(dim=-1, keepdim=True)
            losses.append((total - logits.gather(1, wanted))[:, 0])
            if any(ctx.needs_input_grad):
                slope = logits.sub_(total).exp_()  # probabilities, in the logits' own memory
                slope.scatter_add_(1, wanted, -torch.ones_like(total))
                slope = slope.to(hidden.dtype)
                known, new = slope[:, : len(weight)], slope[:, len(weight) :]
                returned.append(
                    known @ weight if rows is None else known @ weight + new @ rows.to(hidden.dtype)
                )
                of_rows.append(new)
        if returned:
            ctx.save_for_backward(
                torch.cat(returned),
                None if rows is None else hidden,
                None if rows is None else torch.cat(of_rows),
            )
        return torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """`outer`: [n], how much each loss counts."""
        if not ctx.saved_tensors:
            return None, None, None, None, None
        returned, hidden, of_rows = ctx.saved_tensors
        counts = outer[0][:, None]
        to_hidden = (returned * counts).to(returned.dtype)
        to_rows = None if hidden is None else ((of_rows * counts).to(hidden.dtype).T @ hidden).float()
        return to_hidden, None, None, to_rows, None


def _logits(hidden: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    """fp32 logits [n, V + k]."""
    known = linear(hidden, weight)
    return (
        known if rows is None else torch.cat([known, linear(hidden, rows.to(hidden.dtype))], dim=-1)
    ).float()
