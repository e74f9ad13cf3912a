"""Dropout that depends on the step, the example and the place in it, and not on what shares a micro-batch.

torch draws a mask from a stream of random numbers: other micro-batches, other masks. Here an element's fate
is a hash of (seed of the step, example, position, layer, channel), so that a step that starts again with
smaller micro-batches, or is shared by several cards, drops the very same elements. The mask is made again in
the backward pass instead of being kept. Source of the mixing constants: Chris Wellons, "Prospecting for Hash
Functions" (lowbias32, public domain).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doitune.prompt.batch import Batch, sent

FIRST, SECOND = 0x7FEB352D, 0x846CA68B
WORD = 0xFFFFFFFF


class Places:
    """Which example and position each position of the batch at hand is; read by every dropout of a model."""

    def __init__(self) -> None:
        self.keys = torch.zeros(0, dtype=torch.int64)

    def put(self, batch: Batch) -> None:
        """Take over a batch: a key for each of its positions, [rows, T], from the step's seed, the
        example's place in its step, the position."""
        members, lengths = torch.tensor(batch.members), torch.tensor(batch.lengths)
        if batch.packed:
            whole = sum(batch.lengths)
            starts = lengths.cumsum(0) - lengths
            owners = torch.repeat_interleave(members, lengths, output_size=whole)[None]
            starts = torch.repeat_interleave(starts, lengths, output_size=whole)
            places = (torch.arange(whole) - starts)[None]
        else:
            owners, places = members[:, None], torch.arange(batch.ids.shape[1])[None]
        seed = torch.initial_seed()
        keys = _mixed(_mixed(_mixed(owners + 1 ^ (seed & WORD)) ^ (seed >> 32 & WORD)) ^ places)
        self.keys = sent(keys, batch.ids.device)


class SteadyDropout(nn.Module):
    """nn.Dropout whose mask follows from `places` and the number of this layer.

    Where a layer is not given every position of the batch (experts), it falls back to torch's own.
    """

    def __init__(self, share: float, number: int, places: Places) -> None:
        super().__init__()
        self.share, self.number, self.places = share, number, places

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., T, channels], of which `share` becomes 0 and the rest is scaled up; the input itself in
        evaluation mode."""
        if not self.training or not self.share:
            return hidden
        keys = self.places.keys
        if keys.numel() != hidden.numel() // hidden.shape[-1]:
            return nn.functional.dropout(hidden, self.share)
        rows = _signed(_mixed(keys ^ self.number * FIRST & WORD)).view(*hidden.shape[:-1], 1)
        channels = _signed(
            _mixed(torch.arange(hidden.shape[-1], device=hidden.device) + (self.number << 16) & WORD)
        )
        dropped: torch.Tensor = _Dropped.apply(hidden, rows, channels, self.share)
        return dropped


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, hidden: torch.Tensor, rows: torch.Tensor, channels: torch.Tensor, share: float
    ) -> torch.Tensor:
        context.save_for_backward(rows, channels)
        context.share = share
        return _drop(hidden, rows, channels, share)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        rows, channels = context.saved_tensors
        return _drop(gradients[0], rows, channels, context.share), None, None, None


def _drop(values: torch.Tensor, rows: torch.Tensor, channels: torch.Tensor, share: float) -> torch.Tensor:
    """Zero where the hash of row and channel lies in the lowest `share` of its range; int32 products wrap."""
    mixed = rows ^ channels
    mixed.mul_(FIRST)
    mixed.bitwise_xor_((mixed >> 15).bitwise_and_(0x1FFFF))
    mixed.mul_(SECOND - (1 << 32))
    kept = mixed >= int(share * 2**32) - 2**31
    return (values * kept).mul_(1 / (1 - share))


def _mixed(words: torch.Tensor) -> torch.Tensor:
    """lowbias32 of each word (int64 that hold 32 bits)."""
    words = (words ^ words >> 16) * FIRST & WORD
    words = (words ^ words >> 15) * SECOND & WORD
    return words ^ words >> 16


def _signed(words: torch.Tensor) -> torch.Tensor:
    """The same 32 bits as int32."""
    return (words - ((words >> 31) << 32)).to(torch.int32)


def steady(model: nn.Module) -> Places | None:
    """Put a steady dropout in the place of each of peft's; returns what has to be given every batch before
    it is run, None without any."""
    places = Places()
    found = [
        module
        for name, module in sorted(model.named_modules())
        if name.endswith("lora_dropout") and isinstance(module, nn.ModuleDict)
    ]
    dropping = [
        (layer, adapter, own)
        for layer in found
        for adapter, own in layer.items()
        if isinstance(own, nn.Dropout)
    ]
    for number, (layer, adapter, own) in enumerate(dropping):
        layer[adapter] = SteadyDropout(own.p, number, places)
    return places if dropping else None
