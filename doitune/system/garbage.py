"""Python's search for garbage in cycles, spared where all that it walks over is still wanted."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Inside, nothing is searched, and what is imported never is: torch and transformers make half a million
    objects that live as long as the process, and a thousand searches among them took a fifth of the time."""
    searching, imported = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > imported:
            gc.freeze()
        if searching:
            gc.enable()


def none_at_exit() -> None:
    """Let the interpreter end without a last search: all memory is given back with the process."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
