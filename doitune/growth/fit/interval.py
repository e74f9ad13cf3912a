"""A value with the interval that it lies in, and how draws become one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.9
"""Of every interval of a growth: from the 5th to the 95th hundredth of the draws."""


@dataclass(frozen=True)
class Interval:
    """`value` is the median of its draws; `low, high` hold 90 % of them."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws: np.ndarray) -> Interval:
        """From draws of one number (at least one, all finite)."""
        low, value, high = np.quantile(draws, ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
        return cls(float(value), float(low), float(high))

    def is_above(self, threshold: float) -> bool | None:
        """Whether all of it reaches a threshold, none of it does, or (None) it lies on both sides."""
        return True if self.low >= threshold else False if self.high < threshold else None
