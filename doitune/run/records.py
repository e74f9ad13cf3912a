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
from doitune.prompt.moment import is_moment
from doitune.run.layout import DONE, ORIGIN
from doitune.system.json_records import read_object


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


def _moment_or_none(value: object) -> bool:
    return value is None or value == "" or is_moment(value)


def _counts_leaks(value: object) -> bool:
    return isinstance(value, dict) and _count(value.get("leaks", 0))


def _list_or_none(value: object) -> bool:
    return value is None or isinstance(value, list)


Form = Mapping[str, Callable[[object], bool]]

DONE_FORM: Form = {"final_step": _count, "best_step": _count, "stopped_early": _flag, "seconds": _number}
"""What done.json must hold."""

ORIGIN_FORM: Form = {
    "base": _object,
    "encoder": _object,
    "data": _counts_leaks,
    "allowed": _list_or_none,
    "moment": _moment_or_none,
}
"""What origin.json must hold; its recipe is compared by `changes`."""

FORMS: Mapping[str, tuple[Form, str]] = {
    DONE: (DONE_FORM, "delete this file and resume the run: it is written anew"),
    ORIGIN: (ORIGIN_FORM, "bring it back from a backup, or start a new run from this run's recipe.yaml"),
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
        read = read_object(path)
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


def is_line(read: Mapping[str, Any]) -> bool:
    """Whether a JSON object is a line of metrics.jsonl as a run writes it."""
    event, step = read.get("event"), read.get("step")
    form = _LINES.get(event, {}) if isinstance(event, str) else None
    return (
        form is not None
        and _count(step)
        and all(is_right(read.get(name, "")) for name, is_right in form.items())
    )
