"""A run is a directory: locked by the living, readable after any death, its best checkpoint never deleted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from doitune.errors import CheckpointError, DiskError, LockedError, UsageError
from doitune.run import Run, create_run, find_run, list_runs, summarise


def make(runs: Path, name: str = "demo", now: float = 1_000_000.0) -> Run:
    run = create_run(runs, name, now)
    run.write("recipe.yaml", "x: 1\n")
    return run


def checkpoint(run: Run, step: int) -> None:
    def fill(folder: Path) -> None:
        (folder / "state.json").write_text(json.dumps({"step": step}))
        (folder / "adapter_model.safetensors").write_bytes(bytes([step % 256]) * 100)

    run.save_checkpoint(step, fill)


def steps(run: Run) -> list[int]:
    return [found.step for found in run.checkpoints()]


def validation(run: Run, step: int, epoch: float, loss: float, score: float | None) -> None:
    run.log({"event": "validation", "step": step, "epoch": epoch, "loss": loss, "score": score})


# The lock

HOLDER = """
import sys, time
from pathlib import Path
from doitune.run import Run
with Run(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_living_process_keeps_others_out_and_a_dead_one_does_not(tmp_path: Path) -> None:
    """Trap: a lock file that outlives a kill -9 and has to be removed by hand."""
    run = make(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"process {holder.pid} on") as caught, run.lock():
            pytest.fail("two processes hold one run")
        assert caught.value.exit_code == 75
        assert run.is_locked() and summarise(run)["state"] == "running"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert not run.is_locked() and summarise(run)["state"] == "stopped"
        with run.lock():
            assert (run.folder / "run.lock").read_text().startswith(f"process {os.getpid()} ")
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()


def test_a_resume_of_a_run_at_work_is_refused(tmp_path: Path) -> None:
    from doitune.session import resume

    run = make(tmp_path)
    with run.lock(), pytest.raises(LockedError):
        resume(Run(run.folder), scorer=None, on_event=lambda event: None)


def test_the_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    run = make(tmp_path)
    with pytest.raises(ValueError, match="ours"), run.lock():
        raise ValueError("ours")
    assert not run.is_locked()


# Names

def test_two_starts_in_one_second_get_two_names(tmp_path: Path) -> None:
    runs = [create_run(tmp_path, "demo", 1_000_000.0) for _ in range(3)]
    assert len({run.folder for run in runs}) == 3
    assert [run.folder.name.partition("-")[0] for run in runs] == [runs[0].folder.name.partition("-")[0]] * 3


def test_a_run_is_found_by_folder_last_or_part_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# The best step

def test_the_best_step_is_the_highest_score_and_the_earlier_of_equals(tmp_path: Path) -> None:
    run = make(tmp_path)
    assert run.best_step() is None
    for step, score, loss in [(10, 0.5, 3.0), (20, 0.7, 9.0), (30, 0.7, 1.0), (40, 0.6, 0.5)]:
        validation(run, step, step / 10, loss, score)
    assert run.best_step() == 20, "not the lowest loss"


def test_without_scores_the_lowest_loss_is_best(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step, loss in [(10, 2.0), (20, 1.0), (30, 1.0), (40, 1.5)]:
        validation(run, step, step / 10, loss, None)
    assert run.best_step() == 20


def test_the_best_step_is_chosen_after_an_epoch_if_there_is_one(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step, score in [(10, 0.9), (20, 0.3), (30, 0.4)]:
        validation(run, step, step / 10, 1.0, score)
    assert run.best_step(after_epoch=1) == 30
    assert run.best_step(after_epoch=2) == 30
    assert run.best_step(after_epoch=3) == 10, "none is that late: all count"


# Checkpoints

def test_a_checkpoint_is_verified_byte_by_byte(tmp_path: Path) -> None:
    run = make(tmp_path)
    checkpoint(run, 3)
    found = run.checkpoint(3)
    assert found.verify() == []
    path = found.folder / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    assert found.verify() == ["adapter_model.safetensors was changed"]
    path.unlink()
    assert found.verify() == ["adapter_model.safetensors is missing"]


def test_a_damaged_newest_checkpoint_falls_back(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2, 3):
        checkpoint(run, step)
    (run.checkpoint(3).folder / "state.json").write_text("")
    (run.checkpoint(2).folder / "state.json").unlink()
    said: list[str] = []
    found = run.newest_valid(said.append)
    assert found is not None and found.step == 1
    assert len(said) == 2 and "step-000003 is damaged (state.json was changed)" in said[0]
    assert steps(run) == [1], "set aside, not taken again"
    (run.checkpoint(1).folder / "state.json").unlink()
    assert run.newest_valid(said.append) is None


def test_an_error_while_saving_keeps_the_older_checkpoint(tmp_path: Path) -> None:
    run = make(tmp_path)
    checkpoint(run, 1)

    def full(folder: Path) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskError, match="No space left"):
        run.save_checkpoint(2, full)
    assert steps(run) == [1] and run.checkpoint(1).verify() == []
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-000001"]


def test_folders_without_a_whole_manifest_are_no_checkpoints(tmp_path: Path) -> None:
    """What a crash leaves: staging, no manifest, half a manifest."""
    run = make(tmp_path)
    checkpoint(run, 5)
    folder = run.folder / "checkpoints"
    for name, text in [("step-000006", None), ("step-000007", "{"), ("step-000008", "[]"), ("step-000009", '{"schema": "other"}'), (".staging-step-000010-1", "{}")]:
        (folder / name).mkdir()
        if text is not None:
            (folder / name / "MANIFEST.json").write_text(text)
    assert steps(run) == [5]
    with pytest.raises(CheckpointError, match="no checkpoint of step 6") as caught:
        run.checkpoint(6)
    assert "5" in caught.value.hint


def test_only_the_named_checkpoints_are_kept(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2, 3, 4):
        checkpoint(run, step)
    run.keep_checkpoints({2, 4})
    assert steps(run) == [2, 4]
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == ["step-000002", "step-000004"]


def test_a_training_keeps_the_newest_and_the_best(tiny_recipe: Path, tmp_path: Path) -> None:
    """Trap: retention that deletes the checkpoint which an evaluation will want."""
    from doitune.cookbook import resolve
    from doitune.session import start

    scores = iter([0.0, 0.2, 0.9, 0.3, 0.1])  # the first one is asked when the run is tried out

    def scorer(model: object, template: object, valid: object) -> dict[str, float]:
        return {"math": next(scores)}

    resolved = resolve(str(tiny_recipe), overrides=["train.epochs=4", "train.keep_checkpoints=1"])
    run = start(resolved, runs=tmp_path / "runs", scorer=scorer, on_event=lambda event: None)
    done = run.done()
    assert done is not None and done["best_step"] == 8 and done["final_step"] == 16
    assert steps(run) == [8, 16]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    run = make(tmp_path)
    checkpoint(run, 1)
    (run.checkpoint(1).folder / "old").write_text("x")
    checkpoint(run, 1)
    assert run.checkpoint(1).verify() == [] and not (run.checkpoint(1).folder / "old").exists()


# Logs

def test_later_lines_are_cut_and_kept_aside(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2, 3):
        run.log({"event": "step", "step": step})
    assert run.cut_metrics(1) == 2
    assert [line["step"] for line in run.metrics()] == [1]
    aside = (run.folder / "metrics.superseded.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in aside] == [2, 3]
    assert run.cut_metrics(1) == 0
    assert run.cut_metrics(-1) == 1 and run.metrics() == []


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
        "name": run.name, "path": str(run.folder), "state": "stopped", "recipe": "demo", "model": "", "step": 0, "best": None, "scores": {},
    }  # fmt: skip
    run.log({"event": "step", "step": 7})
    run.write_json("origin.json", {"base": {"name": "demo"}})
    run.write_json("done.json", {"best_step": 4})
    report = run.evals_folder("doit-test", "step-000004") / "report.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"tables": [{"mean": {"score": 0.25}}]}))
    found = summarise(run)
    assert (found["state"], found["step"], found["best"], found["model"]) == ("done", 7, 4, "demo")
    assert found["scores"] == {"doit-test": {"step-000004": 0.25}}


def test_the_name_of_a_run_is_its_time(tmp_path: Path) -> None:
    now = time.time()
    run = create_run(tmp_path, "demo", now)
    assert run.folder.name == time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    assert run.name == f"demo/{run.folder.name}"
