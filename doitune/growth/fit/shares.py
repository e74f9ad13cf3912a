"""The best way to share a whole number of parts, where each part's value is known to each sharer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_sum(values: Sequence[np.ndarray], parts: int) -> np.ndarray:
    """Parts by sharer, `parts` in all (or as many as all can take), with the greatest sum of values.

    `values`: by sharer, [most + 1], what 0, 1, .. parts are worth to it, in any form.
    """
    whole = min(parts, sum(len(value) - 1 for value in values))
    best = np.full(whole + 1, -np.inf)
    best[0] = 0.0
    taken = []
    for value in values:
        reached, took = np.full(whole + 1, -np.inf), np.zeros(whole + 1, dtype=int)
        for count in range(min(len(value), whole + 1)):
            found = best[: whole + 1 - count] + value[count]
            better = found > reached[count:]
            reached[count:][better] = found[better]
            took[count:][better] = count
        best = reached
        taken.append(took)
    shares = np.zeros(len(values), dtype=int)
    for place in range(len(values) - 1, -1, -1):
        shares[place] = taken[place][whole]
        whole -= shares[place]
    return shares


def best_worst(values: Sequence[np.ndarray], counted: Sequence[bool], parts: int) -> np.ndarray:
    """As `best_sum`, but first the least value among the `counted` sharers is as great as can be; parts that
    this leaves go where the sum gains most."""
    low, high = -1.0, 2.0
    for _ in range(50):
        middle = (low + high) / 2
        if _needed(values, counted, middle, parts) is None:
            high = middle
        else:
            low = middle
    needed = _needed(values, counted, low, parts)
    assert needed is not None
    rest = [value[count:] for value, count in zip(values, needed, strict=True)]
    return needed + best_sum(rest, parts - int(needed.sum()))


def _needed(
    values: Sequence[np.ndarray], counted: Sequence[bool], level: float, parts: int
) -> np.ndarray | None:
    """The fewest parts by which every counted sharer reaches a level; None where they do not suffice."""
    needed = np.zeros(len(values), dtype=int)
    for place, (value, counts) in enumerate(zip(values, counted, strict=True)):
        if counts:
            enough = np.flatnonzero(value >= level)
            if not len(enough):
                return None
            needed[place] = enough[0]
    return needed if needed.sum() <= parts else None
