"""A run in a few words, from its directory alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from doitune.errors import CheckpointError
from doitune.run.folder import Run
from doitune.run.layout import ORIGIN, reports
from doitune.run.log import STEP


def summarise(run: Run) -> dict[str, Any]:
    """A line of `doitune runs list`: state is `done`, `running` or `stopped`; scores are headline means in
    0..1 by suite and checkpoint."""
    lines = run.log.lines(STEP)
    try:
        done = run.done()
    except CheckpointError:
        done = None
    try:
        model = str(run.read_json(ORIGIN)["base"]["name"])
    except (CheckpointError, KeyError, TypeError):
        model = ""
    return {
        "name": run.name,
        "path": str(run.folder),
        "state": state_of(run, done),
        "recipe": run.folder.parent.name,
        "model": model,
        "step": lines[-1]["step"] if lines else 0,
        "best": done["best_step"] if done else run.best_step(),
        "scores": _scores(run),
    }


def state_of(run: Run, done: Mapping[str, Any] | None) -> str:
    """`done`, `running` or `stopped`. `done`: the run's last record, if there is one."""
    return "done" if done else "running" if run.is_locked() else "stopped"


def _scores(run: Run) -> dict[str, dict[str, float]]:
    """The headline mean of each finished evaluation."""
    scores: dict[str, dict[str, float]] = {}
    for path in reports(run.folder):
        try:
            tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
            scores.setdefault(path.parent.parent.name, {})[path.parent.name] = float(
                tables[0]["mean"]["score"]
            )
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            continue
    return scores
