"""What a client asks for: the body of POST /v1/chat/completions, checked.

Source: OpenAI's API reference, "Create chat completion". Fields that change nothing in a text (`user`,
`metadata`, ...) and unknown ones are passed over; those that would change the reply and are not obeyed here
are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from secrets import randbelow
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from doitune.chat.reply import Style
from doitune.chat.sampling import changed
from doitune.chat.serve.refusal import MALFORMED, Refusal, unsupported
from doitune.data.jsonl import RowError
from doitune.data.message import Message
from doitune.data.turns import read_messages

MOST_STOPS = 16

_NOT_OBEYED: Mapping[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "tools": (None, []),
    "functions": (None, []),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
}
"""Fields that would change the reply, with the values that ask for nothing."""


class _StreamOptions(BaseModel):
    include_usage: bool = False


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = None


@dataclass(frozen=True)
class Question:
    """One request. `usage`: whether a stream ends with what was read and written."""

    model: str
    messages: tuple[Message, ...]
    style: Style
    stream: bool
    usage: bool


def read_question(body: bytes, own: Style) -> Question:
    """The request in a body; `own`: how replies are where it does not say. Refusal."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(MALFORMED, f"the body is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refusal(MALFORMED, "the body is not a JSON object")
    for name, nothing in _NOT_OBEYED.items():
        if document.get(name) not in nothing:
            raise unsupported(name, f"{name} is not supported here: a request gets one reply, in text")
    try:
        asked = _Body.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Refusal(MALFORMED, f"{place}: {first['msg']}", param=place) from None
    return Question(
        asked.model,
        _messages(asked.messages),
        _style(asked, own),
        bool(asked.stream),
        bool(asked.stream_options and asked.stream_options.include_usage),
    )


def _style(asked: _Body, own: Style) -> Style:
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    if len(stop) > MOST_STOPS or not all(stop):
        raise Refusal(MALFORMED, f"stop: at most {MOST_STOPS} texts, none of them empty", param="stop")
    seed = randbelow(1 << 31) if asked.seed is None else asked.seed % (1 << 63)
    sampling = changed(own.sampling, temperature=asked.temperature, top_p=asked.top_p, seed=seed)
    most = asked.max_completion_tokens or asked.max_tokens or own.max_new_tokens
    return Style(sampling, most, tuple(stop))


def _messages(turns: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The turns as rows have them, which end with a user's or a tool's."""
    joined = list(_joined(turns))
    if not joined or joined[-1].get("role") == "assistant":
        raise Refusal(MALFORMED, "messages: the last turn is to be the user's", param="messages")
    try:
        return read_messages({"messages": [*joined, {"role": "assistant", "content": "."}]})[:-1]
    except RowError as error:
        raise Refusal(MALFORMED, f"messages: {error.problem}", param="messages") from None


def _joined(turns: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The turns, neighbours of one speaker as one with an empty line between; assistant turns that say
    nothing, as a reply that was broken off leaves them, are left out."""
    last: dict[str, Any] | None = None
    for turn in turns:
        role = "system" if turn.get("role") == "developer" else turn.get("role")
        turn = {**turn, "role": role}
        if role == "assistant" and not turn.get("content") and not turn.get("tool_calls"):
            continue
        if last is not None and _joins(last, turn):
            last["content"] = f"{last['content']}\n\n{turn['content']}"
            continue
        if last is not None:
            yield last
        last = turn
    if last is not None:
        yield last


def _joins(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    plain = all(isinstance(turn.get("content"), str) and not turn.get("tool_calls") for turn in (one, other))
    return plain and one["role"] == other["role"] and one["role"] in ("system", "user", "assistant")
