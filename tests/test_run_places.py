"""A run is asked from its own corpus and base, whatever folder the command is typed in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from doitune.errors import CheckpointError, DataError, ModelError, UsageError
from doitune.evals.evaluation import Evaluation
from doitune.evals.find import find_evaluations
from doitune.evals.request import Request
from doitune.evals.targets import evaluate_target
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run, resolved
from doitune.run.places import at_its_corpus, its_base
from doitune.train.session import start


def row(number: int, split: str) -> str:
    turns = [{"role": "user", "content": f"{number}+1=?"}, {"role": "assistant", "content": str(number + 1)}]
    more = {"question_format": 0, "answer": str(number + 1)} if split == "test" else {}
    return json.dumps({"messages": turns, "ability": "math", "split": split, **more}) + "\n"


def write_rows(path: Path, first: int) -> None:
    path.write_text("".join(row(first + n, "train") + row(first + 50 + n, "test") for n in range(4)))


@pytest.fixture
def home(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a base and own rows in it."""
    home = tmp_path / "home"
    shutil.copytree(tiny_base, home / "base")
    write_rows(home / "own.jsonl", 0)
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def run(home: Path) -> Run:
    (home / "r.yaml").write_text(
        "summary: a tiny run\nmodel:\n  name: ./base\ndata:\n  corpus: own.jsonl\n  budget:\n    math: 4\n"
        "lora:\n  rank: 2\ntrain:\n  examples_per_step: 4\n  epochs: 1\n  learning_rate: 1e-3\n"
        "  max_tokens: 256\n  validation_rows_per_ability: 0\n"
    )
    return start(resolve("r.yaml"), runs=home / "runs", scorer=None, on_event=lambda _: None)


def asked(run: Run, **more: object) -> list[Evaluation]:
    request = Request(("doit-test",), with_base=False, **more)  # type: ignore[arg-type]
    return evaluate_target(str(run.folder), request, runs=run.folder.parents[1], on_progress=lambda *_: None)


def questions(run: Run) -> str:
    (path,) = run.folder.glob("evals/doit-test/*/outcomes.jsonl")
    return path.read_text(encoding="utf-8")


