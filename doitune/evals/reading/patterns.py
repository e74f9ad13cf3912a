"""Regular expressions with their proof beside them: a text in which each must be found and one in which it
must not, or what it rewrites and what it leaves. The tests run every one of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Phrase:
    """One thing that people write: `regex` finds it in `found` and finds nothing in `missed`."""

    name: str
    regex: str
    found: str
    missed: str


@dataclass(frozen=True)
class Pattern:
    """Phrases of one meaning as one regular expression: any of them, between `before` and `behind`."""

    phrases: tuple[Phrase, ...]
    before: str = ""
    behind: str = ""
    flags: int = 0

    @property
    def source(self) -> str:
        """The regular expression as text, to stand inside another."""
        return self._source(*self.phrases)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The regular expression, compiled on first use."""
        return re.compile(self.source, self.flags)

    def alone(self, phrase: Phrase) -> re.Pattern[str]:
        """The pattern as it would be with this phrase only."""
        return re.compile(self._source(phrase), self.flags)

    def _source(self, *phrases: Phrase) -> str:
        return f"{self.before}(?:{'|'.join(phrase.regex for phrase in phrases)}){self.behind}"


def pattern(name: str, regex: str, found: str, missed: str, flags: int = 0) -> Pattern:
    """A pattern of one phrase."""
    return Pattern((Phrase(name, regex, found, missed),), flags=flags)


@dataclass(frozen=True)
class Rewrite:
    """One step of normalising text: `before` becomes `after`, and `unchanged` stays as it is."""

    name: str
    regex: str
    to: str | Callable[[re.Match[str]], str]
    before: str
    after: str
    unchanged: str

    def apply(self, text: str) -> str:
        """The text after this step."""
        return re.sub(self.regex, self.to, text)
