"""The log of a run reads after any crash, says which step is best, and is cut where training goes on from."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_runs import checkpoint, make, step_line, steps, validation

from doitune.run.folder import relieve
from doitune.run.log import VALIDATION, best_of
from doitune.run.model import checkpoint_step


def test_the_best_step_is_the_highest_score_and_of_equals_the_lower_loss(tmp_path: Path) -> None:
    """Trap: with few validation questions scores tie often, and the earlier step has learnt less."""
    run = make(tmp_path)
    assert run.best_step() is None
    for step, score, loss in [(10, 0.5, 3.0), (20, 0.7, 9.0), (30, 0.7, 1.0), (40, 0.7, 1.0), (50, 0.6, 0.5)]:
        validation(run, step, step / 10, loss, score)
    assert run.best_step() == 30, "not the lowest loss of all, and the earlier of equals"
    validation(run, 60, 6.0, 0.1, None)
    assert run.best_step() == 30, "a validation without a score is not compared with those that have one"


def test_without_scores_the_lowest_loss_is_best(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step, loss in [(10, 2.0), (20, 1.0), (30, 1.0), (40, 1.5)]:
        validation(run, step, step / 10, loss, None)
    assert run.best_step() == 20


def test_the_best_step_is_chosen_after_an_epoch_if_there_is_one(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step, score in [(10, 0.9), (20, 0.3), (30, 0.4)]:
        validation(run, step, step / 10, 1.0, score)
    assert best_of(run.log.lines(VALIDATION), 1) == 30
    assert best_of(run.log.lines(VALIDATION), 2) == 30
    assert best_of(run.log.lines(VALIDATION), 3) == 10, "none is that late: all count"


def test_the_best_is_the_recipes_wherever_it_is_asked_for(tmp_path: Path) -> None:
    """Trap: room made on a full disk by deleting the best checkpoint of the late epochs, and an evaluation
    of a stopped run of another best."""
    run = make(tmp_path)
    run.write_json(
        "origin.json", {"base": {}, "data": {}, "encoder": {}, "recipe": {"train.select_after_epoch": 1}}
    )
    for step, score in [(10, 0.9), (20, 0.3), (30, 0.4), (40, 0.2)]:
        validation(run, step, step / 10, 1.0, score)
        checkpoint(run, step)
    assert run.best_step() == 30 == checkpoint_step(run, "best")
    while relieve(run):
        pass
    assert steps(run) == [30, 40]
    for recipe in (None, [], {"train.select_after_epoch": "x"}):
        run.write_json("origin.json", {"base": {}, "data": {}, "encoder": {}, "recipe": recipe})
        assert run.best_step() == 10


def test_a_log_cut_at_any_byte_of_its_last_lines_still_reads(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in range(1, 7):
        run.log.add({**step_line(step), "text": "损失"})
    whole = run.log.path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for size in range(ends[2], len(whole) + 1):
        run.log.path.write_bytes(whole[:size])
        lines = [line["step"] for line in run.log.lines()]
        assert lines == list(range(1, len(lines) + 1)) and len(lines) >= sum(end <= size for end in ends)
        run.log.add(step_line(99))
        assert [line["step"] for line in run.log.lines()] == [*lines, 99], "the next line is whole"


def test_validations_that_a_damaged_log_lost_are_put_back(tmp_path: Path) -> None:
    """They decide about the best checkpoint and an early stop; the checkpoint remembers them."""
    run = make(tmp_path)
    known = [{"event": "validation", "step": 2, "epoch": 1.0, "loss": 1.0, "score": None}]
    for step in (1, 2, 3, 4):
        run.log.add(step_line(step))
    assert run.log.cut(3, known) == 1
    assert [(line["event"], line["step"]) for line in run.log.lines()] == [
        ("step", 1),
        ("step", 2),
        ("validation", 2),
        ("step", 3),
    ]
    run.log.cut(3, known)
    assert run.best_step() == 2 and len(run.log.lines()) == 4


def test_later_lines_are_cut_and_kept_aside(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2, 3):
        run.log.add(step_line(step))
    assert run.log.cut(1) == 2
    assert [line["step"] for line in run.log.lines()] == [1]
    aside = (run.folder / "metrics.superseded.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in aside] == [2, 3]
    assert run.log.cut(1) == 0
    assert run.log.cut(-1) == 1 and run.log.lines() == []
