"""The losses of a training as a line of braille: where it stands, at a glance."""

from __future__ import annotations

from collections.abc import Sequence

LEFT, RIGHT = (0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08)
"""The dots of a braille cell's two columns, from the bottom."""

BLANK = 0x2800
MOST_POINTS = 256
"""Means that are kept; then two become one."""


class Curve:
    """Numbers as they come, thinned out to means of equal spans."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self.span, self.waiting = 1, [0.0, 0.0]

    def add(self, value: float) -> None:
        """The next number; one that is not finite has no place in a picture."""
        if not abs(value) < float("inf"):
            return
        self.waiting = [self.waiting[0] + value, self.waiting[1] + 1]
        if self.waiting[1] >= self.span:
            self.points.append(self.waiting[0] / self.waiting[1])
            self.waiting = [0.0, 0.0]
        if len(self.points) >= MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2])
            self.points, self.span = [(a + b) / 2 for a, b in pairs], 2 * self.span

    def text(self, width: int) -> str:
        """At most `width` cells, two points each; "" where there is nothing to see yet."""
        if width < 1 or len(self.points) < 2:
            return ""
        heights = _heights(_thinned(self.points, 2 * width))
        heights += [0] * (len(heights) % 2)
        pairs = zip(heights[::2], heights[1::2])
        return "".join(chr(BLANK + sum(LEFT[:left]) + sum(RIGHT[:right])) for left, right in pairs)


def _thinned(points: Sequence[float], count: int) -> list[float]:
    """At most `count` means of neighbours."""
    if len(points) <= count:
        return list(points)
    edges = [number * len(points) // count for number in range(count + 1)]
    return [sum(points[a:b]) / (b - a) for a, b in zip(edges, edges[1:])]


def _heights(points: Sequence[float]) -> list[int]:
    """1 to 4 for each, from the least to the largest."""
    low, high = min(points), max(points)
    if high == low:
        return [1] * len(points)
    return [1 + min(3, int(4 * (one - low) / (high - low))) for one in points]
