"""The gradient of a step, shared by the processes of a run: what each has to make, and what they agree on.

It is a pure function of (recipe, data, weights, order): the random numbers of dropout follow from the step
and from the place in an example, whatever shares its micro-batch. So a step that ran out of memory starts
again as it was, and is the same on one card and on four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.backends.out_of_memory import OutOfMemory, free_cache
from doitune.prompt.batch import collate, positions_of, trained_tokens
from doitune.prompt.encoded_rows import rows_of
from doitune.system.signals import Asked, StopAsked
from doitune.train.exchange import add_up, pool, spread
from doitune.train.shares import Groups, Order, largest, share
from doitune.train.team import Team

if TYPE_CHECKING:
    import torch

    from doitune.backends.loaded import LoadedModel
    from doitune.prepare.material import Material
    from doitune.prompt.batch import Batch
    from doitune.prompt.encoded import Encoded

FINE, NO_MEMORY, STOP_ASKED = 0, 1, 2
"""How a process's part went; STOP_ASKED + n: signal n asked it to stop. The greatest word is everybody's."""


@dataclass(frozen=True)
class Made:
    """A gradient is made: each example's sum of token losses in the step's order, and what was computed,
    over all processes."""

    sums: list[float]
    micro_batches: int
    positions: int


@dataclass
class Part:
    """What this process makes of a step's gradient: the examples, every process's micro-batches of them, and
    so far each example's sum of token losses."""

    order: Order
    encoded: list[Encoded]
    shares: list[Groups]
    sums: list[float]
    pooled: torch.Tensor | None = None

    @property
    def trained_tokens(self) -> int:
        """Of the whole step: what its sum of losses is divided by."""
        return trained_tokens(self.encoded)


class Gradients:
    """What every process of a run needs to make its part of a step's gradient."""

    def __init__(
        self, material: Material, model: LoadedModel, team: Team | None = None, signals: Asked | None = None
    ) -> None:
        self.material, self.model = material, model
        self.team, self.signals = team or Team(), signals or Asked()
        self.course = material.course
        self.lengths = rows_of(material.encoded).lengths
        self.tensors = [parameter for _, parameter in model.trainable()]

    def encoded(self, step: int) -> list[Encoded]:
        """The examples of a step (from 0), in its order."""
        return [self.material.encoded[place] for place in self.course.members(step)]

    def begin(self, order: Order) -> Part:
        """This process's part, with the leader's weights and the step's own random numbers."""
        import torch

        spread(self.team, self.tensors)
        encoded = self.encoded(order.step)
        lengths = [len(one.ids) for one in encoded]
        shares = share(lengths, order, self.team.size)
        if order.trial:
            shares = [[largest(lengths, shares, packed=order.packed)]] * self.team.size
        torch.manual_seed(_seed_of(self.course.section.seed, order.step))
        return Part(order, encoded, shares, [0.0] * len(encoded))

    def batches(self, part: Part) -> list[Batch]:
        """The micro-batches of this process, and the model ready for them: no gradient; in a trial one of
        zeros, which is there from a step's second micro-batch on."""
        import torch

        self.model.training(True)
        self.clear()
        if part.order.trial:
            for tensor in self.tensors:
                tensor.grad = torch.zeros_like(tensor)
        own = part.shares[self.team.rank]
        return [collate(part.encoded, group, packed=part.order.packed) for group in own]

    def pool(self, part: Part) -> None:
        """Make ready what the other processes get of this one."""
        part.pooled = None if part.order.trial else pool(self.team, self.tensors, part.sums)

    def clear(self) -> None:
        """Forget the gradient."""
        for tensor in self.tensors:
            tensor.grad = None

    def release(self) -> None:
        """Forget the gradient and give freed memory back to the card."""
        self.clear()
        free_cache()


def agree(gradients: Gradients, part: Part, word: int) -> Made:
    """The whole gradient, in the leader's tensors, where every process's word is FINE. Errors, in every
    process alike: OutOfMemory, StopAsked."""
    team = gradients.team
    word = team.greatest(word)
    if word != FINE:
        gradients.release()
    if word >= STOP_ASKED:
        raise StopAsked(word - STOP_ASKED)
    if word == NO_MEMORY:
        raise OutOfMemory("step")
    groups = [group for hand in part.shares for group in hand]
    positions = sum(
        positions_of([len(part.encoded[place].ids) for place in group], packed=part.order.packed)
        for group in groups
    )
    if part.order.trial:
        return Made(part.sums, 1, positions // team.size)
    return Made(add_up(team, part.pooled, gradients.tensors, part.sums), len(groups), positions)


def loss_by_ability(material: Material, members: Sequence[int], sums: Sequence[float]) -> dict[str, float]:
    """Mean token loss of each ability's examples among those at the places `members`, of their sums."""
    totals: dict[str, list[float]] = {}
    for place, value in zip(members, sums, strict=True):
        pair = totals.setdefault(material.examples[place].ability, [0.0, 0.0])
        pair[0] += value
        pair[1] += material.encoded[place].trained
    return {name: pair[0] / pair[1] for name, pair in sorted(totals.items())}


def _seed_of(seed: int, step: int) -> int:
    """Seed of a step's random numbers (dropout)."""
    return (seed * 1_000_003 + step * 7_919 + 1) % (1 << 63)
