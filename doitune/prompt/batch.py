"""The order of an epoch, its steps, and a step's examples arranged into micro-batches under a token budget.

The step is the unit of meaning: which examples an optimiser step learns from never depends on how they are
arranged. Two arrangements: *packed* puts examples end to end in one row, isolated from each other by the
backend; *sorted* pads examples of like length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.prompt.encoded import IGNORED, Encoded
from doitune.system.arrays import digests

if TYPE_CHECKING:
    import torch

MICRO_BATCH_COST_TOKENS = 128
"""What a micro-batch costs besides its positions, in tokens: dequantising the base once (design: about 135
on a 4090)."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    packed: `ids` and `labels` are [1, sum(lengths)], example i is the i-th run of `lengths`. Padded:
    [len(lengths), max(lengths)], row i holds lengths[i] real tokens, then padding. `labels` is IGNORED where
    nothing is trained; labels are not shifted. `members` are the examples' places in the caller's list, in
    this batch's order.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    lengths: tuple[int, ...]
    members: tuple[int, ...]
    packed: bool

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        ids, labels = sent(self.ids, device), sent(self.labels, device)
        return Batch(ids, labels, self.lengths, self.members, self.packed)


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` on `device`; from main memory to a card through pages that stay, so that nobody waits for the
    copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def epoch_order(ids: Iterable[bytes], seed: int, epoch: int) -> Any:
    """The places of `ids` in the order in which `epoch` (from 0) learns from them, int64: a pure function of
    ids, seed and epoch."""
    import numpy as np

    return np.argsort(digests(f"{seed}\x1f{epoch}\x1f".encode(), ids), kind="stable")


def pack(lengths: Sequence[int], budget_tokens: int) -> list[list[int]]:
    """Places of `lengths` in as few bins of at most `budget_tokens` as first-fit decreasing finds.

    A single example longer than the budget gets a bin of its own: it can't be split.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda p: (-lengths[p], p)):
        length = lengths[place]
        target = next((index for index, free in enumerate(room) if free >= length), None)
        if target is None:
            bins.append([place])
            room.append(max(budget_tokens - length, 0))
        else:
            bins[target].append(place)
            room[target] -= length
    return bins


def cut_sorted(
    lengths: Sequence[int], budget_tokens: int, cost_tokens: int = MICRO_BATCH_COST_TOKENS
) -> list[list[int]]:
    """Places of `lengths`, sorted, cut into padded micro-batches so that positions plus fixed costs are
    least.

    Dynamic programme over the sorted lengths: best[j] = min over i of best[i] + (j - i) * longest(i..j) +
    cost_tokens, where (j - i) * longest fits the budget or j - i is 1. Longest first, so that a
    lack of memory shows in the first micro-batch.
    """
    order = sorted(range(len(lengths)), key=lambda p: (-lengths[p], p))
    best: list[float] = [0.0] + [float("inf")] * len(order)
    cut_before = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        for start in range(end - 1, -1, -1):
            area = (end - start) * lengths[order[start]]
            if area > budget_tokens and end - start > 1:
                break
            cost = best[start] + area + cost_tokens
            if cost < best[end]:
                best[end], cut_before[end] = cost, start
    groups: list[list[int]] = []
    end = len(order)
    while end > 0:
        groups.append(order[cut_before[end] : end])
        end = cut_before[end]
    return groups[::-1]


def cut(lengths: Sequence[int], budget_tokens: int, *, packed: bool) -> list[list[int]]:
    """Places of a step's examples by micro-batch, each of at most `budget_tokens` positions (a longer
    example stands alone)."""
    return pack(lengths, budget_tokens) if packed else cut_sorted(lengths, budget_tokens)


def positions_of(lengths: Sequence[int], *, packed: bool) -> int:
    """The positions that a micro-batch of examples of these lengths computes, padding included."""
    return sum(lengths) if packed else len(lengths) * max(lengths)


def collate(encoded: Sequence[Encoded], group: Sequence[int], *, packed: bool, pad_id: int = 0) -> Batch:
    """One group that `cut` made, as tensors."""
    chosen = [encoded[place] for place in group]
    return flatten(chosen, members=group) if packed else pad(chosen, members=group, pad_id=pad_id)


def arrange(encoded: Sequence[Encoded], budget_tokens: int, *, packed: bool, pad_id: int = 0) -> list[Batch]:
    """A step's examples as micro-batches under a token budget: `cut` and `collate`."""
    groups = cut([len(example.ids) for example in encoded], budget_tokens, packed=packed)
    return [collate(encoded, group, packed=packed, pad_id=pad_id) for group in groups]


def pad(encoded: Sequence[Encoded], *, members: Sequence[int] | None = None, pad_id: int = 0) -> Batch:
    """Examples as rows [B, T], padded on the right, so that causal attention needs no mask for the real
    tokens."""
    import torch

    lengths = tuple(len(example.ids) for example in encoded)
    ids = torch.full((len(encoded), max(lengths)), pad_id, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(encoded):
        ids[row, : lengths[row]] = torch.tensor(example.ids, dtype=torch.long)
        labels[row, : lengths[row]] = torch.tensor(example.labels, dtype=torch.long)
    return Batch(
        ids, labels, lengths, tuple(members if members is not None else range(len(encoded))), packed=False
    )


def flatten(encoded: Sequence[Encoded], *, members: Sequence[int] | None = None) -> Batch:
    """Examples end to end in one row [1, sum of lengths]."""
    import torch

    ids = torch.tensor([[token for example in encoded for token in example.ids]], dtype=torch.long)
    # an example's first token has nothing of its own before it to be predicted from
    labels = torch.tensor(
        [[label for example in encoded for label in (IGNORED, *example.labels[1:])]], dtype=torch.long
    )
    lengths = tuple(len(example.ids) for example in encoded)
    return Batch(
        ids, labels, lengths, tuple(members if members is not None else range(len(encoded))), packed=True
    )


def trained_tokens(encoded: Sequence[Encoded]) -> int:
    """How many tokens of these examples are trained."""
    return sum(example.trained for example in encoded)
