"""The tokens of a mathematical expression, and where its reader stands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_CHARACTERS = 400
"""Of an expression. With MAX_DEPTH of `expression` and the bounds in `values` it bounds the work by
construction, so no clock is needed."""

TOKEN = re.compile(r"\s+|(\d+\.\d+|\.\d+|\d+\.?|\\[a-zA-Z]+|[a-zA-Z]|.)", re.DOTALL | re.ASCII)


class Unreadable(ValueError):
    """The text is no expression that can be read."""


def tokens_of(text: str) -> Tokens:
    """Numbers, LaTeX commands and single characters, without the spaces. Raises Unreadable."""
    if len(text) > MAX_CHARACTERS:
        raise Unreadable("too long")
    return Tokens([token for token in TOKEN.findall(text) if token])


@dataclass
class Tokens:
    """Tokens that are taken one by one, the variables met so far, and how deep the reader is nested."""

    parts: list[str]
    at: int = 0
    depth: int = 0
    variables: set[str] = field(default_factory=set)

    def peek(self) -> str:
        """The next token, "" at the end."""
        return self.parts[self.at] if self.at < len(self.parts) else ""

    def last(self) -> str:
        """The token that was taken last."""
        return self.parts[self.at - 1]

    def take(self, wanted: str = "") -> str:
        """The next token, which must be `wanted` where that is given. Raises Unreadable."""
        token = self.peek()
        if not token or (wanted and token != wanted):
            raise Unreadable(f"{wanted or 'more'} expected, {token or 'end'} found")
        self.at += 1
        return token

    def cut_first_digit(self) -> None:
        """The next token is a number: its first digit becomes a token of its own."""
        token = self.peek()
        self.parts[self.at : self.at + 1] = [token[0], token[1:]]


def is_number(token: str) -> bool:
    """Whether a token is a decimal number; not every digit of Unicode is one: ①, ²."""
    return token.lstrip(".")[:1] in tuple("0123456789")
