"""Tensors between the processes of a run: the leader's weights go out before a step, gradients come back
after it.

That is what a reduction to all costs, and no two processes can ever come to have different weights. Alone, no
tensor is touched. Every process has to make the same calls in the same order. Errors: PeerLost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doitune.train.team import Team, wait

if TYPE_CHECKING:
    import torch


def spread(team: Team, weights: Sequence[torch.Tensor]) -> None:
    """Give every process the leader's values of `weights`, in place."""
    if team.size == 1:
        return
    import torch
    from torch import distributed

    flat = torch.cat([weight.detach().float().flatten() for weight in weights])
    wait(distributed.broadcast(flat, 0, async_op=True))
    if team.rank:
        with torch.no_grad():
            for weight, values in zip(
                weights, flat.split([weight.numel() for weight in weights]), strict=True
            ):
                weight.copy_(values.view_as(weight))


def pool(team: Team, weights: Sequence[torch.Tensor], sums: Sequence[float]) -> torch.Tensor | None:
    """One flat fp32 buffer of this process's gradients and numbers, for `add_up`; None where it is alone.

    Made before the processes agree that all have their part, so that a lack of memory here is still one
    that they agree on.
    """
    if team.size == 1:
        return None
    import torch

    parts = [
        (torch.zeros_like(weight) if weight.grad is None else weight.grad).float().flatten()
        for weight in weights
    ]
    return torch.cat([*parts, torch.tensor(list(sums), dtype=torch.float32, device=parts[0].device)])


def add_up(
    team: Team, flat: torch.Tensor | None, weights: Sequence[torch.Tensor], sums: Sequence[float]
) -> list[float]:
    """Sum what every process pooled: the leader's gradients become those of the whole step; returns
    the sums of the numbers."""
    if flat is None:
        return list(sums)
    from torch import distributed

    wait(distributed.reduce(flat, 0, async_op=True))
    *parts, numbers = flat.split([*(weight.numel() for weight in weights), len(sums)])
    if team.rank == 0:
        for weight, values in zip(weights, parts, strict=True):
            weight.grad = values.view_as(weight).to(weight.dtype, copy=True)
    return [float(number) for number in numbers.tolist()]
