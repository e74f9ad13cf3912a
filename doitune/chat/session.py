"""Session: one conversation with a partner, or the same one with two side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from doitune.chat.conversation import Conversation
from doitune.chat.partner import Partner
from doitune.chat.reply import Reply, Style, answer


class Listener(Protocol):
    """Who hears the replies as they come."""

    def begins(self, name: str) -> None:
        """The reply of a partner is next; `name` is "" where there is one alone."""

    def text(self, piece: str) -> None:
        """A piece of it."""

    def ends(self, reply: Reply, dropped: int) -> None:
        """It is whole; `dropped` of the oldest turns did not fit."""

    def over(self) -> bool:
        """Whether its reader has had enough."""


@dataclass(frozen=True)
class Said:
    """One partner's reply in a turn."""

    name: str
    question: str
    reply: Reply
    dropped: int


@dataclass
class _Side:
    partner: Partner
    said: Conversation


class Session:
    """What is asked goes to every side; each side knows its own replies only."""

    def __init__(self, partner: Partner, style: Style, *, system: str = "") -> None:
        self.style, self._asked = style, 0
        self.sides = [_Side(partner, Conversation(system))]

    @property
    def partner(self) -> Partner:
        """Who the conversation is with."""
        return self.sides[0].partner

    @property
    def said(self) -> Conversation:
        """What was said with that one."""
        return self.sides[0].said

    def beside(self, partner: Partner | None) -> None:
        """Ask `partner` from now on, too, in place of any other; it takes over the turns so far."""
        self.sides = self.sides[:1]
        if partner is not None:
            self.sides.append(_Side(partner, self.said))

    def change(self, change: Callable[[Conversation], Conversation]) -> None:
        """Change what every side knows."""
        for side in self.sides:
            side.said = change(side.said)

    def ask(self, question: str, listener: Listener) -> list[Said]:
        """Every side's reply. Nothing is kept of a turn that fails, or that its reader breaks off before the
        last side has begun. Each turn is drawn with a seed of its own, one more than the one before.

        Errors: those of `Conversation.asking` and `answer`.
        """
        sampling = self.style.sampling
        style = replace(self.style, sampling=replace(sampling, seed=sampling.seed + self._asked))
        self._asked += 1
        found: list[Said] = []
        for side in self.sides:
            if found and listener.over():
                return found
            asked = side.said.asking(question, side.partner)
            listener.begins(side.partner.name if len(self.sides) > 1 else "")
            reply = answer(side.partner, asked.prompt, style, listener.text, listener.over)
            listener.ends(reply, asked.dropped)
            found.append(Said(side.partner.name, question, reply, asked.dropped))
        for side, said in zip(self.sides, found, strict=True):
            side.said = side.said.after(question, said.reply.text)
        return found
