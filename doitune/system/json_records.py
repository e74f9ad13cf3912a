"""What the records of a run must hold before anything is built on them: a run can come from a friend, or
through an editor.

A record that lost its form is a CheckpointError with its file and the cure. A line of metrics.jsonl that lost
it is no line, as a torn one is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doitune.errors import CheckpointError


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number_or_none(value: object) -> bool:
    return value is None or _number(value)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _object(value: object) -> bool:
    return isinstance(value, dict)


def _counts_leaks(value: object) -> bool:
    return isinstance(value, dict) and _count(value.get("leaks", 0))


def _list_or_none(value: object) -> bool:
    return value is None or isinstance(value, list)


Form = Mapping[str, Callable[[object], bool]]

DONE: Form = {"final_step": _count, "best_step": _count, "stopped_early": _flag, "seconds": _number}
"""What done.json must hold."""

ORIGIN: Form = {"base": _object, "encoder": _object, "data": _counts_leaks, "allowed": _list_or_none}
"""What origin.json must hold; its recipe is `drift`'s to compare."""

FORMS: Mapping[str, tuple[Form, str]] = {
    "done.json": (DONE, "delete this file and resume the run: it is written anew"),
    "origin.json": (ORIGIN, "bring it back from a backup, or start a new run from this run's recipe.yaml"),
}
"""What a record must hold, and the cure where it does not."""

_LINES: Mapping[str, Form] = {
    "step": {"loss": _number, "grad_norm": _number},
    "validation": {"epoch": _number, "loss": _number, "score": _number_or_none},
}
"""What a line of metrics.jsonl must hold beside its step, by its event."""


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run, in its form. Errors: CheckpointError with the cure."""
    form, cure = FORMS.get(path.name, ({}, "this folder is not a whole run"))
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")  # a pipe would be waited for
        read = _parsed(path.read_text(encoding="utf-8"))
        if not isinstance(read, dict):
            raise ValueError(f"it holds a {type(read).__name__}, not an object")
        wrong = [name for name, is_right in form.items() if not is_right(read.get(name))]
        if wrong:
            raise ValueError(
                f"`{wrong[0]}` is missing"
                if wrong[0] not in read
                else f"`{wrong[0]}` is {json.dumps(read[wrong[0]])[:80]}"
            )
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", cure) from error
    return read


def object_of(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line of a log, or None."""
    try:
        read = _parsed(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def is_line(read: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a line of metrics.jsonl as a run writes it."""
    event, step = read.get("event"), read.get("step")
    form = _LINES.get(event, {}) if isinstance(event, str) else None
    return (
        form is not None
        and _count(step)
        and all(is_right(read.get(name, "")) for name, is_right in form.items())
    )


def _parsed(text: str) -> Any:
    """JSON as it is written here: no NaN, no infinity. Errors: ValueError, RecursionError."""
    return json.loads(text, parse_constant=_refused, parse_float=_finite)


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no number")
    return value
