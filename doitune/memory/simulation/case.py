"""What is simulated and what comes of it, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """What is simulated: one padded row of `tokens`, all of them trained, twice in a step (the second row
    finds the first one's gradients).

    `compute_dtype`: bf16 or fp16 as on a card, fp32 as on a CPU. `whole`: run every layer. `targets`,
    `dropout` as in LoadRequest.
    """

    rank: int
    tokens: int
    backend: str = "hf"
    quantise: str = "nf4"
    optimizer: str = "adamw_8bit"
    compute_dtype: str = "bf16"
    gradient_checkpointing: bool = True
    targets: tuple[str, ...] = ()
    dropout: float = 0.0
    micro_batches: int = 2
    whole: bool = False


@dataclass(frozen=True)
class Simulation:
    """Bytes of an optimiser step, any but the first (in which the optimiser has no state yet).

    `peak_bytes`: the most alive at once. `static_bytes`: alive between two steps, but for an engine's
    buffers; `terms` says of what. `gradient_bytes`: the adapter's gradients, in the peak and not in
    `static_bytes`. `phases`: the most alive in each phase of a step. `depths`: how many layers were run.
    """

    peak_bytes: int
    static_bytes: int
    gradient_bytes: int
    terms: Mapping[str, int]
    phases: Mapping[str, int]
    depths: tuple[int, ...]

    @property
    def working_bytes(self) -> int:
        """What the peak has besides weights, adapter, optimiser state and gradients: activations and
        buffers."""
        return self.peak_bytes - self.static_bytes - self.gradient_bytes

    @property
    def peak_phase(self) -> str:
        """The phase of the peak."""
        return max(self.phases, key=lambda name: self.phases[name])

    def how(self, of: str = "") -> str:
        """How it was found, in words; `of` says how many layers there are."""
        depths = " and ".join(str(depth) for depth in self.depths)
        return f"a step under fake tensors ({depths}{of} layers run), worst in phase: {self.peak_phase}"
