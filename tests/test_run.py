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
from doitune.run.checkpoints import keep
from doitune.run.find import find_run, list_runs
from doitune.run.folder import Run, create_run, relieve, save_checkpoint, sweep_run
from doitune.run.layout import evaluation_folder
from doitune.run.log import VALIDATION, best_of
from doitune.run.model import checkpoint_step
from doitune.run.summary import summarise


def make(runs: Path, name: str = "demo", now: float = 1_000_000.0) -> Run:
    run = create_run(runs, name, now)
    run.write("recipe.yaml", "x: 1\n")
    return run


def checkpoint(run: Run, step: int) -> None:
    def fill(folder: Path) -> None:
        (folder / "state.json").write_text(json.dumps({"step": step}))
        (folder / "adapter_model.safetensors").write_bytes(bytes([step % 256]) * 100)

    save_checkpoint(run, step, fill)


def steps(run: Run) -> list[int]:
    return [found.step for found in run.checkpoints.all()]


def validation(run: Run, step: int, epoch: float, loss: float, score: float | None) -> None:
    run.log.add({"event": "validation", "step": step, "epoch": epoch, "loss": loss, "score": score})


# The lock

HOLDER = """
import sys, time
from pathlib import Path
from doitune.run.folder import Run
with Run(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_living_process_keeps_others_out_and_a_dead_one_does_not(tmp_path: Path) -> None:
    """Trap: a lock file that outlives a kill -9 and has to be removed by hand."""
    run = make(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.folder)], stdout=subprocess.PIPE, text=True
    )
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
    from doitune.train.session import resume

    run = make(tmp_path)
    with run.lock(), pytest.raises(LockedError):
        resume(Run(run.folder), scorer=None, on_event=lambda event: None)


def test_the_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    run = make(tmp_path)
    with pytest.raises(ValueError, match="ours"), run.lock():
        raise ValueError("ours")
    assert not run.is_locked()


MANY = """
import sys, time
from pathlib import Path
from doitune.errors import LockedError
from doitune.run.folder import Run
print("ready", flush=True)
sys.stdin.readline()
try:
    with Run(Path(sys.argv[1])).lock():
        print("held", flush=True)
        time.sleep(3)
except LockedError as error:
    print(error.problem, flush=True)
    sys.exit(error.exit_code)
"""


def test_of_eight_at_once_exactly_one_works(tmp_path: Path) -> None:
    """The others end with 75 and the owner's name, whether they came before or after it had signed."""
    run = make(tmp_path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [subprocess.Popen([sys.executable, "-c", MANY, str(run.folder)], **pipes) for _ in range(8)]  # type: ignore[call-overload]
    assert all(one.stdout.readline() == "ready\n" for one in several)
    for one in several:
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60)[0] for one in several]
    codes = sorted(one.returncode for one in several)
    assert codes == [0] + [75] * 7, said
    owner = next(one.pid for one in several if one.returncode == 0)
    assert all(f"process {owner} on" in text for text in said if text != "held\n"), said


def test_a_look_at_the_lock_keeps_nobody_out(tmp_path: Path) -> None:
    """Trap: `runs list` in one terminal makes a resume in another one fail."""
    run = make(tmp_path)
    assert not run.is_locked() and not (run.folder / "run.lock").exists(), "reading writes nothing"
    with run.lock():
        pass
    looker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from doitune.system.lock import is_held\nfrom pathlib import Path\nwhile True: is_held(Path({str(run.folder / 'run.lock')!r}))",
        ]
    )
    try:
        time.sleep(0.5)
        for _ in range(50):
            with run.lock():
                pass
    finally:
        looker.kill()
        looker.wait()


def test_a_run_is_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = make(tmp_path)
    finally:
        os.umask(before)
    assert run.folder.stat().st_mode & 0o777 == 0o700


# Names


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


# The best step


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


# Checkpoints


