"""Who makes which micro-batches of a step: pure functions of lengths and order, the same in every process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from doitune.prompt.batch import MICRO_BATCH_COST_TOKENS, cut, positions_of

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

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """As processes send it to each other."""
        return self.step, self.budget_tokens, int(self.packed), int(self.trial)

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Order:
        """What `numbers` says."""
        step, budget, packed, trial = numbers
        return cls(step, budget, bool(packed), bool(trial))


END = Order(-1, 0, False)


def share(lengths: Sequence[int], order: Order, processes: int) -> list[Groups]:
    """Each process's micro-batches of a step whose examples have these lengths.

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
