"""The gradient of a step: its examples through micro-batches, forward and backward, shared by the processes
of a run.

It is a pure function of (recipe, data, weights, order): the random numbers of dropout follow from the step
and from the place in an example, whatever shares its micro-batch. So a step that ran out of memory starts
again as it was, and is the same on one card and on four.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.backends.out_of_memory import OutOfMemory, memory_for
from doitune.prepare.material import course_of
from doitune.prompt.batch import MICRO_BATCH_COST_TOKENS, collate, cut, positions_of, trained_tokens
from doitune.system import faults
from doitune.system.signals import StopAsked
from doitune.train.team import Team

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.prepare.material import Material
    from doitune.prompt.batch import Batch
    from doitune.prompt.encoded import Encoded
    from doitune.recipe.fields import Recipe

FINE, NO_MEMORY, STOP = 0, 1, 2
"""How a process's part went; STOP + n: signal n asked it to stop. The greatest word is everybody's."""

SLACK = 1.04
"""A share's token budget over an exact share: whole examples never fill one exactly."""

Groups = list[list[int]]


@dataclass(frozen=True)
class Order:
    """The step (from 0) whose gradient is made, and how: the token budget of a micro-batch, packed or sorted.

    `trial`: only the micro-batch that takes most, in every process; nothing is summed. A step of -1: there is
    nothing more to do.
    """

    step: int
    budget_tokens: int
    packed: bool
    trial: bool = False


END = Order(-1, 0, False)


@dataclass(frozen=True)
class Made:
    """A gradient is made: each example's sum of token losses in the step's order, and what was computed,
    over all processes."""

    sums: list[float]
    micro_batches: int
    positions: int


