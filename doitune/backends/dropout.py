"""Dropout that depends on the step, the example and the place in it, and not on what shares a micro-batch.

torch draws a mask from a stream of random numbers: other micro-batches, other masks. Here an element's fate
is that of a product of two words, one of (seed of the step, example, position, layer) and one of (layer,
channel), so that a step that starts again with smaller micro-batches, or is shared by several cards, drops
the very same elements. Each word is well mixed; their product modulo 2^32 is Dietzfelbinger's multiply-shift
hash, which is one kernel over the matrix where mixing every element would be seven. Sources: Dietzfelbinger
et al. 1997, "A Reliable Randomized Algorithm for the Closest-Pair Problem"; the mixing constants are Chris
Wellons', "Prospecting for Hash Functions" (lowbias32, public domain).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doitune.prompt.batch import Batch, sent

KIND = "multiply-shift"
"""What a run records of its masks: one with others is another training."""

FIRST, SECOND = 0x7FEB352D, 0x846CA68B
WORD = 0xFFFFFFFF


class Places:
    """Which example and position each position of the batch at hand is; read by every dropout of a model."""

    def __init__(self) -> None:
        self.keys = torch.zeros(0, dtype=torch.int32)

    def put(self, batch: Batch) -> None:
        """Take over a batch: an odd word for each of its positions, [rows, T], from the step's seed, the
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
        self.keys = sent(_word(_mixed(keys)), batch.ids.device)


class SteadyDropout(nn.Module):
    """nn.Dropout whose mask follows from `places` and the number of this layer.

    Where a layer is not given every position of the batch (experts), it draws a mask as torch does.
    """

    def __init__(self, share: float, number: int, places: Places) -> None:
        super().__init__()
        self.share, self.number, self.places = share, number, places
        self.channels = torch.zeros(0, dtype=torch.int32)

    @property
    def scale(self) -> float:
        """How many times what is kept becomes as large."""
        return 1 / (1 - self.share)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., T, channels], of which `share` becomes 0 and the rest is scaled up; the input itself in
        evaluation mode."""
        kept = self.kept(hidden)
        return hidden if kept is None else _Dropped.apply(hidden, kept, self.scale)  # type: ignore[no-any-return]

    def kept(self, hidden: torch.Tensor) -> torch.Tensor | None:
        """What of [..., T, channels] is kept; None where that is all, as in evaluation mode."""
        if not self.training or not self.share:
            return None
        keys = self.places.keys
        if keys.numel() != hidden.numel() // hidden.shape[-1]:
            return torch.empty_like(hidden, dtype=torch.bool).bernoulli_(1 - self.share)
        if len(self.channels) != hidden.shape[-1] or self.channels.device != hidden.device:
            words = torch.arange(hidden.shape[-1], device=hidden.device) + (self.number << 16)
            self.channels = _word(_mixed(words & WORD))
        rows = (keys ^ (self.number * 2 * FIRST & 0x7FFFFFFE)).view(*hidden.shape[:-1], 1)
        return rows * self.channels >= int(self.share * 2**32) - 2**31


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, kept: torch.Tensor, scale: float) -> torch.Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return only(hidden, kept, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return only(gradients[0], ctx.saved_tensors[0], ctx.scale), None, None


def only(values: torch.Tensor, kept: torch.Tensor, scale: float) -> torch.Tensor:
    """`scale` times the values that are kept, 0 for the rest, in one kernel."""
    return torch.ops.aten.native_dropout_backward(values, kept, scale)  # type: ignore[no-any-return]


def _mixed(words: torch.Tensor) -> torch.Tensor:
    """lowbias32 of each word (int64 that hold 32 bits)."""
    words = (words ^ words >> 16) * FIRST & WORD
    words = (words ^ words >> 15) * SECOND & WORD
    return words ^ words >> 16


def _word(words: torch.Tensor) -> torch.Tensor:
    """32 bits as int32, the lowest set: products of odd words take every odd value alike."""
    return (words - ((words >> 31) << 32)).to(torch.int32) | 1


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
