"""Replies in the forms of OpenAI's endpoint: one document, or the events of a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from doitune.chat.reply import Reply

DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""


def event(document: Mapping[str, Any]) -> bytes:
    """A document as an event of a stream."""
    return b"data: " + json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n\n"


def models(names: Sequence[str], since: int) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [model(name, since) for name in names]}


def model(name: str, since: int) -> dict[str, Any]:
    """One model."""
    return {"id": name, "object": "model", "created": since, "owned_by": "doitune"}


@dataclass(frozen=True)
class Completion:
    """What one request is answered with. `usage`: whether its stream ends with figures."""

    model: str
    usage: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, reply: Reply) -> dict[str, Any]:
        """The reply in one document."""
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
        return {**self._head("chat.completion"), "choices": [choice], "usage": figures(reply)}

    def begin(self) -> bytes:
        """The first event."""
        return self._event({"role": "assistant", "content": ""})

    def piece(self, text: str) -> bytes:
        """A piece of the reply."""
        return self._event({"content": text})

    def end(self, reply: Reply) -> bytes:
        """The last events: why it ended and, where asked for, what was read and written."""
        last = self._event({}, _finish(reply))
        if self.usage:
            head = self._head("chat.completion.chunk")
            last += event({**head, "choices": [], "usage": figures(reply)})
        return last + DONE

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _event(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        nothing_yet = {"usage": None} if self.usage else {}
        return event({**self._head("chat.completion.chunk"), "choices": [choice], **nothing_yet})


def figures(reply: Reply) -> dict[str, int]:
    """How many tokens were read and written."""
    whole = reply.prompt_tokens + reply.tokens
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.tokens,
        "total_tokens": whole,
    }


def _finish(reply: Reply) -> str:
    return "length" if reply.finish == "length" else "stop"
