"""An evaluation survives what happens to it, never mixes models, and can be scored again without one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tiny_evals import examples, tiny

from doitune.errors import CheckpointError, DataError, LockedError, UsageError
from doitune.evals import evaluate as ev
from doitune.evals import saved
from doitune.evals.ask import Limits
from doitune.evals.evaluate import evaluate, score_folder
from doitune.evals.evaluation import Evaluation
from doitune.evals.report import Report
from doitune.evals.suites import doit
from doitune.run.layout import EVALUATION, OUTCOMES, REPORT

CAPS = {"math": 6, "tf": 4}
WHO = {"base": "tiny", "adapter": "0" * 64}


@pytest.fixture(scope="module")
def loaded():
    return tiny()


@pytest.fixture
def task():
    return doit.task("doit-test", examples(6), caps=CAPS)


def run(loaded, task, folder, **more) -> Report:
    more.setdefault("limits", Limits(batch_tokens=300))
    return evaluate(*loaded, task, folder, identity=more.pop("identity", WHO), **more)


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / OUTCOMES).read_text("utf-8").splitlines()]


class Interrupted(BaseException):
    """As a signal would be: no Exception."""


def test_interrupted_five_times_is_run_through(loaded, task, tmp_path):
    whole = run(loaded, task, tmp_path / "whole")
    steps = []

    def stop(progress):
        steps.append(progress)
        if len(steps) % 2 == 0 and len(steps) <= 10:
            raise Interrupted

    interruptions = 0
    for _ in range(6):
        try:
            again = run(loaded, task, tmp_path / "parts", on_progress=stop)
        except Interrupted:
            interruptions += 1
    assert interruptions == 5
    assert again.tables == whole.tables
    assert sorted(map(json.dumps, rows(tmp_path / "whole"))) == sorted(
        map(json.dumps, rows(tmp_path / "parts"))
    )
    assert steps[-1].done == steps[-1].total == len(task.items)


def test_a_finished_evaluation_asks_nothing(loaded, task, tmp_path, monkeypatch):
    first = run(loaded, task, tmp_path)
    monkeypatch.setattr("doitune.evals.ask.ask_batch", lambda *_: pytest.fail("asked again"))
    saved_one = json.loads((tmp_path / REPORT).read_text("utf-8"))
    assert run(loaded, task, tmp_path) == first == Report.from_json(saved_one)


@pytest.mark.parametrize("torn", ['{"id": "curated/test/math#1", "se', '{"id": "curated/te', "\x00\x00\x00"])
def test_a_torn_last_line_is_dropped_and_asked_again(loaded, task, tmp_path, torn):
    whole = run(loaded, task, tmp_path / "whole")
    run(loaded, task, tmp_path / "torn")
    path = tmp_path / "torn" / OUTCOMES
    kept = path.read_text("utf-8").splitlines(keepends=True)[:-3]
    path.write_text("".join(kept) + torn, "utf-8")
    assert run(loaded, task, tmp_path / "torn").tables == whole.tables
    assert len(rows(tmp_path / "torn")) == len(task.items)


def test_damage_before_the_end_is_named(loaded, task, tmp_path):
    run(loaded, task, tmp_path)
    path = tmp_path / OUTCOMES
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text(lines[0] + "{}\n" + "".join(lines[2:]), "utf-8")
    with pytest.raises(CheckpointError, match=r"outcomes.jsonl:2"):
        run(loaded, task, tmp_path)


@pytest.mark.parametrize(
    "change, what",
    [
        ({"identity": {**WHO, "adapter": "1" * 64}}, "another model: adapter"),
        ({"task": doit.task("doit-test", examples(7), caps=CAPS)}, "other questions"),
        ({"task": doit.task("doit-valid", examples(6), caps=CAPS)}, "another suite"),
        ({"task": doit.task("doit-test", examples(6), caps=CAPS, choice="write")}, "other questions"),
        ({"fingerprint": "another"}, "another prompt encoder"),
    ],
)
def test_another_model_encoder_or_question_is_refused(loaded, task, tmp_path, monkeypatch, change, what):
    run(loaded, task, tmp_path)
    before = (tmp_path / OUTCOMES).read_bytes()
    if "fingerprint" in change:
        monkeypatch.setattr(
            sys.modules["doitune.prompt.encode"], "fingerprint", lambda template: change["fingerprint"]
        )
    with pytest.raises(CheckpointError, match=what) as caught:
        run(loaded, change.get("task", task), tmp_path, identity=change.get("identity", WHO))
    assert "folder" in caught.value.hint
    assert (tmp_path / OUTCOMES).read_bytes() == before


def test_replies_without_a_manifest_are_nobodys(loaded, task, tmp_path):
    run(loaded, task, tmp_path)
    (tmp_path / EVALUATION).unlink()
    with pytest.raises(CheckpointError, match="unknown model"):
        run(loaded, task, tmp_path)


def test_a_limit_is_stratified_seeded_and_nested():
    task = doit.task("doit-test", examples(30))
    assert task.sets
    for seed in (0, 1):
        small, large = task.limited(5, seed), task.limited(12, seed)
        assert {item.id for item in small.items} < {item.id for item in large.items}
        for name in task.sets:
            assert sum(item.set == name for item in small.items) == 5
    assert task.limited(5, 0).items != task.limited(5, 1).items
    assert task.limited(5).items == task.limited(5).items
    assert len(task.limited(0.1).items) == 3 * len(task.sets)
    assert task.limited(None) is task and len(task.limited(1000).items) == len(task.items)
    for wrong in (0, -1, 2.5):
        with pytest.raises(UsageError):
            task.limited(wrong)


def test_a_larger_limit_goes_on_from_a_smaller_one(loaded, task, tmp_path):
    part = run(loaded, task, tmp_path, limit=2)
    assert part.partial and part.n == 2 * len(task.sets) and {one.n for one in part.sets} == {2}
    assert run(loaded, task, tmp_path).n == len(task.items)
    assert len(rows(tmp_path)) == len(task.items), "none asked twice"


def test_saved_replies_are_scored_without_torch(loaded, task, tmp_path):
    report = run(loaded, task, tmp_path)
    code = (
        "import sys, pathlib; from doitune.evals.evaluate import score_folder; "
        "import doitune.evals.compare, doitune.evals.task, doitune.evals.report, doitune.evals.reading.equality; "
        "assert not {'torch', 'transformers', 'pydantic', 'numpy'} & set(sys.modules), 'heavy'; "
        "r = score_folder(pathlib.Path(sys.argv[1])); "
        "assert not {'torch', 'transformers', 'pydantic'} & set(sys.modules), 'heavy'; print(r.mean.score)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == report.mean.score
    assert score_folder(tmp_path) == report


def test_a_line_carries_what_it_takes_to_trust_it(loaded, task, tmp_path):
    run(loaded, task, tmp_path)
    found = rows(tmp_path)
    assert len(found) == len(task.items)
    wanted = {
        "id",
        "set",
        "form",
        "document",
        "model",
        "reply",
        "parsed",
        "correct",
        "note",
        "chance",
        "paper",
        "label",
    }
    assert all(wanted <= set(row) and row["reply"]["prompt"] for row in found)
    assert len({row["model"] for row in found}) == 1


def test_what_is_too_long_is_counted_listed_and_wrong(loaded, task, tmp_path):
    report = run(loaded, task, tmp_path, limits=Limits(batch_tokens=300, context_tokens=60))
    refused = [row for row in rows(tmp_path) if row["reply"]["too_long"]]
    assert refused and all(row["correct"] is False and row["note"] == "too long" for row in refused)
    assert sum(one.too_long for one in report.sets) == len(refused)
    assert report.n == len(task.items)


def test_a_report_survives_json(loaded, task, tmp_path):
    report = run(loaded, task, tmp_path)
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report
    entries = Evaluation("last", "best", report).entries(("fixed",))
    assert len(entries) == 1
    assert {"target", "checkpoint", "suite", "shots", "protocol", "mean", "sets"} <= set(entries[0])
    assert {"score", "low", "high", "chance"} <= set(entries[0]["mean"])
    assert {"name", "n", "score", "low", "high", "chance", "unread", "within_chance"} <= set(
        entries[0]["sets"][0]
    )


def test_nothing_to_score_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="no evaluation"):
        score_folder(tmp_path)
    with pytest.raises(DataError):
        doit.task("doit-test", {})
    twice = examples(1)["math"] * 2
    with pytest.raises(DataError, match="twice"):
        doit.task("doit-test", {"math": twice})


def test_the_headline_leaves_out_of_domain_sets_out(loaded, tmp_path):
    rows_ = examples(2)
    rows_["ceval_physician"] = [
        type(one)(
            one.id.replace("biology", "ceval_physician"),
            "ceval_physician",
            one.messages,
            one.form,
            "",
            one.label,
            one.options,
        )
        for one in rows_["biology"]
    ]
    task = doit.task("doit-test", rows_, caps=CAPS)
    assert task.headline == ("biology", "history", "code", "math") and task.sets[-1] == "ceval_physician"
    table = run(loaded, task, tmp_path).table("fixed")
    assert table.mean.sets == 4 and table.mean_all.sets == 5
    scores = {one.name: one.score for one in table.sets}
    assert table.mean.score == pytest.approx(sum(scores[name] for name in task.headline) / 4)


def test_validation_scores_are_those_of_an_evaluation(loaded, tmp_path):
    chosen = examples(5)
    scores = doit.validation_score(*loaded, chosen, most_new_tokens=4)
    fewer = {form: min(cap, 4) for form, cap in doit.MAX_NEW_TOKENS.items()}
    report = run(loaded, doit.task("doit-valid", chosen, caps=fewer), tmp_path)
    assert scores == pytest.approx({one.name: one.score for one in report.sets})
    assert ev.PROTOCOLS[0] == "fixed"


def test_two_at_once_never_mix_their_lines(loaded, task, tmp_path):
    """The second one is told who asks, with 75; afterwards the folder is free."""
    with (
        saved.working_on(tmp_path),
        pytest.raises(LockedError, match="is being worked on by process") as caught,
    ):
        run(loaded, task, tmp_path)
    assert caught.value.exit_code == 75
    assert run(loaded, task, tmp_path).n == len(task.items)


def test_replies_are_not_scored_while_they_are_asked_for(loaded, task, tmp_path):
    """Trap: scoring rewrites the file of replies, and loses those that come meanwhile."""
    run(loaded, task, tmp_path)
    before = (tmp_path / OUTCOMES).read_bytes()
    with saved.working_on(tmp_path), pytest.raises(LockedError) as caught:
        score_folder(tmp_path)
    assert caught.value.exit_code == 75 and (tmp_path / OUTCOMES).read_bytes() == before
