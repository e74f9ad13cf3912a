"""Spent: what the time of a command went to, part by part: every moment counts for one part, so that the
parts add up to the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REST, STEPS = "the rest", "steps"


class Spent:
    """The seconds of each part so far; of parts inside each other, the inner one's count for it alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._since = clock, clock()
        self._open, self._seconds = [REST], {REST: 0.0}

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Inside, the time counts for `part`."""
        self.seconds()
        self._open.append(part)
        try:
            yield
        finally:
            self.seconds()
            self._open.pop()

    def seconds(self) -> dict[str, float]:
        """Of each part until now, in the order in which they began, what no part is named for last."""
        now = self._clock()
        self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now
        return {name: self._seconds[name] for name in sorted(self._seconds, key=REST.__eq__)}


_counting: list[Spent] = []


@contextmanager
def counting_time() -> Iterator[Spent]:
    """Inside, `spent_on` counts for what is given."""
    _counting.append(Spent())
    try:
        yield _counting[-1]
    finally:
        _counting.pop()


@contextmanager
def spent_on(part: str) -> Iterator[None]:
    """Inside (or in a function that it decorates), the time counts for `part`, where anybody counts it."""
    if not _counting:
        yield
        return
    with _counting[-1].on(part):
        yield


def spent_so_far() -> dict[str, float]:
    """The seconds of each part, see `Spent.seconds`; empty where nobody counts."""
    return _counting[-1].seconds() if _counting else {}
