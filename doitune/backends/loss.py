"""The loss of a batch from its last hidden states: token losses in nats, in pieces of a fixed size.

Two ways to the same numbers. With any head, a piece's logits are made again in the backward pass
(`recomputed_losses`). With a frozen matrix and no soft-capping, the gradient is made on the way forward, so
that no logits are kept and none are made twice (`HeadLoss`): two products with the head instead of three, and
a peak that depends on nothing but the piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint

from doitune.backends.chunks import positions_at_once
from doitune.backends.head import Head
from doitune.backends.loaded import Loss
from doitune.prompt.batch import Batch, sent
from doitune.prompt.encoded import IGNORED

PositionLosses = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""fp32 losses [n] in nats of hidden states [n, H] and the tokens [n] that follow them."""


def batch_loss(batch: Batch, hidden: torch.Tensor, losses_of: PositionLosses, trained_tokens: int) -> Loss:
    """The loss of `batch`, in main memory, from its last hidden states [rows, T, H] where those lie; only
    trained positions get logits. Which these are is asked of the labels before they travel: a card that is
    asked keeps this process waiting."""
    labels = batch.labels[:, 1:]
    trained = labels != IGNORED
    rows, columns = trained.nonzero().unbind(1)
    places, owners = rows * batch.labels.shape[1] + columns, _owners(batch, rows, columns)
    places, wanted, owners = (sent(one, hidden.device) for one in (places, labels[trained], owners))
    chosen = hidden.flatten(0, 1).index_select(0, places)
    losses = losses_of(chosen, wanted) if len(wanted) else chosen.sum(dim=-1).float()
    sums = torch.zeros(len(batch.lengths), device=hidden.device)
    sums.index_add_(0, owners, losses.detach())
    return Loss(losses.sum() / trained_tokens, sums)


def _owners(batch: Batch, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """For each trained position, which is predicted from `columns` of `rows`, its example's place in the
    batch."""
    if not batch.packed:
        return rows
    lengths = torch.tensor(batch.lengths)
    owners = torch.repeat_interleave(
        torch.arange(len(batch.lengths)), lengths, output_size=sum(batch.lengths)
    )
    return owners[columns + 1]


def recomputed_losses(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[n] losses of hidden states [n, H]; logits are made a piece at a time, and again in the backward
    pass."""
    at_once = positions_at_once(head.vocabulary_rows)

    def losses(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(head.logits(hidden), targets, reduction="none")

    pieces = zip(hidden.split(at_once), targets.split(at_once), strict=True)
    return torch.cat([checkpoint(losses, *piece, use_reentrant=False) for piece in pieces])


def frozen_head_losses(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[n] losses of hidden states [n, H] under a head without soft-capping whose matrix is not trained; rows
    of added tokens may be."""
    at_once = positions_at_once(head.vocabulary_rows)
    rows = None if head.rows is None else head.rows.head.rows
    return HeadLoss.apply(hidden, targets, head.module.weight, rows, at_once)  # type: ignore[no-untyped-call]


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
