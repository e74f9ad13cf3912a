"""What a page shows of a run, read from its directory alone. Every figure is checked: a run can come from a
stranger.

Errors: CheckpointError for a record that is damaged; what was never written (no evaluation yet, no
validation) is simply absent.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from doitune.errors import CheckpointError
from doitune.evals.compare import Comparison, compare, read_side
from doitune.evals.markdown import notes, wrong_answers
from doitune.evals.report import Mean, Report, SetScore, Table
from doitune.evals.saved import Line
from doitune.recipe.budget import Ledger
from doitune.run.folder import Run
from doitune.run.layout import BASE, DONE, LEDGER, ORIGIN, RECIPE, REPORT, reports
from doitune.run.log import STEP, VALIDATION
from doitune.run.summary import state_of
from doitune.system.json_records import read_object

WRONG_ANSWERS = 12
"""Wrong answers of one evaluation that are shown to read."""

T = TypeVar("T")

_DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError)
"""What reading a record of another form raises."""


@dataclass(frozen=True)
class Point:
    """A value after so many steps."""

    step: int
    value: float


@dataclass(frozen=True)
class Curves:
    """What metrics.jsonl says: losses in nats a token, scores in 0..1, memory in GiB (`planned_gib`: the
    plan's, where a card was planned for), seconds of all steps."""

    loss: tuple[Point, ...]
    validation: tuple[Point, ...]
    score: tuple[Point, ...]
    abilities: Mapping[str, tuple[Point, ...]]
    peak_memory_gib: float
    planned_gib: float | None
    seconds: float
    trained_tokens: int


@dataclass(frozen=True)
class Scored:
    """One evaluation: the checkpoint (`base`, `step-000320`), its table, and what a reader must know of
    it."""

    checkpoint: str
    report: Report
    table: Table
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """The evaluations of one suite, the base first; the base against the best adapter, and answers that
    one got wrong."""

    name: str
    scored: tuple[Scored, ...]
    comparison: Comparison | None
    wrong: tuple[Line, ...]


@dataclass(frozen=True)
class RunView:
    """All that the page shows of one run."""

    name: str
    state: str
    recipe: str
    origin: Mapping[str, Any]
    ledger: Ledger
    done: Mapping[str, Any]
    curves: Curves
    suites: tuple[Suite, ...]


def _checked(what: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """A reader whose surprises at a record's form are the record's damage."""

    def around(reader: Callable[..., T]) -> Callable[..., T]:
        @wraps(reader)
        def inner(run: Run, *more: Any) -> T:
            try:
                return reader(run, *more)
            except _DAMAGE as error:
                problem = f"the {what} of {run.name} cannot be read: {error!r}"
                raise CheckpointError(problem, "this run is damaged or of another version") from error

        return inner

    return around


def view(run: Run) -> RunView:
    """One run. Errors: CheckpointError."""
    origin, ledger, done = (_json(run, name) for name in (ORIGIN, LEDGER, DONE))
    return RunView(
        run.name,
        state_of(run, done),
        _recipe(run),
        origin,
        _ledger(run, ledger),
        _done(run, done),
        _curves(run),
        _suites(run),
    )


@_checked("records")
def _json(run: Run, name: str) -> dict[str, Any]:
    path = run.folder / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


@_checked("recipe")
def _recipe(run: Run) -> str:
    return (run.folder / RECIPE).read_text(encoding="utf-8")


@_checked("ledger")
def _ledger(run: Run, read: Mapping[str, Any]) -> Ledger:
    counts = {str(name): {str(key): int(value) for key, value in line.items()} for name, line in read.items()}
    return Ledger.from_json(counts)


@_checked("end")
def _done(run: Run, read: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: read[key] for key in ("final_step", "best_step", "stopped_early", "seconds") if key in read}
    return {key: float(value) if key == "seconds" else int(value) for key, value in known.items()}


@_checked("metrics")
def _curves(run: Run) -> Curves:
    lines = run.log.lines()
    steps = [line for line in lines if line["event"] == STEP]
    checks = [line for line in lines if line["event"] == VALIDATION]
    planned = [
        float(line["planned_gib"])
        for line in lines
        if line["event"] == "trial" and line.get("planned_gib") is not None
    ]
    names = dict.fromkeys(str(name) for line in checks for name in line.get("loss_by_ability") or {})
    return Curves(
        tuple(_points(steps, "loss")),
        tuple(_points(checks, "loss")),
        tuple(_points(checks, "score")),
        {
            name: tuple(
                _points([{**line, "own": line["loss_by_ability"].get(name)} for line in checks], "own")
            )
            for name in names
        },
        max((float(line["peak_memory_gib"]) for line in steps), default=0.0),
        planned[-1] if planned else None,
        sum(float(line["seconds"]) for line in steps),
        sum(int(line["trained_tokens"]) for line in steps),
    )


def _points(lines: Sequence[Mapping[str, Any]], key: str) -> Iterator[Point]:
    """Finite values, by step."""
    for line in lines:
        if line.get(key) is not None and math.isfinite(float(line[key])):
            yield Point(int(line["step"]), float(line[key]))


@_checked("evaluations")
def _suites(run: Run) -> tuple[Suite, ...]:
    folders: dict[str, list[Path]] = {}
    for path in reports(run.folder):
        folders.setdefault(path.parent.parent.name, []).append(path.parent)
    return tuple(
        _suite(name, sorted(found, key=lambda folder: (folder.name != BASE, folder.name)))
        for name, found in folders.items()
    )


def _suite(name: str, folders: Sequence[Path]) -> Suite:
    scored = {folder: _scored(folder) for folder in folders}

    def mean(folder: Path) -> float:
        return scored[folder].table.mean.score

    tuned = [folder for folder in folders if folder.name != BASE]
    comparison = None
    if folders[0].name == BASE and tuned:
        best = max(tuned, key=mean)
        comparison = compare(read_side(folders[0], BASE), read_side(best, best.name))
    else:
        best = max(folders, key=mean)
    wrong = _from_all_sets(wrong_answers(best, at_most=sys.maxsize))
    return Suite(name, tuple(scored.values()), comparison, tuple(wrong))


def _from_all_sets(lines: Sequence[Line]) -> list[Line]:
    """The first answers of each set, by turns, WRONG_ANSWERS in all."""
    turn: dict[str, int] = {}
    order: list[tuple[int, int, Line]] = []
    for line in lines:
        turn[line.item.set] = turn.get(line.item.set, 0) + 1
        order.append((turn[line.item.set], len(order), line))
    return [line for _, _, line in sorted(order, key=lambda one: one[:2])[:WRONG_ANSWERS]]


def _scored(folder: Path) -> Scored:
    """One evaluation's scores. CheckpointError names the file."""
    path = folder / REPORT
    try:
        report = Report.from_json(read_object(path))
        table = report.tables[0]
        cells: list[SetScore | Mean] = [*table.sets, table.mean, table.mean_all, *table.groups.values()]
        for value in (value for one in cells for value in (one.score, one.low, one.high, one.chance, one.n)):
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{value!r} is no score")
        return Scored(folder.name, report, table, tuple(notes(table)))
    except _DAMAGE as error:
        raise CheckpointError(
            f"not the scores of an evaluation: {error!r}"[:300],
            f"write them anew from the saved replies: doitune score {folder}",
            place=str(path),
        ) from error
