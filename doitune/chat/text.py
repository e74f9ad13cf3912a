"""Tokens to text as they come: never half a character, and never the start of what is to end a reply."""

from __future__ import annotations

from collections.abc import Sequence

from doitune.prompt.encode import decode
from doitune.prompt.template import Template

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that are no character, or none yet."""


class TextStream:
    """The text of one reply. All that `take` and `rest` give, one behind the other, is the text of all tokens
    (`decode`), without the first of the texts in `stop` that is whole, and what follows it.

    A token's text depends on the one before it (a space, the bytes of one character): tokens are decoded
    together with those of the piece before.
    """

    def __init__(self, template: Template, stop: Sequence[str] = ()) -> None:
        self.template, self.stop = template, tuple(stop)
        self.stopped = False
        self._ids: list[int] = []
        self._before, self._read = 0, 0  # where the last piece and the next one begin
        self._held = ""

    def take(self, token: int) -> str:
        """What is sure to be written once `token` is."""
        if token not in self.template.control_ids:
            self._ids.append(token)
        return self._cut(self._fresh(whole=False))

    def rest(self) -> str:
        """What was held back, at the end of the reply."""
        held, self._held = self._cut(self._fresh(whole=True)) + self._held, ""
        return "" if self.stopped else held

    def _fresh(self, *, whole: bool) -> str:
        """The text that is new; what may be half a character only where the reply is `whole`."""
        known = decode(self._ids[self._before : self._read], self.template)
        now = decode(self._ids[self._before :], self.template)
        if len(now) <= len(known) or (now.endswith(UNFINISHED) and not whole):
            return ""
        self._before, self._read = self._read, len(self._ids)
        return now[len(known) :]

    def _cut(self, fresh: str) -> str:
        """`fresh` behind what was held, without what may still become a stop text."""
        if self.stopped:
            return ""
        text = self._held + fresh
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in self.stop if stop in text]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        most = max((_overlap(text, stop) for stop in self.stop), default=0)
        self._held = text[len(text) - most :]
        return text[: len(text) - most]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the start of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
