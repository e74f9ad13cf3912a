"""The names of the data set's folders, each a source of rows."""

from __future__ import annotations

SMALL, FULL, VALID, TEST = (f"curated/{folder}" for folder in ("1000", "full", "valid", "test"))
SYNTHETIC = "synthetic/40960"
SOURCES = (SMALL, FULL, VALID, TEST, SYNTHETIC)
