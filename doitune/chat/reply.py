"""Reply: what a partner says to one prompt, heard as it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

from doitune.backends.out_of_memory import OutOfMemory
from doitune.backends.written import Sampling, Wish, Written
from doitune.chat.partner import Partner
from doitune.chat.text import TextStream
from doitune.errors import FitError

MOST_NEW_TOKENS = 1024
"""Of one reply, where nobody says."""

Finish = Literal["stop", "length", "broken off"]
"""Why a reply ended: the model's end token or a stop text; the room for it; its reader."""


@dataclass(frozen=True)
class Style:
    """How replies are to be: drawn how, at most how long, ended by which texts."""

    sampling: Sampling
    max_new_tokens: int = MOST_NEW_TOKENS
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What came back. `tokens`: those written, the end token left out."""

    text: str
    finish: Finish
    prompt_tokens: int
    tokens: int
    seconds: float


def answer(
    partner: Partner,
    prompt: Sequence[int],
    style: Style,
    on_text: Callable[[str], None],
    over: Callable[[], bool],
) -> Reply:
    """The reply to a prompt, told to `on_text` piece by piece; broken off once `over` says so.

    Errors: TooLong; FitError where memory runs out.
    """
    room = partner.room(prompt, style.max_new_tokens)
    stream, pieces, started = TextStream(partner.template, style.stop), list[str](), time.monotonic()

    def hand_on(text: str) -> None:
        if text:
            pieces.append(text)
            on_text(text)

    def read(token: int) -> str:
        with partner.reading:
            return stream.take(token)

    written = _written(
        partner,
        Wish(prompt, room, partner.template.stop_ids, style.sampling),
        lambda token: hand_on(read(token)),
        lambda: stream.stopped or over(),
    )
    with partner.reading:
        rest = stream.rest()
    hand_on(rest)
    finish: Finish = "stop" if written.stopped or stream.stopped else "length"
    if over() and not stream.stopped:
        finish = "broken off"
    seconds = time.monotonic() - started
    return Reply("".join(pieces), finish, len(prompt), len(written.ids), seconds)


def _written(
    partner: Partner, wish: Wish, on_token: Callable[[int], None], over: Callable[[], bool]
) -> Written:
    try:
        with nullcontext() if partner.adapted else partner.model.without_adapter():
            return partner.model.speak(wish, on_token, over)
    except OutOfMemory:
        pass
    # here: a traceback holds what filled the memory
    raise FitError(
        f"no memory for a reply to {len(wish.prompt):,} tokens", "free the card, or ask with less text"
    )
