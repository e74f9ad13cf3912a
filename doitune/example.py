"""Message and Example: one conversation, the ability it teaches or tests, and how its answer is read.

Example is the noun that travels from a corpus file to a step of training or a question of an evaluation. It never holds token ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from doitune.ability import Form


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Example:
    """One conversation, which starts with a user turn and ends with the assistant turn that is learnt or asked for.

    `id` is stable: `curated/1000/math#17` (folder, ability and the row's `idx`; without a unique `idx`, a hash of the content).
    `form` is "open" for training rows whose answer has no question form to be scored by.
    `options` are the letters a choice question offers ("A", "B", ...), empty otherwise.
    `choices` are the three candidates of a ppl_rank question, the right one first, empty otherwise.
    `label` is what a scorer compares with: a letter, sorted letters ("ACD"), "T" or "F", a text, a LaTeX answer; "" where open.
    `place` is `file:line`, for messages.
    """

    id: str
    ability: str
    messages: tuple[Message, ...]
    form: Form
    place: str
    label: str = ""
    options: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def question(self) -> tuple[Message, ...]:
        """Every turn but the last."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The content of the last turn."""
        return self.messages[-1].content
