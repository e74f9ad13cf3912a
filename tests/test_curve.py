"""The curve of losses in the terminal: it falls where losses fall, stays within its width and its memory."""

from __future__ import annotations

import math

from doitune.console.curve import BLANK, MOST_POINTS, Curve


def drawn(values: list[float], width: int) -> list[int]:
    """Dots of each column, two columns a cell."""
    curve = Curve()
    for value in values:
        curve.add(value)
    cells = [ord(char) - BLANK for char in curve.text(width)]
    return [count for cell in cells for count in ((cell & 0x47).bit_count(), (cell & 0xB8).bit_count())]


def test_a_falling_loss_falls_and_a_rising_one_rises() -> None:
    falling = drawn([8.0 - n / 10 for n in range(64)], 16)
    assert len(falling) == 32 and falling[0] == 4 and falling[-1] == 1
    assert falling == sorted(falling, reverse=True) and {*falling} == {1, 2, 3, 4}
    assert drawn([n / 10 for n in range(64)], 16) == falling[::-1]
    assert drawn([2.0] * 10, 16) == [1] * 10


def test_it_is_never_wider_than_asked_and_keeps_few_points() -> None:
    """Trap: a training of 100,000 steps whose every step reads them all."""
    curve = Curve()
    for step in range(10_000):
        curve.add(1 / (1 + step))
        assert len(curve.points) < MOST_POINTS and len(curve.text(12)) <= 12
    assert len(curve.text(12)) == 12 and len(curve.points) >= MOST_POINTS // 2 - 1


def test_nothing_to_see_is_nothing() -> None:
    curve = Curve()
    assert curve.text(12) == ""
    for value in (math.nan, math.inf, 1.0):
        curve.add(value)
    assert curve.text(12) == "" and curve.text(0) == ""
    curve.add(0.5)
    assert len(curve.text(12)) == 1
