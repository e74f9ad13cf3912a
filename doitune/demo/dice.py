"""Seeded choices that give the same result on every platform and Python version.

The standard library promises stability only for `random()` of a seeded generator, not for `shuffle`, `sample`
or `choice`; so everything here is derived from `random()`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """A seeded source of choices; `seed` is text, so that each file of the corpus can have a stream of its
    own."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(int.from_bytes(seed.encode("utf-8"), "big")).random

    def below(self, limit: int) -> int:
        """A number in 0..limit-1."""
        return int(self._random() * limit)

    def between(self, low: int, high: int) -> int:
        """A number in low..high, both ends included."""
        return low + int(self._random() * (high - low + 1))

    def happens(self, chance: float) -> bool:
        """True with probability `chance`."""
        return self._random() < chance

    def pick(self, things: Sequence[T]) -> T:
        """One of `things`, each as likely."""
        return things[int(self._random() * len(things))]

    def several(self, things: Sequence[T], count: int, without: Sequence[T] = ()) -> list[T]:
        """`count` different things in random order, none of them in `without`; few out of many, so drawing
        again is cheap."""
        chosen: list[T] = []
        size, draw = len(things), self._random
        while len(chosen) < count:
            thing = things[int(draw() * size)]
            if thing not in chosen and thing not in without:
                chosen.append(thing)
        return chosen

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """A new list with `things` in random order (Fisher-Yates)."""
        order = list(things)
        for last in range(len(order) - 1, 0, -1):
            other = int(self._random() * (last + 1))
            order[last], order[other] = order[other], order[last]
        return order
