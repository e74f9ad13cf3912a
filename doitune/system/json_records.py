"""JSON as this project writes it: one object, no NaN and no infinity. What is read may have gone through an
editor."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Errors: OSError, ValueError, RecursionError."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")  # a pipe would be waited for
    read = _parsed(path.read_text(encoding="utf-8"))
    if not isinstance(read, dict):
        raise ValueError(f"it holds a {type(read).__name__}, not an object")
    return read


def object_of(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line of a log, or None."""
    try:
        read = _parsed(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _parsed(text: str) -> Any:
    """Errors: ValueError, RecursionError."""
    return json.loads(text, parse_constant=_refused, parse_float=_finite)


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number")
    return value
