"""Whose score is shown as whose: of several runs, of checkpoints that were asked different questions, of
evaluations that asked only some."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_page import make_run

from doitune.console import scores as screen_scores
from doitune.console.training import show_runs
from doitune.evals.evaluation import Evaluation
from doitune.evals.report import Report
from doitune.report.page import page
from doitune.run.folder import Run
from doitune.run.summary import summarise


def evaluations(run: Run) -> Path:
    return run.folder / "evals" / "doit-test"


def make_partial(folder: Path, total: int) -> None:
    """The evaluation in `folder` says that its suite has `total` questions."""
    path = folder / "report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**report, "total": total, "partial": True}), encoding="utf-8")


def test_several_runs_are_listed_by_their_own_scores(tmp_path: Path) -> None:
    """Trap: the best of all scores is shown as the run's, which is the base's where training made it worse."""
    runs = [make_run(tmp_path / name, "x") for name in ("one", "two")]
    worse = evaluations(runs[0])
    (worse / "base").rename(worse / "other")
    (worse / "step-000020").rename(worse / "base")
    (worse / "other").rename(worse / "step-000020")
    shutil.rmtree(evaluations(runs[1]) / "step-000020")
    listed = page(runs).partition('id="run-1"')[0]
    assert "doit-test 0.0" in listed and "doit-test 75.0" not in listed
    assert "the base; no checkpoint is evaluated" in listed


def test_partial_scores_are_marked_wherever_they_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "recipe" / "run", "x")
    make_partial(evaluations(run) / "step-000020", 400)
    found = summarise(run)
    assert found["partial"] == {"doit-test": ["step-000020"]} and set(found["scores"]["doit-test"]) == {
        "base",
        "step-000020",
    }
    show_runs([found])
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("(partial)") == 1 and "75.0 (partial)" in said
    assert "partial: 4 of 400" in page([run, run]).partition('id="run-1"')[0]


def test_checkpoints_that_were_asked_different_questions_do_not_share_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trap: one n for both; a score of 10 questions reads as one of 1,000."""
    run = make_run(tmp_path / "run", "x")
    path = evaluations(run) / "base" / "report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    for table in report["tables"]:
        table["sets"][0]["n"] = 3
    path.write_text(json.dumps({**report, "n": 3}), encoding="utf-8")
    document = page([run])
    assert document.count("<h2>Scores: doit-test") == 2 and "points over the base" not in document
    reports = [
        Report.from_json(json.loads((folder / "report.json").read_text(encoding="utf-8")))
        for folder in sorted(evaluations(run).iterdir())
    ]
    screen_scores.show_evaluations(
        [Evaluation("run", name, one) for name, one in zip(("base", "step-000020"), reports)]
    )
    said = capsys.readouterr().out
    assert said.count("chance") == 2
