"""Python's search for garbage in cycles, spared where all that it walks over is still wanted."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MODELS = "transformers.modeling_utils"
"""What every model in memory is made by."""


@contextmanager
def importing() -> Iterator[None]:
    """Inside, nothing is searched, and what then lives never is: torch and transformers make half a million
    objects that live as long as the process, and searches among them find next to nothing.

    Where a model may be in memory, it and all else is searched as before once this is over.
    """
    searching, imported, before_models = gc.isenabled(), len(sys.modules), MODELS not in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if before_models and len(sys.modules) > imported:
            gc.freeze()
        if searching:
            gc.enable()


def none_at_exit() -> None:
    """Let the interpreter end without a last search: memory is given back with the process. What lies in a
    cycle is not finalised, which Python does not promise either; exit handlers run as ever."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
