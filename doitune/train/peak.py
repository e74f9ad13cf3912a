"""Memory that training took at most, and that a card has."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from doitune.system.units import GIB, KIB

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel


def card_gib(model: LoadedModel) -> float | None:
    """The size of the card; None on the CPU."""
    import torch

    if model.device.type != "cuda":
        return None
    return torch.cuda.get_device_properties(model.device).total_memory / GIB


def reset_peak(model: LoadedModel) -> None:
    """Start measuring a card's peak anew (a process's resident size has no such switch)."""
    import torch

    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)


def peak_memory_gib(model: LoadedModel) -> float:
    """On CUDA the most memory that the allocator had reserved, elsewhere the process's largest resident
    size."""
    import torch

    if model.device.type == "cuda":
        return torch.cuda.max_memory_reserved() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / GIB
