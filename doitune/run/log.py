"""Log: metrics.jsonl, one JSON line for each step, validation or event of a run. Its reader forgives a line
torn by a crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from doitune.run.layout import METRICS, SUPERSEDED
from doitune.run.records import is_line
from doitune.system.disk import append_line, read_lines, write_whole
from doitune.system.json_records import object_of

VALIDATION, STEP = "validation", "step"
"""Events that others read; the rest is for people."""


class Log:
    """The log of one run."""

    def __init__(self, folder: Path, patiently: Callable[[Callable[[], None]], None]) -> None:
        """`patiently`: does a small write, and waits for room as long as the run does."""
        self.path, self.superseded_path = folder / METRICS, folder / SUPERSEDED
        self._patiently = patiently

    def add(self, document: dict[str, Any]) -> None:
        """Add a line."""
        self._patiently(lambda: append_line(self.path, document))

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """Every whole line, or those of one event; what is torn, or lost its form in an editor, is left
        out."""
        whole = [line for line in read_lines(self.path) if is_line(line)]
        return [line for line in whole if line["event"] == event] if event else whole

    def set_unread_aside(self) -> int:
        """Move lines that are none into metrics.superseded.jsonl, but for a torn last one; returns how
        many."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.is_file() else []
        read = [(line, object_of(line)) for line in lines if line.strip()]
        unread = [line for line, found in read if found is None or not is_line(found)]
        for line in unread:
            append_line(self.superseded_path, {"unread": line.decode("utf-8", "replace")})
        return len(unread)

    def cut(self, step: int, validations: Sequence[Mapping[str, Any]] = ()) -> int:
        """Move the lines of later steps than `step` (they are trained again) into metrics.superseded.jsonl.

        `validations` that a checkpoint remembers and a damaged log has lost stand in it again. Returns how
        many optimiser steps are trained again.
        """
        lines = self.lines()
        late = [line for line in lines if line["step"] > step]
        for line in late:
            append_line(self.superseded_path, line)
        kept = [line for line in lines if line["step"] <= step]
        known = {line["step"] for line in kept if line["event"] == VALIDATION}
        for lost in validations:
            if lost["step"] not in known:
                kept.insert(sum(other["step"] <= lost["step"] for other in kept), dict(lost))
        if kept or self.path.is_file():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
            self._patiently(lambda: write_whole(self.path, text))
        return len({line["step"] for line in late if line["event"] == STEP})


def best_of(validations: Sequence[Mapping[str, Any]], after_epoch: int) -> int | None:
    """The step of the best of these lines: highest score, of equals (or without scores) the lowest loss, of
    equals the earlier one.

    Only validations after `after_epoch` count (the paper: after epoch 5), unless there are none. None
    without any validation.
    """
    late = [line for line in validations if line["epoch"] > after_epoch] or validations
    if not late:
        return None

    def goodness(line: Mapping[str, Any]) -> tuple[bool, float, float, int]:
        score = line["score"]
        return score is not None, score or 0.0, -line["loss"], -line["step"]

    return int(max(late, key=goodness)["step"])
