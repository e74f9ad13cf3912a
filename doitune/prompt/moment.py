"""The moment that a base's chat template takes for now: chosen once, and kept with what was rendered at it.

Some templates print the date (`strftime_now("%d %b %Y")`). By the clock, a training and its evaluation on the
next day would have other prompts.
"""

from __future__ import annotations

from datetime import datetime


def now() -> str:
    """The local time to the second, `2025-03-01T09:30:00`."""
    return datetime.now().isoformat(timespec="seconds")


def is_moment(value: object) -> bool:
    """Whether `value` is a text as `now` gives it."""
    if not isinstance(value, str):
        return False
    try:
        read = datetime.fromisoformat(value)
        return read.tzinfo is None and read.isoformat(timespec="seconds") == value
    except ValueError:
        return False
