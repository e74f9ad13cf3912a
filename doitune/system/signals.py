"""Signals that ask a command to stop, and the two ways to obey: at once, or where the work is whole.

A signal that the process was started to ignore (`nohup`, a background job) stays ignored.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from doitune.errors import Stopped

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


class StopAsked(BaseException):
    """A signal asks for an end; no `except Exception` of a library may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Asked:
    """The signals that have arrived, and whether the first one may interrupt what runs now."""

    def __init__(self, echo_seconds: float = 0.0) -> None:
        """`echo_seconds`: how long after the first signal the same one is no second one (torchrun passes a
        terminal's Ctrl-C on once more)."""
        self.numbers: list[int] = []
        self.echo_seconds = echo_seconds
        self._first_at = 0.0
        self._now = False

    @property
    def first(self) -> int:
        """The signal that came first; 0 while there is none."""
        return self.numbers[0] if self.numbers else 0

    def check(self) -> None:
        """StopAsked where a signal has arrived; called where the work is whole."""
        if self.numbers:
            raise StopAsked(self.numbers[0])

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, nothing can be lost: the first signal interrupts."""
        self.check()
        self._now = True
        try:
            with _unchanged(lambda: self.first):
                yield
        finally:
            self._now = False

    @property
    def in_haste(self) -> bool:
        """Asked twice: leave without another save."""
        return len(self.numbers) > 1

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The handler: the first signal is kept for `check`, the second interrupts, the third ends the
        process."""
        if number == self.first and time.monotonic() - self._first_at < self.echo_seconds:
            return
        self._first_at = self._first_at or time.monotonic()
        self.numbers.append(number)
        if len(self.numbers) > 2:
            os._exit(Stopped(number, "").exit_code)
        if self._now or self.in_haste:
            raise StopAsked(number)


class Break:
    """Ctrl-C inside a conversation: it ends the piece of work that goes on, not the command.

    Inside `piece` the first one is noted for `asked` to say so, a second one raises KeyboardInterrupt;
    outside, each raises it. SIGTERM and the others stay what they were.
    """

    def __init__(self) -> None:
        self._inside, self._heard = False, False

    def asked(self) -> bool:
        """Whether the piece of work is to end."""
        return self._heard

    @contextmanager
    def piece(self) -> Iterator[None]:
        """One piece of work."""
        self._inside, self._heard = True, False
        try:
            yield
        finally:
            self._inside = False

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The handler."""
        if self._inside and not self._heard:
            self._heard = True
            return
        raise KeyboardInterrupt

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside, SIGINT is this."""
        with handled((signal.SIGINT,), self.note):
            yield


@contextmanager
def deferred(asked: Asked) -> Iterator[None]:
    """Inside, `asked` notes the stopping signals, and the first one waits to be asked for. Only the main
    thread can handle signals."""
    with handled(STOPPING, asked.note):
        try:
            yield
        finally:
            if asked.numbers:
                _way_out.begin()


class _WayOut:
    """The end of this process: the first signal begins it, by raising; what then comes within `GRACE` may
    not disturb the last words."""

    GRACE = 1.0
    """Seconds in which a further signal is the same wish (Ctrl-C pressed twice); after them it ends the
    process without a word."""

    def __init__(self) -> None:
        self.number = 0
        self._begun = 0.0

    def begin(self) -> None:
        """What is left is to say how it ended."""
        self._begun = time.monotonic()

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The handler outside `deferred`."""
        if not self._begun:
            self.begin()
            self.number = number
            # never KeyboardInterrupt: Python remembers one that passes through an exec, and dies of SIGINT
            raise StopAsked(number)
        if time.monotonic() - self._begun > self.GRACE:
            os._exit(Stopped(number, "").exit_code)


_way_out = _WayOut()


def obey() -> None:
    """From here to the end of the process a stopping signal raises StopAsked at once; see `_WayOut`.

    While Python takes itself apart no handler is left, and a signal would put its own exit code in place of
    ours: then none is heard.
    """
    global _way_out
    _way_out = _WayOut()
    if threading.current_thread() is threading.main_thread():
        atexit.register(_hold, STOPPING, signal.SIG_IGN)  # the first to be registered is the last that runs
        _hold(STOPPING, _way_out.note)


def last_words() -> None:
    """The command has ended and only says so: from here on a signal raises nothing."""
    _way_out.begin()


@contextmanager
def unchanged() -> Iterator[None]:
    """After a signal an error is that signal's: compiled libraries turn what a handler raises into errors
    of their own."""
    with _unchanged(lambda: _way_out.number):
        yield


@contextmanager
def _unchanged(heard: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        if heard():
            raise StopAsked(heard()) from error
        raise


def stopped(error: BaseException, what: str, hint: str) -> Stopped:
    """The user's side of StopAsked or KeyboardInterrupt: which signal, `what` became of the work, how to
    go on."""
    number = error.number if isinstance(error, StopAsked) else int(signal.SIGINT)
    return Stopped(number, f"{signal.Signals(number).name}: {what}", hint)


@contextmanager
def handled(numbers: tuple[int, ...], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Inside, `handler` is called for these signals; outside of the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _hold(numbers, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _hold(
    numbers: tuple[int, ...], handler: Callable[[int, FrameType | None], None] | signal.Handlers
) -> dict[int, Any]:
    """Put a handler on the signals that are not ignored; what was there."""
    before = {number: signal.getsignal(number) for number in numbers}
    heard = {number: old for number, old in before.items() if old is not signal.SIG_IGN and old is not None}
    for number in heard:
        signal.signal(number, handler)
    return heard
