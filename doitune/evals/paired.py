"""Tests of paired differences: exact over sign flips of whole clusters, and Holm's correction.

Where two models are alike, each cluster of questions (a passage; alone, a question) could as well have
changed the other way, so the sum of changes is compared with all its values under independent flips of the
clusters' signs. For questions on their own with whole credits this is McNemar's exact test. Sources:
McNemar 1947; Fisher 1935 and Pitman 1937 (sign flips); Canay, Romano and Shaikh 2017 (few clusters); Holm
1979.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05
FEWEST = 6
"""The least number of clusters that can differ at 5 %: 2 / 2^6 is below, 2 / 2^5 is not."""

EXACT = 1 << 15
"""At most so many sums are listed one by one; else they lie on a grid of about as many points."""

FLOOR = 1e-12
"""The least p that the grid can tell; McNemar's has no floor."""


def paired_test(sums: Sequence[float], single: float) -> tuple[float, float]:
    """Two-sided p of the total of `sums` under flips of their signs, and the least total that clusters which
    change by so much could have shown at 5 %.

    `sums`: what each cluster changes, as it counts in the difference. Where fewer than six changed, the least
    total is that of six; `single`, what one question counts, stands in where none changed. p is 1 then.
    """
    sizes = _sizes(sums)
    fuller, lacking = sizes, max(0, FEWEST - sizes.total())
    if lacking:
        typical = sum(size * many for size, many in sizes.items()) / sizes.total() if sizes else single
        fuller = _sizes([*sizes.elements(), *[typical] * lacking])
    if len(sizes) <= 1:
        up = sum(one > 0 for one in sums if abs(one) > _least(sums))
        p = mcnemar(up, sizes.total() - up)
        if len(fuller) == 1:
            [(size, count)] = fuller.items()
            return p, size * smallest_detectable(count)
    values, tails = _tails(fuller)
    least = float(values[tails < LEVEL][0])
    if len(sizes) > 1:
        values, tails = (values, tails) if fuller is sizes else _tails(sizes)
        reached = values >= abs(math.fsum(sums)) - 1e-9 * values[-1]
        p = float(min(1.0, max(FLOOR, tails[reached][0])))
    return p, least


def smallest_detectable(disagreements: int) -> int:
    """The least net count of disagreements one way that so many, six at least, could have shown at 5 %."""
    count = max(disagreements, FEWEST)
    return next(
        2 * up - count for up in range((count + 1) // 2, count + 1) if mcnemar(up, count - up) < LEVEL
    )


def mcnemar(up: int, down: int) -> float:
    """Exact two-sided p of `up` against `down` disagreements under equal chances: twice the smaller
    binomial tail, at most 1."""
    n, term, tail = up + down, 1, 0
    for k in range(min(up, down) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p values in the order given, each at most 1 and none under a
    smaller one's."""
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def _least(sums: Sequence[float]) -> float:
    """What is below this is rounding."""
    return 1e-9 * max((abs(one) for one in sums), default=0.0)


def _sizes(sums: Sequence[float]) -> Counter[float]:
    """How often each size of change occurs, to ten digits; those of no change left out."""
    least = _least(sums)
    return Counter(float(f"{abs(one):.9e}") for one in sums if abs(one) > least)


def _tails(sizes: Mapping[float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Totals from 0 up, and for each the chance of one at least so large in either direction."""
    import numpy as np

    listed = math.prod(many + 1 for many in sizes.values()) <= EXACT
    values, chances = _listed(sizes) if listed else _on_a_grid(sizes)
    values = np.abs(values)
    _, first, at = np.unique(np.round(values / values.max(), 9), return_index=True, return_inverse=True)
    summed = np.bincount(at, chances)
    return values[first], np.cumsum(summed[::-1])[::-1]


def _flips(many: int) -> tuple[np.ndarray, np.ndarray]:
    """Totals of `many` signs, and their chances."""
    import numpy as np

    top = math.lgamma(many + 1) - many * math.log(2)
    logs = [top - math.lgamma(k + 1) - math.lgamma(many - k + 1) for k in range(many + 1)]
    return 2.0 * np.arange(many + 1) - many, np.exp(logs)


def _listed(sizes: Mapping[float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Every total of flipped signs, and its chance."""
    import numpy as np

    values, chances = np.zeros(1), np.ones(1)
    for size, many in sizes.items():
        totals, likely = _flips(many)
        values = np.add.outer(values, size * totals).ravel()
        chances = np.multiply.outer(chances, likely).ravel()
    return values, chances


def _on_a_grid(sizes: Mapping[float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Totals on a grid (exactly where the sizes have a common unit), and their chances: a product of Fourier
    transforms."""
    import numpy as np

    reach, least = sum(size * many for size, many in sizes.items()), min(sizes)
    unit = reach / EXACT
    for parts in (1, 2, 3, 4, 6, 12):
        shares = [size * parts / least for size in sizes]
        if reach * parts / least <= EXACT and all(abs(one - round(one)) < 1e-6 for one in shares):
            unit = least / parts
            break
    half = math.ceil(reach / unit) + len(sizes)
    length = 1 << (2 * half).bit_length()
    product = np.ones(length // 2 + 1, dtype=complex)
    for size, many in sizes.items():
        totals, likely = _flips(many)
        places = np.round(totals * (size / unit)).astype(int) % length
        product *= np.fft.rfft(np.bincount(places, likely, length))
    chances = np.maximum(np.fft.irfft(product, length), 0)
    places = np.arange(-half, half + 1)
    return places * unit, chances[places]
