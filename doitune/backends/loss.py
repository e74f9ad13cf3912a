"""The loss of a batch from its last hidden states: token losses in nats, in pieces of a fixed size.

The head's matrix is frozen, so that the gradient of a piece's hidden states is all that its backward pass
needs of its logits: it is made on the way forward. No logits are kept and none are made twice: two products
with the head instead of three, and a peak that depends on nothing but the piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from doitune.backends.chunks import positions_at_once
from doitune.backends.head import Head, plain_logits
from doitune.backends.loaded import Loss
from doitune.prompt.batch import Batch, sent
from doitune.prompt.encoded import IGNORED


def batch_loss(batch: Batch, hidden: torch.Tensor, head: Head, trained_tokens: int) -> Loss:
    """The loss of `batch`, in main memory, from its last hidden states [rows, T, H] where those lie; only
    trained positions get logits. Which these are is asked of the labels before they travel: a card that is
    asked keeps this process waiting."""
    labels = batch.labels[:, 1:]
    trained = labels != IGNORED
    rows, columns = trained.nonzero().unbind(1)
    places, owners = rows * batch.labels.shape[1] + columns, _owners(batch, rows, columns)
    places, wanted, owners = (sent(one, hidden.device) for one in (places, labels[trained], owners))
    chosen = hidden.flatten(0, 1).index_select(0, places)
    losses = token_losses(head, chosen, wanted) if len(wanted) else chosen.sum(dim=-1).float()
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


@dataclass(frozen=True)
class FrozenHead:
    """What makes logits: `weight` [V, H], a bias [V] and a cap (as in `Head`) where there are any, and how
    many positions make a piece."""

    weight: torch.Tensor
    at_once: int
    bias: torch.Tensor | None = None
    softcap: float | None = None


def token_losses(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """[n] losses of hidden states [n, H] under a head whose matrix is not trained; rows of added tokens may
    be."""
    at_once = positions_at_once(head.vocabulary_rows)
    frozen = FrozenHead(head.module.weight, at_once, head.bias, head.softcap)
    return HeadLoss.apply(hidden, head.new_rows, targets, frozen)  # type: ignore[no-untyped-call,no-any-return]


class HeadLoss(torch.autograd.Function):
    """Token losses of hidden states under a head whose matrix is not trained; the rows behind it may be."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, rows: torch.Tensor | None, targets: torch.Tensor, head: FrozenHead
    ) -> torch.Tensor:
        """[n] fp32 losses in nats of hidden [n, H] and targets [n]; rows [k, H] for the tokens from V on."""
        losses, returned, of_rows = [], [], []
        for start in range(0, len(targets), head.at_once):
            piece, wanted = (one[start : start + head.at_once] for one in (hidden, targets[:, None]))
            logits, bend = _capped(plain_logits(piece, head.weight, head.bias, rows), head.softcap)
            log_probs = logits.log_softmax(dim=-1)
            del logits  # its memory is the worst moment's
            losses.append(-log_probs.gather(1, wanted)[:, 0])
            if any(ctx.needs_input_grad):
                slope = log_probs.exp_()  # probabilities, in the same memory
                slope.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=slope.dtype))
                slope = (slope if bend is None else slope.mul_(bend)).to(hidden.dtype)
                to_piece = slope[:, : len(head.weight)] @ head.weight
                if rows is not None:
                    of_rows.append(slope[:, len(head.weight) :].clone())  # a view would keep all of them
                    to_piece += of_rows[-1] @ rows.to(hidden.dtype)
                returned.append(to_piece)
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
            return None, None, None, None
        returned, hidden, of_rows = ctx.saved_tensors
        counts = outer[0][:, None]
        to_hidden = (returned * counts).to(returned.dtype)
        to_rows = None if hidden is None else ((of_rows * counts).to(hidden.dtype).T @ hidden).float()
        return to_hidden, to_rows, None, None


def _capped(logits: torch.Tensor, cap: float | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Logits as the head's cap leaves them, and their slope over those before it; writes over `logits`."""
    if cap is None:
        return logits, None
    bent = logits.div_(cap).tanh_()
    return bent * cap, bent.square_().neg_().add_(1)
