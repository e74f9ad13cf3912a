"""Worlds whose growth is known: ten abilities with true curves, transfer and seeds' noise, from which a family
of runs is drawn. What the fit concludes is held against the truth, in tests and in bench/bench_growth.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from doitune.growth.measured import Design, Growth, Measured, Member, Score

NAMES = (
    "biology",
    "history",
    "code",
    "creative_writing",
    "chinese",
    "understanding",
    "role_play",
    "reasoning",
    "math",
    "ethics",
)
CHANCE = np.array([0.25, 0.32, 1 / 3, 1 / 3, 0.15, 0.29, 1 / 3, 0.25, 0.0, 0.07])
BUDGETS = (16, 64, 256, 480)
LATIN = (0, 0, 8, 16, 32, 64, 128, 256, 480, 960)
LEFT_OUT_AT = 256
STOCK = 1000
ITEMS = 100

Shape = Literal["weibull", "hill", "power", "log_linear"]
Sharing = Literal["all", "capped", "partners"]


@dataclass
class World:
    """The truth: by ability floor, top, rows to learn (`need`), exponent, worth of others' rows (`tau`), the
    share that others can teach (`cap`), and partners' worth [to, from]."""

    seed: int
    shape: Shape = "weibull"
    sharing: Sharing = "all"
    needs: tuple[float, float] = (8, 1500)
    seed_deviation: float = 0.15
    flat: int = 1
    floor: np.ndarray = field(init=False)
    top: np.ndarray = field(init=False)
    need: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        dice = np.random.default_rng(1000 + self.seed)
        count = len(NAMES)
        self.floor = CHANCE.copy()
        self.top = np.clip(self.floor + dice.uniform(0.2, 0.7, count), 0, 0.97)
        if self.flat:
            self.top[dice.choice(count, self.flat, replace=False)] = 0
            self.top = np.maximum(self.top, self.floor + 0.03)
        self.need = np.exp(dice.uniform(np.log(self.needs[0]), np.log(self.needs[1]), count))
        self.exponent = dice.uniform(0.7, 1.3, count)
        self.tau = np.exp(dice.uniform(np.log(0.003), np.log(0.3), count))
        self.cap = dice.uniform(0, 0.8, count)
        if self.needs[0] == self.needs[1]:  # equal needs: nothing sets the abilities apart
            self.top, self.exponent = self.floor + 0.5, np.ones(count)
            self.tau, self.cap = np.full(count, 0.03), np.full(count, 0.4)
        self.partners = np.zeros((count, count))
        for one in range(count):
            others = [other for other in range(count) if other != one]
            self.partners[one, dice.choice(others, 2, replace=False)] = self.tau[one] * 4.5

    def risen(self, rows: np.ndarray, need: np.ndarray) -> np.ndarray:
        """The share of the gain after so many rows."""
        if self.shape == "weibull":
            return 1 - np.exp(-((rows / need) ** self.exponent))
        if self.shape == "hill":
            return 1 / (1 + (need / np.maximum(rows, 1e-9)) ** self.exponent)
        if self.shape == "power":
            return 1 - (1 + rows / need) ** -self.exponent
        return np.clip(np.log1p(rows / 8) / np.log1p(need / 2), 0, 1)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """[abilities]: the expected score at these rows of each."""
        rows = np.asarray(rows, dtype=float)
        if self.sharing == "partners":
            learnt = self.risen(rows + self.partners @ rows, self.need)
            return self.floor + (self.top - self.floor) * learnt
        return self.at(rows, rows.sum() - rows)

    def at(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """[abilities]: the expected score at own rows and others', where it does not matter whose they are."""
        if self.sharing == "all":
            learnt = self.risen(rows + self.tau * others, self.need)
        else:
            helped = self.risen(rows + others / 9, self.need / 3)
            learnt = (1 - self.cap) * self.risen(rows, self.need) + self.cap * helped
        return self.floor + (self.top - self.floor) * learnt

    def complexity(self) -> np.ndarray:
        """[abilities]: log2 of own rows, alone, at half of the attainable gain."""
        rows = np.unique(np.round(np.exp(np.linspace(0, np.log(20000), 400))))
        found = np.empty(len(NAMES))
        alone = []
        for count in rows:
            learnt = self.risen(np.full(len(NAMES), count), self.need)
            if self.sharing == "capped":
                helped = self.risen(np.full(len(NAMES), count), self.need / 3)
                learnt = (1 - self.cap) * learnt + self.cap * helped
            alone.append(learnt)
        for one in range(len(NAMES)):
            found[one] = np.log2(rows[min(len(rows) - 1, int((np.array(alone)[:, one] < 0.5).sum()))])
        return found

    def transference(self, rows: int = LEFT_OUT_AT) -> np.ndarray:
        """[abilities]: of the gain at `rows` of each, the share that is there without own rows."""
        full = np.full(len(NAMES), float(rows))
        whole = self.scores(full) - self.floor
        found = np.empty(len(NAMES))
        for one in range(len(NAMES)):
            without = full.copy()
            without[one] = 0
            found[one] = (self.scores(without)[one] - self.floor[one]) / whole[one]
        return found

    def moves(self) -> np.ndarray:
        """[abilities]: whether there is anything to learn."""
        return self.top - self.floor > 0.1

    def run(self, rows: np.ndarray, dice: np.random.Generator) -> np.ndarray:
        """[abilities]: right answers of one run with a seed of its own."""
        expected = np.clip(self.scores(rows), 0.002, 0.998)
        logit = np.log(expected / (1 - expected)) + self.seed_deviation * dice.standard_normal(len(NAMES))
        return dice.binomial(ITEMS, 1 / (1 + np.exp(-logit)))


def designs(dice: np.random.Generator, *, leave_one_out: bool = True) -> Iterator[tuple[Design, np.ndarray]]:
    """Equal budgets, a Latin square of budgets over abilities, and each ability left out once."""
    count = len(NAMES)
    for rows in BUDGETS:
        yield "equal", np.full(count, rows)
    shift, order, symbols = (dice.permutation(count) for _ in range(3))
    for dealt in np.array(LATIN)[symbols[(shift[:, None] + order[None]) % count]]:
        yield "latin", dealt
    for one in range(count if leave_one_out else 0):
        without = np.full(count, LEFT_OUT_AT)
        without[one] = 0
        yield "leave_one_out", without


def single_sources(rows: int = LEFT_OUT_AT) -> Iterator[tuple[Design, np.ndarray]]:
    """Each ability alone."""
    for one in range(len(NAMES)):
        alone = np.zeros(len(NAMES), dtype=int)
        alone[one] = rows
        yield "single_source", alone


def growth(world: World, runs: list[tuple[Design, np.ndarray]], seed: int = 0) -> Growth:
    """What these runs of a world measured (the same scores on valid and test)."""
    dice = np.random.default_rng(7000 + seed)
    members = []
    for number, (design, rows) in enumerate(runs):
        dealt = {name: int(n) for name, n in zip(NAMES, rows, strict=True) if n}
        right = world.run(rows, dice)
        scores = {
            name: Score(float(hits), ITEMS, float(chance))
            for name, hits, chance in zip(NAMES, right, CHANCE, strict=True)
        }
        member = Member(f"{design}-{number}", design, "demo", "curated", 0, dealt)
        members.append(Measured(member, dealt, 100, {"valid": scores, "test": scores}))
    titles = {name: name.replace("_", " ").title() for name in NAMES}
    return Growth("simulated", NAMES, titles, dict.fromkeys(NAMES, STOCK), tuple(members))
