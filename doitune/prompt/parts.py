"""Parts: what a chat template writes for every chat of a shape, with places for the contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_IS = {
    "in": lambda content, text: text in content,
    "==": lambda content, text: content == text,
    "startswith": lambda content, text: content.startswith(text),
    "endswith": lambda content, text: content.endswith(text),
}


@dataclass(frozen=True)
class Parts:
    """`pieces`: literal texts, and the numbers of the turns whose contents stand between them. `untrue`: what
    must not be so of a turn's content (question, number, text) for the pieces to be what the template writes.
    """

    pieces: tuple[str | int, ...]
    untrue: tuple[tuple[str, int, str], ...]

    def text(self, contents: Sequence[str]) -> str | None:
        """What the template writes around these contents; None where they are not of those that it writes
        alike. They are stripped and not empty."""
        if any(_IS[question](contents[number], text) for question, number, text in self.untrue):
            return None
        return "".join([one if isinstance(one, str) else contents[one] for one in self.pieces])
