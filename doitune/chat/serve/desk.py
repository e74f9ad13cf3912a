"""The desk: many who ask, one model that answers, first come first served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event

from doitune.chat.partner import Partner
from doitune.chat.reply import Reply, Style, answer


@dataclass(frozen=True)
class Order:
    """One reply that is asked for; its prompt is encoded."""

    partner: Partner
    prompt: tuple[int, ...]
    style: Style


class Desk:
    """Replies are written in a thread of their own, one after the other, so that the order in which they were
    asked for is the order of the answers. `on_reply` is told of each one and of the seconds it waited."""

    def __init__(self, on_reply: Callable[[Reply, float], None]) -> None:
        self.on_reply = on_reply
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._closing = Event()

    async def replies(self, order: Order) -> AsyncGenerator[str | Reply, None]:
        """The pieces of a reply as they are written, then the reply. Who stops listening ends it, also where
        it has not begun. Errors: those of `answer`."""
        loop, heard = asyncio.get_running_loop(), asyncio.Queue[str | Reply | BaseException]()
        gone, asked_at = Event(), time.monotonic()

        def tell(one: str | Reply | BaseException) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody listens
                loop.call_soon_threadsafe(heard.put_nowait, one)

        def over() -> bool:
            return gone.is_set() or self._closing.is_set()

        def write() -> None:
            waited = time.monotonic() - asked_at
            try:
                reply = answer(order.partner, order.prompt, order.style, tell, over)
            except BaseException as error:
                tell(error)
            else:
                self.on_reply(reply, waited)
                tell(reply)

        work = self._thread.submit(write)
        try:
            while True:
                one = await heard.get()
                if isinstance(one, BaseException):
                    raise one
                yield one
                if isinstance(one, Reply):
                    return
        finally:
            gone.set()
            work.cancel()

    def close(self) -> None:
        """End the reply that is being written, and forget the others."""
        self._closing.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
