"""Partner: who is talked to, a model that is loaded with the encoder that trained it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

from doitune.errors import DataError
from doitune.prompt.encode import encode_question
from doitune.run.layout import BASE

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.backends.written import Sampling
    from doitune.data.message import Message
    from doitune.prompt.template import Template


_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: Python's stand-in for a byte that is not UTF-8, or a JSON escape."""


class TooLong(DataError):
    """A conversation that leaves no room for a reply in the model's context."""


@dataclass(frozen=True)
class Partner:
    """A model that can be asked. `own`: how its replies are drawn where nobody says, and `own_why` where that
    stands. `context_tokens`: question and reply together; None where the base states no limit. `adapted`:
    with its adapter, else the base alone. `notes`: what its reader has to know. `reading`: held by who uses
    the tokenizer, which serves one thread at a time."""

    name: str
    model: LoadedModel
    template: Template
    own: Sampling
    own_why: str
    context_tokens: int | None
    adapted: bool = True
    notes: tuple[str, ...] = ()
    reading: Lock = field(default_factory=Lock, compare=False, repr=False)

    def base(self) -> Partner:
        """The untrained base of an adapted one, in the same memory."""
        return replace(self, name=f"{self.name}@{BASE}", adapted=False, notes=())

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids of a conversation that ends with a user's turn, as training encoded it. Errors: DataError
        for a text that forges a turn or holds half a character; ModelError where the base's own template
        refuses it."""
        for one in messages:
            if half := _HALF.search(one.said + one.name):
                problem = f"the {one.role}'s text holds {half[0]!r}, which is half a character"
                raise DataError(problem, "what comes from a file, a pipe or a terminal has to be UTF-8")
        with self.reading:
            return encode_question(messages, self.template)

    def room(self, prompt: Sequence[int], wanted: int) -> int:
        """How many tokens a reply may have, at most `wanted`. Errors: TooLong."""
        if self.context_tokens is None:
            return wanted
        left = self.context_tokens - len(prompt)
        if left < 1:
            raise TooLong(
                f"the conversation is {len(prompt):,} tokens long, {self.name} reads {self.context_tokens:,}",
                "ask with less text",
            )
        return min(wanted, left)
