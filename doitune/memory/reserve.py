"""What a training takes of a card beside its tensors: the context that the driver keeps for the process, and
what torch's allocator reserves and does not hand out. By engine, as published runs show them.

Measured on an A100 by fms-acceleration (scripts/benchmarks/refs of foundation-model-stack/fms-acceleration,
peak allocations beside nvidia-smi, hf engine, the default allocator): between 0.09 and 0.43 of what comes and
goes lies between both, 0.75 where the logits of all tokens are made at once. Unsloth's notebooks print peaks
of reserved memory that lie up to 2 GiB above their tensors even for short rows, which is loading.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from doitune.system.units import GIB

Three = tuple[float, float, float]
"""A low, a nominal and a high figure."""

WHOLE_LOGITS = "full-logits", "fused-loss"
"""What-ifs that make the logits of all tokens at once: single tensors of GiB, between which more is lost."""


@dataclass(frozen=True)
class Reserve:
    """`context_gib`: CUDA, cuBLAS and Triton. `share`: of the adapter and of what comes and goes, what the
    allocator loses between blocks; `whole_logits` instead where all logits are made at once.
    `loading_gib`: what it keeps of loading the base."""

    context_gib: Three
    share: Three
    whole_logits: Three
    loading_gib: Three

    def context_bytes(self) -> Three:
        """Bytes that the driver counts and torch does not."""
        low, nominal, high = self.context_gib
        return low * GIB, nominal * GIB, high * GIB

    def lost_bytes(self, moving: Sequence[float], what_if: Collection[str] = ()) -> Three:
        """Bytes reserved and not allocated; `moving`: low, nominal and high bytes of the adapter and of what
        comes and goes."""
        share = self.whole_logits if any(name in what_if for name in WHOLE_LOGITS) else self.share
        low, nominal, high = (
            one * amount + GIB * kept
            for one, amount, kept in zip(share, moving, self.loading_gib, strict=True)
        )
        return low, nominal, high


RESERVES = {
    "hf": Reserve((0.35, 0.55, 1.0), (0.0, 0.03, 0.12), (0.0, 0.03, 0.45), (0.0, 0.0, 0.0)),
    "unsloth": Reserve((0.35, 0.55, 1.0), (0.0, 0.03, 0.25), (0.0, 0.03, 0.45), (0.0, 0.0, 1.0)),
}
"""By engine. The nominal figures are those of expandable segments, which doitune asks for; the high ones hold
without them."""
