"""A real model of 135M weights learns and is asked, through the desk. Marked `real`: skipped, saying why,
where it cannot be had.

The model is made by `../shared/tools/smollm2.py` (into that script's own folder, once); the questions are
CMMLU's from `../shared/data`.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from forked import asked

pytestmark = pytest.mark.real

CHECKOUT = Path(__file__).parents[1]
SHARED = CHECKOUT.parent / "shared"
FIELDS = ("biology", "history", "chinese", "ethics")
SUBJECTS = {
    "biology": ("high_school_biology", "anatomy", "virology"),
    "history": ("high_school_politics", "world_history", "chinese_history"),
    "chinese": ("elementary_chinese", "modern_chinese", "ancient_chinese"),
    "ethics": ("business_ethics", "jurisprudence", "marxist_theory"),
}
"""CMMLU subjects that stand in for four of the ten abilities."""


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred short CMMLU questions as a corpus: 60 to learn from, 8 valid and 8 test rows of each
    of four abilities."""
    folder = SHARED / "data" / "cmmlu" / "test"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here: there are no real questions")
    root = tmp_path_factory.mktemp("cmmlu 语料")
    for ability, subjects in SUBJECTS.items():
        rows = [row for subject in subjects for row in _rows(folder / f"{subject}.csv", ability)]
        rows = sorted(rows, key=lambda row: len(row["messages"][0]["content"]))[:76]
        assert len(rows) == 76, f"{ability}: too few questions"
        for split, chosen in (
            ("valid", rows[0:8]),
            ("test", rows[8:16]),
            ("1000", rows[16:]),
            ("full", rows[16:]),
        ):
            path = root / "curated" / split / f"{ability}_{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen), encoding="utf-8"
            )
    return root


def _rows(path: Path, ability: str) -> list[dict[str, Any]]:
    found = []
    with path.open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            options = "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")
            messages = [
                {"role": "user", "content": f"{row['Question']}\n{options}"},
                {"role": "assistant", "content": row["Answer"]},
            ]
            found.append(
                {"messages": messages, "type": ability, "idx": f"{path.stem}-{number}", "question_format": 0}
            )
    return found


SHORT = (
    "train.max_steps=10", "train.epochs=20", "train.examples_per_step=8", "train.validate_every=5", "train.learning_rate=1e-3",
    "train.max_tokens=768", "train.tokens_per_micro_batch=1024",
)  # fmt: skip


def _train_and_ask(
    recipe: str, model: Path, runs: Path, sets: tuple[str, ...], limit: str, *more: str
) -> None:
    """10 steps lower the validation loss, and the result is asked beside its base."""
    changes = [part for change in (*SHORT, *sets) for part in ("--set", change)]
    done = asked("train", recipe, "--model", str(model), "--runs", str(runs), *changes, *more)
    assert done["step"] == 10
    lines = [
        json.loads(line)
        for line in (Path(done["path"]) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    steps = [line["loss"] for line in lines if line["event"] == "step"]
    validations = {line["step"]: line["loss"] for line in lines if line["event"] == "validation"}
    assert len(steps) == 10 and set(validations) >= {5, 10}
    (arrangement,) = [line for line in lines if line["event"] == "arrangement"]
    assert arrangement["packed"], arrangement
    found = asked("eval", "last", "--runs", str(runs), "--limit", limit)["evaluations"]
    assert {one["checkpoint"].split("-")[0] for one in found} == {"base", "step"}
    assert all(line["n"] > 0 for one in found for line in one["sets"])
    again = asked("eval", "last", "--runs", str(runs), "--limit", limit)["evaluations"]
    assert again == found, "asked and kept"
    first = _untrained_loss(Path(done["path"]))
    assert validations[10] < first, validations


def _untrained_loss(folder: Path) -> float:
    """The validation loss of the run's base before its first step, computed as the run computes it."""
    from dataclasses import replace

    from doitune.recipe.resolve import resolve
    from doitune.run.folder import Run
    from doitune.run.model import load_model
    from doitune.train.loop import Training
    from doitune.train.plan import plan_training
    from doitune.train.setup import Setup

    plan = plan_training(resolve(str(folder / "recipe.yaml")))
    _, model = load_model(plan.recipe, plan.base, plan.material.template.new_rows, training=False)
    probe = Run(folder.parent / "untrained")
    (probe.folder / "checkpoints").mkdir(parents=True)
    training = Training(Setup(probe, plan.recipe, plan.material, model))
    training.at = replace(training.at, packed=True)
    training.validate()
    return training.at.validations[-1]["loss"]


def test_the_demo_corpus_lowers_a_real_models_loss(smollm2: Path, tmp_path: Path) -> None:
    short = ("train.validation_rows_per_ability=2", "eval.max_new_tokens=8")
    _train_and_ask("demo", smollm2, tmp_path / "runs", short, "1")


def test_real_questions_lower_a_real_models_loss(smollm2: Path, questions: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "real.yaml"
    budget = "".join(f"    {name}: 40\n" for name in FIELDS)
    recipe.write_text(
        f"summary: real questions\nmodel:\n  name: {smollm2}\ndata:\n  corpus: {questions}\n  budget:\n{budget}"
        "train:\n  validation_rows_per_ability: 4\n",
        encoding="utf-8",
    )
    _train_and_ask(str(recipe), smollm2, tmp_path / "runs", (), "4")