def test_a_checkpoint_is_verified_byte_by_byte(tmp_path: Path) -> None:
    run = make(tmp_path)
    checkpoint(run, 3)
    found = run.checkpoints.of_step(3)
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
    (run.checkpoints.of_step(3).folder / "state.json").write_text("")
    (run.checkpoints.of_step(2).folder / "state.json").unlink()
    said: list[str] = []
    found = run.checkpoints.newest_valid(said.append)
    assert found is not None and found.step == 1
    assert len(said) == 2 and "step-000003 is damaged (state.json was changed)" in said[0]
    assert steps(run) == [1], "set aside, not taken again"
    (run.checkpoints.of_step(1).folder / "state.json").unlink()
    assert run.checkpoints.newest_valid(said.append) is None


def test_an_error_while_saving_keeps_the_older_checkpoint(tmp_path: Path) -> None:
    run = make(tmp_path)
    checkpoint(run, 1)

    def full(folder: Path) -> None:
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskError, match="No space left"):
        save_checkpoint(run, 2, full)
    assert steps(run) == [1] and run.checkpoints.of_step(1).verify() == []
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-000001"]


def test_folders_without_a_whole_manifest_are_no_checkpoints(tmp_path: Path) -> None:
    """What a crash leaves: staging, no manifest, half a manifest."""
    run = make(tmp_path)
    checkpoint(run, 5)
    folder = run.folder / "checkpoints"
    for name, text in [
        ("step-000006", None),
        ("step-000007", "{"),
        ("step-000008", "[]"),
        ("step-000009", '{"schema": "other"}'),
        (".staging-step-000010-1", "{}"),
    ]:
        (folder / name).mkdir()
        if text is not None:
            (folder / name / "MANIFEST.json").write_text(text)
    assert steps(run) == [5]
    with pytest.raises(CheckpointError, match="no checkpoint of step 6") as caught:
        run.checkpoints.of_step(6)
    assert "5" in caught.value.hint


def test_only_the_named_checkpoints_are_kept(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2, 3, 4):
        checkpoint(run, step)
    keep(run.checkpoints, {2, 4})
    assert steps(run) == [2, 4]
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == [
        "step-000002",
        "step-000004",
    ]


def test_a_training_keeps_the_newest_and_the_best(tiny_recipe: Path, tmp_path: Path) -> None:
    """Trap: retention that deletes the checkpoint which an evaluation will want."""
    from doitune.recipe.resolve import resolve
    from doitune.train.session import start

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
    (run.checkpoints.of_step(1).folder / "old").write_text("x")
    checkpoint(run, 1)
    assert (
        run.checkpoints.of_step(1).verify() == [] and not (run.checkpoints.of_step(1).folder / "old").exists()
    )


