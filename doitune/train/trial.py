"""Before step 1: what the run will need at most is tried once, and nothing is changed by it.

The peak of a run lies in the largest micro-batch of all its steps, with gradients and moments already there.
That micro-batch goes forward and backward, the optimiser takes a step at rate 0, one batch of validation rows
is measured and the longest question asked; then weights, moments and random states are put back. On the CPU,
where there is no card to run out, the batch of validation rows is its longest row: the trial costs about what
the longest step costs, and a run that cannot take a step or be validated says so before its first hour.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.prompt.batch import cut, positions_of
from doitune.train.gradient import Gradients, Order, largest, share

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.prepare.material import Material
    from doitune.prompt.encoded import Encoded


@dataclass(frozen=True)
class Trial:
    """What was tried: the step (from 1) and the positions of its largest micro-batch, the memory at its peak,
    and what the plan had said.

    Peaks: what the allocator of a card held; on the CPU the process's largest resident size so far.
    `card_gib`: the whole card.
    """

    of_step: int
    positions: int
    tokens_per_micro_batch: int
    peak_gib: float
    evaluation_peak_gib: float
    planned_gib: float | None
    card_gib: float | None


def longest_step(gradients: Gradients, budget_tokens: int, packed: bool) -> Order:
    """The trial of the step whose largest micro-batch is the run's: every step is cut, none is guessed at."""
    best, order = -1, Order(0, budget_tokens, packed, trial=True)
    seen = [len(one.ids) for one in gradients.material.encoded]
    for step in range(gradients.course.total_steps):
        one = Order(step, budget_tokens, packed, trial=True)
        lengths = [seen[place] for place in gradients.course.members(step)]
        group = largest(lengths, share(lengths, one, gradients.team.size), packed=packed)
        positions = positions_of([lengths[place] for place in group], packed=packed)
        if positions > best:
            best, order = positions, one
    return order


def largest_batch(rows: Mapping[str, Sequence[Encoded]], budget_tokens: int, packed: bool) -> list[Encoded]:
    """The validation rows of the batch that takes most; empty without validation rows."""
    encoded = [one for part in rows.values() for one in part]
    lengths = [len(one.ids) for one in encoded]
    groups = cut(lengths, budget_tokens, packed=packed) if encoded else []
    return [
        encoded[place]
        for place in max(
            groups,
            key=lambda group: positions_of([lengths[place] for place in group], packed=packed),
            default=[],
        )
    ]


def longest_row(material: Material) -> dict[str, list[Example]]:
    """The longest validation row under its ability's name; empty without validation rows."""
    rows = [
        (len(one.ids), name, place)
        for name, part in material.valid_encoded.items()
        for place, one in enumerate(part)
    ]
    return {name: [material.valid[name][place]] for _, name, place in sorted(rows)[-1:]}


@contextmanager
def same_random_state(model: LoadedModel) -> Iterator[None]:
    """Put torch's random states back on leaving, whatever happened."""
    import torch

    before = torch.get_rng_state()
    card = torch.cuda.get_rng_state() if model.device.type == "cuda" else None
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if card is not None:
            torch.cuda.set_rng_state(card)


def card_gib(model: LoadedModel) -> float | None:
    """The size of the card; None on the CPU."""
    import torch

    return (
        torch.cuda.get_device_properties(model.device).total_memory / 2**30
        if model.device.type == "cuda"
        else None
    )


def reset_peak(model: LoadedModel) -> None:
    """Start measuring a card's peak anew (a process's resident size has no such switch)."""
    import torch

    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)


def peak_memory_gib(model: LoadedModel) -> float:
    """On CUDA the most memory the allocator held; elsewhere the process's largest resident size."""
    import torch

    if model.device.type == "cuda":
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
