"""Doing: what a command is busy with, said where the work is done and heard by whoever shows it.

Whatever can take more than a second says so before it begins, and counts where it can: the console shows it
as a live line or as lines of a log. Nobody needs to hear: a process that follows another says it to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Doing:
    """What is done now. `done` of `total` where both are known in `text`'s own plural; a `total` of 0: it is
    not known how much there is."""

    text: str
    done: int = 0
    total: int = 0


Hear = Callable[[Doing], None]

_hearers: list[Hear] = []  # of the process, not of a thread: libraries load a model's matrices in several
os.register_at_fork(after_in_child=_hearers.clear)  # a child has no thread that would show it


def doing(text: str, done: int = 0, total: int = 0) -> None:
    """Say what is done from now on."""
    if _hearers:
        _hearers[-1](Doing(text, done, total))


def counted(text: str, items: Sequence[T]) -> Iterator[T]:
    """The items, each said before it is given out."""
    for place, item in enumerate(items):
        doing(text, place, len(items))
        yield item


@contextmanager
def heard_by(hear: Hear) -> Iterator[None]:
    """Inside, `hear` is told, and nobody else. It is called from any thread and raises nothing."""
    _hearers.append(hear)
    try:
        yield
    finally:
        _hearers.remove(hear)
