"""Conversation: what was said so far to one partner, and what of it still fits the partner's context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doitune.chat.partner import Partner, TooLong
from doitune.data.message import Message

SHORTEST_REPLY_TOKENS = 64
"""Older turns make room for so many tokens of a reply, or for half of the context where that is less."""


@dataclass(frozen=True)
class Asked:
    """A prompt, and how many of the oldest turns were left out of it to make room."""

    prompt: tuple[int, ...]
    dropped: int


@dataclass(frozen=True)
class Conversation:
    """User's and assistant's turns in pairs; `system` stands before the first that is sent."""

    system: str = ""
    turns: tuple[Message, ...] = ()

    def after(self, question: str, reply: str) -> Conversation:
        """With one more question and its reply."""
        more = Message("user", question), Message("assistant", reply)
        return Conversation(self.system, (*self.turns, *more))

    def undone(self) -> Conversation:
        """Without the last question and its reply."""
        return Conversation(self.system, self.turns[:-2])

    def asking(self, question: str, partner: Partner) -> Asked:
        """The prompt of a next question: with every turn, or without the oldest ones where the context is too
        short. Errors: TooLong where the question alone is; DataError for a text that forges a turn."""
        for dropped in range(0, len(self.turns) + 1, 2):
            turns = (*self.turns[dropped:], Message("user", question))
            prompt = partner.prompt(with_system(self.system, turns))
            last = dropped == len(self.turns)
            if last or fits(prompt, partner):
                partner.room(prompt, 1)
                return Asked(prompt, dropped)
        raise AssertionError("the last round returns")


def fits(prompt: Sequence[int], partner: Partner) -> bool:
    """Whether a prompt leaves room for a short reply."""
    context = partner.context_tokens
    wanted = SHORTEST_REPLY_TOKENS if context is None else min(SHORTEST_REPLY_TOKENS, context // 2)
    try:
        return partner.room(prompt, wanted) >= wanted
    except TooLong:
        return False


def with_system(system: str, turns: Sequence[Message]) -> tuple[Message, ...]:
    """The turns under a system's text, where there is one."""
    return (Message("system", system), *turns) if system.strip() else tuple(turns)