def test_another_corpus_of_the_same_name_is_never_asked(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_rows(other / "own.jsonl", 1000)
    monkeypatch.chdir(other)
    asked(run)
    assert "51" in questions(run) and "1051" not in questions(run)
    moved = (home / "own.jsonl").rename(home / "moved.jsonl")
    with pytest.raises(DataError, match=r"not the corpus that .* learned from: own\.jsonl") as caught:
        asked(run)
    assert "--corpus PATH" in caught.value.hint and caught.value.exit_code == 65
    (other / "own.jsonl").unlink()
    with pytest.raises(DataError, match="no longer at"):
        asked(run)
    shutil.copy(moved, other / "own.jsonl")
    assert at_its_corpus(run, resolved(run).recipe).data.corpus == "own.jsonl"


def test_rows_of_the_test_set_that_changed_are_noticed(run: Run, home: Path) -> None:
    """Trap: digests of the files that were trained on alone."""
    origin = json.loads((run.folder / "origin.json").read_text())
    assert origin["places"]["corpus"] == str(home / "own.jsonl") and origin["places"]["judged"]
    (home / "own.jsonl").write_text((home / "own.jsonl").read_text() + row(900, "test"))
    with pytest.raises(DataError, match="not the corpus"):
        at_its_corpus(run, resolved(run).recipe)


def test_a_base_that_has_moved_is_named_and_compared(
    run: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = resolved(run).recipe
    monkeypatch.chdir(tmp_path)
    assert its_base(run, recipe).folder == home / "base" and its_base(run, recipe).name == "./base"
    (home / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="no longer at") as caught:
        its_base(run, recipe)
    assert "--model FOLDER" in caught.value.hint
    assert [one.target for one in asked(run, model=str(tmp_path / "elsewhere"))] == [run.name]
    config = tmp_path / "elsewhere" / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(CheckpointError, match=r"another base: config\.json"):
        its_base(run, recipe, str(tmp_path / "elsewhere"))


def test_another_corpus_is_asked_beside_the_runs_own(run: Run, home: Path) -> None:
    """Trap: it was refused as another evaluation's folder, and nothing could name a second one."""
    asked(run)
    write_rows(home / "new rows.jsonl", 500)
    for _ in range(2):  # the second one goes on in the same place
        (other,) = asked(run, corpus=("new rows.jsonl",))
    assert other.report.n == 4 and other.report.suite == "doit-test"
    folders = sorted(path.name for path in (run.folder / "evals").iterdir())
    assert folders == ["doit-test", "doit-test-corpus-new rows"]
    assert "551" not in questions(run)
    with pytest.raises(UsageError) as caught:
        find_evaluations([f"{run.folder}@base"] * 2, suite="doit-test-corpus-new rows", runs=home / "runs")
    assert "--suite doit-test --corpus 'new rows'" in caught.value.hint


def test_two_corpora_asked_of_a_base_stand_beside_each_other(home: Path) -> None:
    write_rows(home / "other.jsonl", 500)
    for corpus in ("own.jsonl", "other.jsonl", "own.jsonl"):
        request = Request(("doit-test",), corpus=(corpus,))
        (found,) = evaluate_target("./base", request, runs=home / "runs", on_progress=lambda *_: None)
        assert found.report.n == 4
    suites = sorted(path.name for path in (home / "runs" / "bases" / "base" / "evals").iterdir())
    assert suites == ["doit-test", "doit-test-corpus-other"]


def test_a_run_that_is_not_whole_says_so_beside_its_scores(run: Run) -> None:
    assert asked(run)[0].stopped_at is None
    (run.folder / "done.json").unlink()
    (one,) = asked(run)
    assert one.stopped_at == 1 and one.entries(["fixed"])[0]["stopped_at"] == 1


def test_kept_out_rows_of_a_corpus_that_moved_are_asked(home: Path, tmp_path: Path) -> None:
    """Trap: rows without a split of their own were "no rows to ask" once the file had moved."""
    (home / "own.jsonl").write_text("".join(row(number, "train") for number in range(40)))
    sets = ("train.max_steps=1", "train.max_tokens=256", "data.holdout=0.1", "lora.rank=2")
    resolved_ = resolve("own", model="./base", corpus=("own.jsonl",), overrides=sets)
    run = start(resolved_, runs=home / "runs", scorer=None, on_event=lambda _: None)
    kept = json.loads((run.folder / "kept_out.json").read_text())
    elsewhere = (home / "own.jsonl").rename(tmp_path / "elsewhere.jsonl")
    (one,) = asked(run, corpus=(str(elsewhere),))
    lines = (run.folder / "evals").glob("doit-test*/*/outcomes.jsonl")
    ids = [json.loads(line)["id"] for path in lines for line in path.read_text().splitlines()]
    assert one.report.n == len(ids) == 2 and not one.leaks
    assert {i.partition("#")[2] for i in ids} == {i.partition("#")[2] for i in kept["test"]}
    (home / "asked.jsonl").write_text("".join(row(number, "test") for number in range(38, 44)))
    told = (run.folder / "examples.txt").read_text().splitlines()
    (one,) = asked(run, corpus=(str(home / "asked.jsonl"),))
    lines = (run.folder / "evals").glob("doit-test-corpus-asked/step*/outcomes.jsonl")
    ids = [json.loads(line)["id"] for path in lines for line in path.read_text().splitlines()]
    learnt = {name.rpartition("#")[2] for name in ids} & {name.rpartition("#")[2] for name in told}
    assert one.report.n == 6 and one.leaks == len(learnt) > 0, "trap: a model was praised for rows it learnt"
    elsewhere.write_text(elsewhere.read_text() + row(99, "train"))
    with pytest.raises(DataError, match="no rows to ask"):
        asked(run, corpus=(str(elsewhere),))
