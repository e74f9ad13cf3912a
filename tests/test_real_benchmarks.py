"""A real model of 135M weights is asked real CMMLU and AGIEval questions. Marked `real`: skipped, saying
why, where either is missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_benchmarks import real

from doitune.evals.report import Report
from doitune.evals.request import Request
from doitune.evals.targets import evaluate_target

pytestmark = pytest.mark.real

SUBJECTS = ("ancient_chinese", "elementary_chinese", "high_school_biology")
SETS = ("gaokao-history",)
LIMIT = 3


class Interrupted(BaseException):
    """As a signal would be: no Exception."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two benchmarks cut down to three subjects and a set, outside the project."""
    root = tmp_path_factory.mktemp("基准")
    for split in ("dev", "test"):
        (root / "cmmlu" / split).mkdir(parents=True)
        for subject in SUBJECTS:
            shutil.copy(real("cmmlu") / split / f"{subject}.csv", root / "cmmlu" / split)
    (root / "agieval" / "v1").mkdir(parents=True)
    shutil.copy(real("agieval") / "few_shot_prompts.csv", root / "agieval")
    for name in SETS:
        shutil.copy(real("agieval") / "v1" / f"{name}.jsonl", root / "agieval" / "v1")
    return {"cmmlu": root / "cmmlu", "agieval-v1": root / "agieval"}


def ask(
    model: Path, data: dict[str, Path], runs: Path, interrupt_at: int | None = None
) -> dict[tuple[str, int], Report]:
    """Both benchmarks, without and with examples; stopped after `interrupt_at` batches."""
    batches = 0

    def on_progress(label: str, progress: Any) -> None:
        nonlocal batches
        batches += 1
        if batches == interrupt_at:
            raise Interrupted

    request = Request(("cmmlu", "agieval-v1"), shots=(0, 5), data=data, limit=LIMIT)
    return {
        (one.report.suite, one.report.shots): one.report
        for one in evaluate_target(str(model), request, runs=runs, on_progress=on_progress)
    }


def test_a_real_model_is_asked_and_five_interruptions_change_nothing(
    smollm2: Path,
    data: dict[str, Path],
    tmp_path: Path,
) -> None:
    whole = ask(smollm2, data, tmp_path / "whole")
    assert set(whole) == {("cmmlu", 0), ("cmmlu", 5), ("agieval-v1", 0), ("agieval-v1", 5)}
    for (suite, _), report in whole.items():
        assert report.n == LIMIT * len(SUBJECTS if suite == "cmmlu" else SETS) and report.partial
        for table in report.tables:
            assert 0 <= table.mean.low <= table.mean.score <= table.mean.high <= 1
            assert all(one.low < one.high and one.unread == 0 and one.too_long == 0 for one in table.sets)
    interruptions = 0
    for _ in range(5):
        with pytest.raises(Interrupted):
            ask(smollm2, data, tmp_path / "parts", interrupt_at=1)
        interruptions += 1
    parts = ask(smollm2, data, tmp_path / "parts")
    assert interruptions == 5 and {key: report.tables for key, report in parts.items()} == {
        key: report.tables for key, report in whole.items()
    }
    lines = [
        sorted(
            line
            for path in (tmp_path / name).rglob("outcomes.jsonl")
            for line in path.read_text("utf-8").splitlines()
        )
        for name in ("whole", "parts")
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 2 * LIMIT * len((*SUBJECTS, *SETS))
