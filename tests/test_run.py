"""Runs are found by name, their records read, and summarised from what is there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from tiny_runs import make, step_line

from doitune.errors import CheckpointError, DiskError, UsageError
from doitune.run.find import find_run, list_runs
from doitune.run.folder import create_run
from doitune.run.layout import evaluation_folder
from doitune.run.summary import summarise


def test_two_starts_in_one_second_get_two_names(tmp_path: Path) -> None:
    runs = [create_run(tmp_path, "demo", 1_000_000.0) for _ in range(3)]
    assert len({run.folder for run in runs}) == 3
    assert [run.folder.name.partition("-")[0] for run in runs] == [runs[0].folder.name.partition("-")[0]] * 3


def test_a_run_is_found_by_folder_last_or_part_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "我的 runs"
    old, new = make(runs, "zebra", 1_000_000.0), make(runs, "apple", 2_000_000.0)
    assert [run.folder for run in list_runs(runs)] == [old.folder, new.folder], "by time, not by recipe"
    assert find_run("last", runs).folder == new.folder
    assert find_run("zebra", runs).folder == old.folder
    assert find_run(old.name, runs).folder == old.folder
    assert find_run(new.folder.name, runs).folder == new.folder
    assert find_run(str(old.folder), tmp_path / "elsewhere").folder == old.folder
    monkeypatch.chdir(old.folder.parent)
    assert find_run(old.folder.name, tmp_path / "elsewhere").folder == old.folder


def test_last_is_the_newest_of_one_second(tmp_path: Path) -> None:
    """Trap: `-10` sorts before `-2` as text, and `last` names an old run."""
    made = [make(tmp_path, "demo", 1_000_000.0) for _ in range(11)]
    assert find_run("last", tmp_path).folder == made[-1].folder


def test_an_ambiguous_or_unknown_name_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run under") as none:
        find_run("last", tmp_path)
    assert none.value.exit_code == 2
    first, second = make(tmp_path, "demo", 1_000_000.0), make(tmp_path, "demo", 2_000_000.0)
    with pytest.raises(UsageError, match="'demo' names 2 runs") as caught:
        find_run("demo", tmp_path)
    assert first.name in caught.value.hint and second.name in caught.value.hint
    with pytest.raises(UsageError, match="no run is called 'other'"):
        find_run("other", tmp_path)


def test_a_whole_name_is_not_ambiguous_with_a_longer_one(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    assert second.name.startswith(first.name)
    assert find_run(first.name, tmp_path).folder == first.folder


def test_a_run_that_never_wrote_its_recipe_is_no_run(tmp_path: Path) -> None:
    create_run(tmp_path, "demo")
    assert list_runs(tmp_path) == []


def test_a_runs_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("x")
    with pytest.raises(DiskError):
        create_run(tmp_path / "runs", "demo")


def test_a_broken_run_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    run = make(tmp_path)
    for text in (None, "{", b"\xff"):
        if text is not None:
            (run.folder / "origin.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(CheckpointError, match=r"origin\.json cannot be read"):
            run.read_json("origin.json")


def test_a_summary_reads_what_is_there(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert summarise(run) == {
        "name": run.name, "path": str(run.folder), "state": "stopped", "recipe": "demo", "model": "", "step": 0, "best": None, "scores": {}, "partial": {},
    }  # fmt: skip
    run.log.add(step_line(7))
    run.write_json("origin.json", {"base": {"name": "demo"}, "data": {}, "encoder": {}})
    run.write_json("done.json", {"final_step": 8, "best_step": 4, "stopped_early": False, "seconds": 1.0})
    report = evaluation_folder(run.folder, "doit-test", "step-000004") / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"partial": False, "tables": [{"mean": {"score": 0.25}}]}))
    found = summarise(run)
    assert (found["state"], found["step"], found["best"], found["model"]) == ("done", 7, 4, "demo")
    assert found["scores"] == {"doit-test": {"step-000004": 0.25}}


def test_the_name_of_a_run_is_its_time(tmp_path: Path) -> None:
    now = time.time()
    run = create_run(tmp_path, "demo", now)
    assert run.folder.name == time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    assert run.name == f"demo/{run.folder.name}"
