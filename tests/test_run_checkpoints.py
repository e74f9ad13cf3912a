"""Checkpoints are whole or not there, whatever happens to the writer and to the disk."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tiny_runs import checkpoint, make, steps

from doitune.errors import CheckpointError, DiskError
from doitune.run.checkpoints import keep
from doitune.run.folder import save_checkpoint, sweep_run


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

    def scorer(model: object, template: object, valid: object, **more: object) -> dict[str, float]:
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