class Gradients:
    """What every process of a run holds to make its part of a step's gradient."""

    def __init__(self, recipe: Recipe, material: Material, model: LoadedModel, team: Team) -> None:
        self.recipe, self.material, self.model, self.team = recipe, material, model, team
        self.course = course_of(recipe, material.examples)
        self.parameters = model.trainable()
        self.tensors = [parameter for _, parameter in self.parameters]
        self.asked_to_stop: Callable[[], int] = lambda: 0

    def encoded(self, step: int) -> list[Encoded]:
        """The examples of a step (from 0), in its order."""
        return [self.material.encoded[place] for place in self.course.members(step)]

    def by_ability(self, step: int, sums: Sequence[float]) -> dict[str, float]:
        """Mean token loss of each ability's examples in a step (from 0), of their sums in its order."""
        totals: dict[str, list[float]] = {}
        for place, value in zip(self.course.members(step), sums, strict=True):
            pair = totals.setdefault(self.material.examples[place].ability, [0.0, 0.0])
            pair[0] += value
            pair[1] += self.material.encoded[place].trained
        return {name: pair[0] / pair[1] for name, pair in sorted(totals.items())}

    def lead(self, order: Order) -> Made:
        """Have every process make its part; the whole gradient is then the leader's. Errors: OutOfMemory,
        StopAsked, PeerLost."""
        self.team.tell((order.step, order.budget_tokens, order.packed, order.trial))
        return self._make(order)

    def dismiss(self) -> None:
        """Tell the others that there is nothing more to do."""
        self.team.tell((END.step, END.budget_tokens, END.packed, END.trial))

    def follow(self) -> None:
        """Do what the leader says until it says that all is done; a lack of memory is the leader's to
        answer."""
        while True:
            step, budget, packed, trial = self.team.tell((0, 0, 0, 0))
            if step < 0:
                return
            try:
                self._make(Order(step, budget, bool(packed), bool(trial)))
            except OutOfMemory:
                continue
            self.clear()

    def clear(self) -> None:
        """Forget the gradient."""
        for tensor in self.tensors:
            tensor.grad = None

    def release(self) -> None:
        """Forget the gradient and give memory that holds nothing back to the card."""
        import torch

        self.clear()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _make(self, order: Order) -> Made:
        import torch

        self.team.spread(self.tensors)
        encoded = self.encoded(order.step)
        lengths = [len(one.ids) for one in encoded]
        shares = share(lengths, order, self.team.size)
        if order.trial:
            shares = [[largest(lengths, shares, packed=order.packed)]] * self.team.size
        total = trained_tokens(encoded)
        sums = [0.0] * len(encoded)
        torch.manual_seed(_seed_of(self.recipe.train.seed, order.step))
        word, pooled = FINE, None
        try:
            with memory_for("step"):
                self._begin(order)
                self._accumulate(
                    [collate(encoded, group, packed=order.packed) for group in shares[self.team.rank]],
                    total,
                    sums,
                )
                pooled = None if order.trial else self.team.pool(self.tensors, sums)
        except OutOfMemory:
            word = NO_MEMORY
        except StopAsked as stop:
            word = STOP + stop.number
        word = self.team.agree(word)
        if word != FINE:
            self.release()
        if word >= STOP:
            raise StopAsked(word - STOP)
        if word == NO_MEMORY:
            raise OutOfMemory("step")
        groups = [group for part in shares for group in part]
        positions = sum(
            positions_of([lengths[place] for place in group], packed=order.packed) for group in groups
        )
        if order.trial:
            return Made(sums, 1, positions // self.team.size)
        return Made(self.team.add_up(pooled, self.tensors, sums), len(groups), positions)

    def _begin(self, order: Order) -> None:
        """No gradient; in a trial one of zeros, which is there from a step's second micro-batch on."""
        import torch

        self.model.training(True)
        self.clear()
        if order.trial:
            for tensor in self.tensors:
                tensor.grad = torch.zeros_like(tensor)

    def _accumulate(self, batches: Sequence[Batch], total: int, sums: list[float]) -> None:
        """Add up the gradient of the step's mean token loss; each example's sum of token losses is put
        into `sums`."""
        for batch in batches:
            faults.reach("step.forward")
            loss = self.model.loss(batch, total)
            faults.reach("step.backward")
            loss.value.backward()
            for place, value in zip(batch.members, loss.sums.tolist(), strict=True):
                sums[place] = faults.spoil("loss", value)
            if number := self.asked_to_stop():
                raise StopAsked(number)


def share(lengths: Sequence[int], order: Order, processes: int) -> list[Groups]:
    """Each process's micro-batches of a step whose examples have these lengths: a pure function, the same in
    every process.

    One process: what `cut` gives. More: of the cuts into about 1, 2, 3 or 4 micro-batches for each, none over
    the budget, the one that has the busiest process done first; the largest micro-batch goes to the process
    that has least so far.
    """
    if processes == 1:
        return [cut(lengths, order.budget_tokens, packed=order.packed)]
    exact = sum(lengths) / processes
    budgets = {
        order.budget_tokens,
        *(min(order.budget_tokens, math.ceil(SLACK * exact / parts)) for parts in (1, 2, 3, 4)),
    }
    found = [
        _deal(cut(lengths, budget, packed=order.packed), lengths, order.packed, processes)
        for budget in sorted(budgets, reverse=True)
    ]
    return min(found, key=lambda dealt: dealt[0])[1]


def _deal(groups: Groups, lengths: Sequence[int], packed: bool, processes: int) -> tuple[int, list[Groups]]:
    """Micro-batches dealt out by their cost, and the cost of the busiest process in tokens."""
    costs = [
        positions_of([lengths[place] for place in group], packed=packed) + MICRO_BATCH_COST_TOKENS
        for group in groups
    ]
    hands: list[Groups] = [[] for _ in range(processes)]
    load = [0] * processes
    for number in sorted(range(len(groups)), key=lambda number: (-costs[number], number)):
        least = load.index(min(load))
        hands[least].append(groups[number])
        load[least] += costs[number]
    return max(load), hands


def largest(lengths: Sequence[int], shares: Sequence[Groups], *, packed: bool) -> list[int]:
    """The micro-batch with the most positions; of equal ones that with the longest example."""
    groups = [group for part in shares for group in part]
    return max(
        groups,
        key=lambda group: (
            positions_of([lengths[place] for place in group], packed=packed),
            max(lengths[place] for place in group),
        ),
    )


def _seed_of(seed: int, step: int) -> int:
    """Seed of a step's random numbers (dropout)."""
    return (seed * 1_000_003 + step * 7_919 + 1) % (1 << 63)
