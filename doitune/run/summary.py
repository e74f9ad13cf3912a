"""A run in a few words, from its directory alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from doitune.data.suites import CORPUS_SUITES
from doitune.errors import CheckpointError
from doitune.run.folder import Run
from doitune.run.layout import ORIGIN, reports
from doitune.run.log import STEP
from doitune.system.json_records import read_object


def summarise(run: Run) -> dict[str, Any]:
    """A line of `doitune runs list`: state is `done`, `running` or `stopped`; scores are headline means in
    0..1 by suite and checkpoint, `partial` names those of evaluations that asked only some questions."""
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
        **_scores(run),
    }


def can_be_asked(run: Run) -> bool:
    """Whether its recipe's suites have a question: public ones do, of the corpus those whose rows are there.
    True where the run did not record it."""
    try:
        origin = run.read_json(ORIGIN)
        suites = tuple(origin["recipe"]["eval.suite"])
        there = tuple(origin["places"]["judged_sources"])
    except (CheckpointError, KeyError, TypeError):
        return True
    return any(name not in CORPUS_SUITES or CORPUS_SUITES[name].source in there for name in suites)


def state_of(run: Run, done: Mapping[str, Any] | None) -> str:
    """`done`, `running` or `stopped`. `done`: the run's last record, if there is one."""
    return "done" if done else "running" if run.is_locked() else "stopped"


def _scores(run: Run) -> dict[str, Any]:
    """The headline mean of each finished evaluation, and which of them are partial."""
    scores: dict[str, dict[str, float]] = {}
    partial: dict[str, list[str]] = {}
    for path in reports(run.folder):
        suite, checkpoint = path.parent.parent.name, path.parent.name
        try:
            report = read_object(path)
            score, some = float(report["tables"][0]["mean"]["score"]), bool(report["partial"])
        except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
            continue
        scores.setdefault(suite, {})[checkpoint] = score
        if some:
            partial.setdefault(suite, []).append(checkpoint)
    return {"scores": scores, "partial": partial}