def test_a_step_saved_again_keeps_its_name_through_a_crash(tmp_path: Path) -> None:
    """Trap: the old one is deleted before the new one has its name. At every site the next start finds a
    valid one."""
    from doitune.system import faults

    for site in ("ckpt.begin", *faults.SAVING):
        run = make(tmp_path / site)
        checkpoint(run, 1)
        child = os.fork()
        if not child:
            faults.arm(f"{site}:1:kill")
            checkpoint(run, 1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, (
            f"{site} was not reached"
        )
        sweep_run(run)
        assert steps(run) == [1] and run.checkpoints.of_step(1).verify() == [], site
        assert not [path.name for path in run.checkpoints.folder.iterdir() if path.name.startswith(".")], (
            "nothing half-written is left"
        )


@pytest.mark.parametrize("site", ["aside.begin", "aside.end"])
def test_a_kill_while_a_damaged_one_is_set_aside(site: str, tmp_path: Path) -> None:
    from doitune.system import faults

    run = make(tmp_path)
    for step in (1, 2):
        checkpoint(run, step)
    (run.checkpoints.of_step(2).folder / "state.json").write_text("{}")
    child = os.fork()
    if not child:
        faults.arm(f"{site}:1:kill")
        run.checkpoints.newest_valid(lambda text: None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    found = run.checkpoints.newest_valid(lambda text: None)
    assert found is not None and found.step == 1 and (run.checkpoints.folder / ".bad-step-000002").is_dir()


def test_what_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2):
        checkpoint(run, step)
    foreign = [".staging-mine", ".trash-notes", "step-best", "step-1", "notes", ".bad-step-000009"]
    for name in foreign:
        (run.checkpoints.folder / name).mkdir()
        (run.checkpoints.folder / name / "kept").write_text("x")
    (run.folder / ".secret.123.part").write_text("x")
    sweep_run(run)
    keep(run.checkpoints, {2})
    assert run.checkpoints.newest_valid(lambda text: None) is not None
    assert (
        all((run.checkpoints.folder / name / "kept").is_file() for name in foreign)
        and (run.folder / ".secret.123.part").is_file()
    )


def test_the_step_decides_what_is_newer(tmp_path: Path) -> None:
    """Trap: the clock jumps, or files are copied, and the newest checkpoint is deleted as the oldest."""
    run = make(tmp_path)
    for step in (1, 2, 999_999, 1_000_000):
        checkpoint(run, step)
    for age, found in enumerate(run.checkpoints.all()):
        os.utime(found.folder, (1e9 - age * 86_400, 1e9 - age * 86_400))
    assert steps(run) == [1, 2, 999_999, 1_000_000]
    newest = run.checkpoints.newest_valid(lambda text: None)
    assert newest is not None and newest.step == 1_000_000


def test_a_spoilt_one_among_the_kept_spares_an_older_one(tmp_path: Path) -> None:
    run = make(tmp_path)
    for step in (1, 2, 3):
        checkpoint(run, step)
    (run.checkpoints.of_step(2).folder / "state.json").write_text("{}")
    checkpoint(run, 4)
    keep(run.checkpoints, {2, 4})
    assert [found.step for found in run.checkpoints.all() if not found.verify()] == [3, 4]


@pytest.mark.parametrize("place", range(60))
def test_every_byte_of_the_manifest_counts(tmp_path: Path, place: int) -> None:
    """Each bit of a stretch of it; 60 places over the whole file."""
    run = make(tmp_path)
    checkpoint(run, 1)
    found = run.checkpoints.of_step(1)
    path = found.folder / "MANIFEST.json"
    whole = path.read_bytes()
    at = place * (len(whole) - 1) // 59
    for bit in range(8):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        assert [one for one in run.checkpoints.all() if not one.verify()] == [], (at, bit)
    path.write_bytes(whole)
    assert found.verify() == []


@pytest.mark.parametrize("seed", range(12))
def test_any_life_leaves_a_valid_checkpoint(seed: int, tmp_path: Path) -> None:
    """Random sequences of save, kill while saving, spoil, resume and clear away: once there is a valid
    checkpoint, there is always one."""
    import random

    from doitune.system import faults

    dice = random.Random(seed)
    run, step = make(tmp_path), 0
    count = dice.randint(1, 3)
    sites = ["ckpt.begin", *faults.SAVING[:-1], "trash.begin", "trash.renamed", "write.torn"]
    sites.remove("ckpt.replaced")

    def save(fault: str = "") -> int:
        child = os.fork()
        if not child:
            code = 1
            try:
                faults.arm(fault)
                checkpoint(run, step + 1)
                keep(run.checkpoints, set(steps(run)[-count:]))
                code = 0
            finally:
                os._exit(code)  # an error may not go on as a second pytest
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert save() == 0
    for _ in range(25):
        valid = [one for one in run.checkpoints.all() if not one.verify()]
        assert valid, "no valid checkpoint is left"
        step = valid[-1].step
        what = dice.random()
        if what < 0.5:
            assert save() == 0
        elif what < 0.8:
            assert save(f"{dice.choice(sites)}:1:kill") in (0, -signal.SIGKILL)
        elif len(valid) > 1:
            files = sorted(path for path in dice.choice(valid).folder.iterdir())
            dice.choice(files).write_bytes(b"")
        sweep_run(run)
        newest = run.checkpoints.newest_valid(lambda text: None)
        assert newest is not None
        step = newest.step


def step_line(step: int) -> dict[str, object]:
    return {"event": "step", "step": step, "loss": 1 / step, "grad_norm": 1.0}


# Logs


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
