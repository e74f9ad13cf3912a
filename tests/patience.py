"""How long a test waits for what takes seconds on an idle machine: only what hangs takes longer, however slow or busy
the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

HANGS = 900.0
"""Seconds after which a command, or what it was to do, is taken for lost."""


def wait_for(what: Callable[[], object]) -> None:
    """Until `what` gives something; AssertionError where nothing happens."""
    end = time.monotonic() + HANGS
    while not what():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.005)
