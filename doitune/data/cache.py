"""Where fetched and made corpora lie."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_CURE = "make room, or set XDG_CACHE_HOME to a folder elsewhere"
"""What helps where the cache cannot be written."""


def corpora_folder() -> Path:
    """The folder in the user's cache that holds fetched and made corpora ($XDG_CACHE_HOME, or ~/.cache)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    root = cache if cache.is_absolute() else Path.home() / ".cache"
    return root / "doitune" / "corpora"
