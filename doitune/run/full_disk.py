"""What a run does when its disk is full: make room among its own things, try again, wait for somebody to
make more, and only then give up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from doitune.errors import DiskError
from doitune.system.disk import is_full, need_room
from doitune.system.units import MIB

Made = TypeVar("Made")

NAP_SECONDS = 0.2
"""How long a signal may go unheard while a run waits."""


def _say_nothing(text: str) -> None:
    pass


def _go_on() -> None:
    pass


@dataclass
class Patience:
    """How long to wait for room: `minutes` in all, with a look every `every_seconds`. `report` is given a
    line; `check` may raise to stop."""

    minutes: float = 0.0
    every_seconds: float = 30.0
    report: Callable[[str], None] = _say_nothing
    check: Callable[[], None] = _go_on

    def end(self) -> None:
        """From here on nothing is waited for and nobody is asked."""
        self.minutes, self.check = 0.0, _go_on

    def write(
        self, folder: Path, wanted_bytes: int, work: Callable[[], Made], relieve: Callable[[], bool]
    ) -> Made:
        """Do `work`, which puts about `wanted_bytes` below `folder` and leaves nothing behind where it fails.

        Whether the disk is full is asked of the disk: libraries say it in too many ways. Full: `relieve`
        deletes something of ours (False: there is nothing more), then we wait. Not full: tried once more.
        Errors: DiskError when patience is at its end.
        """
        failed, until = 0, 0.0
        while True:
            try:
                need_room(folder, wanted_bytes)
                return work()
            except DiskError as error:
                last = error
            full = last.full or is_full(folder)
            failed += 0 if full else 1
            if failed > 1 or (full and not until and not self.minutes and not relieve()):
                raise last
            if not full or relieve():
                continue
            until = until or self._begin(folder, last)
            if time.monotonic() >= until:
                raise last
            self._nap(until)

    def _begin(self, folder: Path, error: DiskError) -> float:
        """Say that we wait; returns until when, on the monotonic clock."""
        free = shutil.disk_usage(folder).free
        self.report(
            f"the disk is full ({free / MIB:.1f} MiB free in {folder}): waiting up to {self.minutes:g} "
            f"minutes for room; {error.problem}"
        )
        return time.monotonic() + 60 * self.minutes

    def _nap(self, until: float) -> None:
        end = min(until, time.monotonic() + self.every_seconds)
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(NAP_SECONDS, left))
