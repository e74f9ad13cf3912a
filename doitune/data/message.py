"""Message: one turn of a conversation, and what it holds beside its text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool. `arguments`: the JSON text of an object. `id`: "" where the row gives none."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Message:
    """One turn.

    `learnt`: whether an assistant turn is trained; if not, it still stands before the next. `thinking`: what
    the assistant thought before it spoke, where the row has a field for that (thoughts in `<think>` stay in
    `content`). `calls`: the tools that an assistant turn calls. `name`, `call_id`: which tool and which call
    a tool's result is of, "" where the row does not say. `tools`: of a conversation's first turn, the JSON
    text of the list of tools that it offers; "" without any.
    """

    role: Role
    content: str
    learnt: bool = True
    thinking: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    call_id: str = ""
    tools: str = ""

    @property
    def answer(self) -> str:
        """What the turn says once it has thought: its text, and each call as a JSON object on a line."""
        return self._with_calls(split_thoughts(self.content)[1])

    @property
    def said(self) -> str:
        """All that the turn says, thoughts and calls included."""
        if not (self.thinking or self.calls):
            return self.content
        return self._with_calls("\n".join(text for text in (self.thinking, self.content) if text))

    def _with_calls(self, text: str) -> str:
        if not self.calls:
            return text
        calls = [f'{{"name": {_json(call.name)}, "arguments": {call.arguments}}}' for call in self.calls]
        return "\n".join([*([text] if text.strip() else []), *calls])


def split_thoughts(content: str) -> tuple[str, str]:
    """What stands within `<think>` at the start of a text, without outer blanks, and the rest."""
    found = _THOUGHT.match(content)
    return (found[1].strip(), content[found.end() :]) if found else ("", content)


def content_key(messages: tuple[Message, ...]) -> bytes:
    """A digest of what a conversation says: equal for equal turns, whatever the line ends and outer spaces
    in them."""
    said = "\x1f".join(
        f"{turn.role}\x1e{turn.said.strip()}" + (f"\x1d{turn.tools}" if turn.tools else "")
        for turn in messages
    )
    return sha256(said.replace("\r\n", "\n").encode()).digest()


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
