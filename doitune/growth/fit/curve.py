"""How an ability's score follows from rows: its own and others'.

    score = floor + gain * [s F(n + tau others) + (1 - s) F(n)]

`n` own rows; `others` rows of all other abilities together; each of those is worth `tau` own ones, but only
for the share `s` of the gain. F rises from 0 to 1 and is 1/2 at `half` own rows, in one of three shapes that
differ in their tails (Weibull's, Hill's, a power law's), so that a conclusion never rests on one of them. An
ability without a row of its own may also lack the form of its answers: `unformed` is the share of its
questions that are then lost.

The priors are weak and fixed: pooling abilities by empirical Bayes gained nothing in simulations.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

SHAPES = ("weibull", "hill", "power")

HALF, STEEP, WORTH, GAIN, FLOOR, SHARED, FORM = range(7)
"""Columns of parameters, each normal beforehand: log of own rows at half of the gain; log of the exponent;
log of tau; logit of the gain as a share of what lies between the floor and 99 %; the floor less where it is
expected; logit of s; what makes `unformed` (none below half a deviation)."""

CENTRES = np.array([log(80), 0.0, log(0.03), 0.0, 0.0, 1.0, 0.0])
DEVIATIONS = np.array([1.8, 0.3, 1.6, 1.5, 0.02, 2.0, 1.0])
"""The priors. Of `half`, 90 % lie from 4 to 1,500 rows; of tau, from 0.002 to 0.4."""

TOP = 0.99
"""No ability is expected to get more than this share of its questions right."""


@dataclass(frozen=True)
class Draws:
    """Curves of one ability, drawn alike often as they are believed in.

    parameters: [draws, 7], columns as named above; shapes: [draws], places in SHAPES; precisions: [draws],
    places in noise.PRECISIONS; floor: the score expected without any rows, 0..1.
    """

    parameters: np.ndarray
    shapes: np.ndarray
    precisions: np.ndarray
    floor: float

    def floors(self) -> np.ndarray:
        """[draws]: the score without rows, the form of answers known."""
        return np.clip(self.floor + self.parameters[:, FLOOR], 0.001, 0.95)

    def gains(self) -> np.ndarray:
        """[draws]: what can be attained over the floor, with any number of rows."""
        return (TOP - self.floors()) * _logistic(self.parameters[:, GAIN])

    def scores(self, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        """[draws, budgets]: the expected score, 0..1, at [budgets] own rows and others' rows."""
        own, others = np.asarray(own, dtype=float), np.asarray(others, dtype=float)
        worth, shared = np.exp(self.parameters[:, WORTH]), _logistic(self.parameters[:, SHARED])
        distinct, places = np.unique(own, return_inverse=True)
        alone = self._learnt(np.broadcast_to(distinct, (len(worth), len(distinct))))[:, places]
        helped = self._learnt(own + worth[:, None] * others)
        learnt = alone + shared[:, None] * (helped - alone)
        score = self.floors()[:, None] + self.gains()[:, None] * learnt
        lost = np.clip((self.parameters[:, FORM] - 0.5) / 2, 0, 0.98)
        return score * np.where(own > 0, 1.0, 1 - lost[:, None])

    def take(self, places: np.ndarray) -> Draws:
        """The draws at these places."""
        return Draws(self.parameters[places], self.shapes[places], self.precisions[places], self.floor)

    def _learnt(self, rows: np.ndarray) -> np.ndarray:
        """F at [draws, budgets] rows."""
        steep = np.exp(self.parameters[:, STEEP])[:, None]
        apart = np.log(np.maximum(rows, 1e-12)) - self.parameters[:, HALF, None]
        learnt = np.empty(rows.shape)
        for place, shape in enumerate(SHAPES):
            among = self.shapes == place
            if among.any():
                learnt[among] = _risen(shape, apart[among], steep[among])
        return learnt


def _risen(shape: str, apart: np.ndarray, steep: np.ndarray) -> np.ndarray:
    """F, 1/2 at 0, by the log of rows over `half`."""
    if shape == "power":
        width = np.expm1(log(2) / steep)
        return -np.expm1(-steep * np.log1p(width * np.exp(np.minimum(apart, 50.0))))
    powered = np.exp(np.clip(steep * apart, -50.0, 50.0))
    return -np.expm1(-log(2) * powered) if shape == "weibull" else powered / (1 + powered)


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
