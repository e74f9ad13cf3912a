"""Nodes: what a recipe's text holds, each scalar still text with its place (`file:line`)."""

from __future__ import annotations

from dataclasses import dataclass, field

NULLS = frozenset({"", "null", "~"})
"""Plain texts that say that nothing is written."""


@dataclass(frozen=True)
class Scalar:
    """A text and where it stands; `quoted` also for block text (`|`, `>`)."""

    text: str
    place: str
    quoted: bool = False

    @property
    def is_null(self) -> bool:
        """Nothing is written: empty, `null` or `~` without quotes."""
        return not self.quoted and self.text in NULLS


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    place: str


@dataclass(frozen=True)
class Fields:
    """A mapping. The `place` of a value is the line of its key."""

    entries: dict[str, Node] = field(default_factory=dict)
    place: str = ""


Node = Scalar | Items | Fields


def quote(text: str, most: int = 60) -> str:
    """`text` as messages show it: what cannot be printed is escaped, what is long is cut."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[:most]
    )
    return f"`{shown}{'...' if len(text) > most else ''}`"
