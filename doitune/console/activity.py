"""What is done now, shown while it goes on: nothing that takes a second is silent.

A thread looks at the clock: on a terminal the live line says what is done, how much of it, and for how long;
elsewhere a line says so after FIRST_SECONDS, and again after longer and longer gaps.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import TypeVar

from doitune.console.screen import duration
from doitune.system.doing import Doing, heard_by

T = TypeVar("T", bound="Activity")

FIRST_SECONDS = 1.0
"""What takes less is not worth a line; what takes more is said by then."""

TICK_SECONDS = 0.25
LONGER, LONGEST_GAP_SECONDS = 2.0, 60.0
FIRST_GAP_SECONDS = 10.0
"""Elsewhere than on a terminal: the gap between lines about the same work, from the first to the longest, and
how much longer each is than the one before."""


class Pace:
    """What is done now, since when, and when a log is told of it again."""

    def __init__(self) -> None:
        self.now, self.since = Doing(""), time.monotonic()
        self.next_line, self.gap = self.since, FIRST_GAP_SECONDS
        self.shown = False

    def hear(self, now: Doing) -> None:
        """Work begins, or goes on: the same text is the same work. Texts that differ in their numbers alone,
        as those of steps do, share the gaps between lines."""
        if now.text != self.now.text:
            self.since = time.monotonic()
            if _kind(now) != _kind(self.now):
                self.next_line, self.gap = self.since + FIRST_SECONDS, FIRST_GAP_SECONDS
        self.now = now

    def said(self) -> None:
        """A line has been shown."""
        self.next_line = time.monotonic() + self.gap

    def due(self, *, live: bool) -> str:
        """The line that is to be shown at this moment; "" where there is none. A live line that is there is
        never left at work that is over."""
        moment, count = time.monotonic(), f": {self.now.done:,}" if self.now.done else ""
        late = self.shown or moment >= self.since + FIRST_SECONDS if live else moment >= self.next_line
        if not self.now.text or not late:
            return ""
        self.shown = True
        self.said()
        self.gap = min(LONGEST_GAP_SECONDS, self.gap * LONGER)
        if self.now.total:
            count = f": {self.now.done:,} of {self.now.total:,}"
        took = moment - self.since
        return f"{self.now.text}{count}" + (f" ({duration(took)})" if took >= 2 * FIRST_SECONDS else "")


def _kind(now: Doing) -> str:
    return "".join(char for char in now.text if not char.isdecimal())


class Activity(ABC):
    """Shows the work that goes on inside its `with`. `live`: several lines a second, each to be written over
    the one before."""

    def __init__(self, *, live: bool) -> None:
        self.live, self.pace = live, Pace()
        self.lock = threading.RLock()
        self.open = ExitStack()

    @abstractmethod
    def show(self, line: str) -> None:
        """Show what is done at this moment."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more is shown."""

    def hear(self, now: Doing) -> None:
        """Work begins, or goes on."""
        with self.lock:
            self.pace.hear(now)

    def __enter__(self: T) -> T:
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), name="activity", daemon=True)
        thread.start()
        self.open.callback(self.close)
        self.open.callback(thread.join)
        self.open.callback(over.set)
        self.open.enter_context(heard_by(self.hear))
        return self

    def __exit__(self, *exception: object) -> None:
        self.open.close()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(TICK_SECONDS):
            with self.lock:
                if line := self.pace.due(live=self.live):
                    self.show(line)
