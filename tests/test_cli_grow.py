"""`doitune grow` as its user types it: what it says, how it ends, and that it goes on after any end."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from patience import HANGS, wait_for

from doitune.base.adapter import WEIGHTS
from doitune.evals.suites import doit
from doitune.growth.family.work import do, is_done, pieces_of
from doitune.growth.folder import find_growth, read_growth, read_record
from doitune.growth.measured import Measured
from doitune.run.layout import METRICS
from doitune.system.disk import file_sha256

PROGRAM = [sys.executable, "-m", "doitune"]


@pytest.fixture
def plan(tmp_path: Path, tiny_base: Path, tiny_corpus: Path) -> Path:
    """A plan of three tiny runs."""
    (tmp_path / "tiny.yaml").write_text(
        f"model:\n  name: {tiny_base}\nlora:\n  rank: 4\n  dropout: 0.1\n"
        f"data:\n  corpus: {tiny_corpus}\ntrain:\n  examples_per_step: 8\n  max_tokens: 256\n"
        "  learning_rate: 1e-2\n  validation_rows_per_ability: 3\neval:\n  max_new_tokens: 8\n",
        encoding="utf-8",
    )
    path = tmp_path / "small.yaml"
    path.write_text(
        f"recipe: {tmp_path / 'tiny.yaml'}\n"
        "set: [train.epochs=100, train.max_steps=4, train.validate_every=2]\n"
        "designs: {equal: [2, 8], latin: [0, 4]}\n",
        encoding="utf-8",
    )
    return path


def grow(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "grow", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )


def begun(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "grow", *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def results(growth: Path) -> list[tuple[Measured, str]]:
    """What each member scored, and the bytes of its newest adapter."""
    found = read_growth(growth)
    assert not found.unfinished and len(found.members) == 4
    return [
        (one, file_sha256(max((growth / one.member.name / "checkpoints").glob("step-*")) / WEIGHTS))
        for one in found.members
    ]


def test_a_dry_run_says_what_there_is_and_begins_nothing(plan: Path, tmp_path: Path) -> None:
    done = grow(plan, "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["runs"], found["bases"], found["done"]) == (4, 1, 0) and found["disk_gib"] >= 0
    assert {one["steps"] for one in found["members"]} == {4} and found["hours"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("dmeo",), 65, "did you mean `demo`"),
        (("demo", "--on", "mars"), 2, "local"),
        (("none.yaml",), 65, "none.yaml"),
        (("confrm", "demo", "advised.yaml"), 2, "confirm"),
    ],
)
def test_a_mistake_ends_with_its_cure(words: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    done = grow(*words, "--dry-run" if "--on" not in words else "--json", cwd=tmp_path)
    assert done.returncode == code and said in done.stderr + done.stdout and "Traceback" not in done.stderr


def test_a_family_stops_at_a_signal_and_goes_on_to_its_end(plan: Path, tmp_path: Path) -> None:
    """Trap: the command that it names for going on is of another family."""
    first = begun(plan, "--at-once", "1", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob(f"runs/small/*/{METRICS}")))
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=HANGS)
    assert first.returncode == 130, said
    command = shlex.split(said.strip().splitlines()[-1])
    assert command[:2] == ["doitune", "grow"] and "is saved" in said
    growth = find_growth("small", tmp_path / "runs")
    assert read_growth(growth).unfinished
    again = grow(*command[2:], "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert not found["unfinished"] and len(found["members"]) == 4
    assert [one["budgets"] for one in found["tables"]] == [["2", "8"]] * 2
    assert found["members"][0]["scores"]["test"].keys() == {"biology", "history", "code", "math"}
    shown = grow(*command[2:], cwd=tmp_path)
    assert shown.returncode == 0 and "doitune advise" in shown.stdout and "STEM - Biology" in shown.stdout


@pytest.mark.slow
def test_a_family_whose_processes_are_killed_goes_on_to_the_same_bytes(plan: Path, tmp_path: Path) -> None:
    """The one that leads, a worker, or both at once, at any moment: what comes out is what an undisturbed family
    makes. A worker that is killed alone is begun again without a word of the user's."""
    quiet = grow(plan, "--at-once", "2", "--name", "quiet", cwd=tmp_path)
    assert quiet.returncode == 0, quiet.stderr
    growth, dice = tmp_path / "runs" / "small", random.Random(0)
    for kill in range(5):
        leader = begun(plan, "--at-once", "2", cwd=tmp_path)
        wait_for(lambda pid=leader.pid: _workers(pid))  # type: ignore[misc]
        time.sleep(dice.uniform(0, 9))
        if kill % 2:
            for worker in _workers(leader.pid):
                os.kill(worker, signal.SIGKILL)
        leader.kill()
        leader.communicate(timeout=HANGS)
        if not read_growth(growth).unfinished:
            break
    # other threads than before would round otherwise: those of the first command are kept
    last = begun(plan, "--at-once", "1", cwd=tmp_path)
    wait_for(lambda: _workers(last.pid) or last.poll() is not None)
    time.sleep(3)
    for worker in _workers(last.pid):
        os.kill(worker, signal.SIGKILL)
    _, said = last.communicate(timeout=HANGS)
    assert last.returncode == 0, said
    assert results(growth) == results(tmp_path / "runs" / "quiet")


def _workers(leader: int) -> list[int]:
    path = Path(f"/proc/{leader}/task/{leader}/children")
    return [int(one) for one in path.read_text().split()] if path.is_file() else []


@pytest.mark.slow
def test_fifty_kills_change_nothing(plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a process that has loaded its libraries before, so that a trial costs a second: killed at moments
    spread over all of a family's work, and taken up again. Most of them would fall into the writing of validation
    replies, which random weights do not end."""
    monkeypatch.setattr(
        doit, "MAX_NEW_TOKENS", {form: min(8, cap) for form, cap in doit.MAX_NEW_TOKENS.items()}
    )
    from doitune.run.model import one_base

    def work(growth: Path) -> None:
        record = read_record(growth)
        with one_base():
            for piece in pieces_of(record):
                if not is_done(growth, record, piece):
                    do(growth, record, piece)

    quiet, began = _begin(plan, tmp_path / "quiet"), time.monotonic()
    _forked(partial(work, quiet))
    longest = (time.monotonic() - began) / 4  # on a busy machine as few families are needed
    expected, dice, kills, families = results(quiet), random.Random(0), 0, 0
    while kills < 50:
        families += 1
        growth = _begin(plan, tmp_path / f"killed-{families}")
        while True:
            if not _forked(partial(work, growth), dice.uniform(0.05, longest)):
                break
            kills += 1
        assert results(growth) == expected, f"after {kills} kills"
    assert families > 1


def _begin(plan: Path, runs: Path) -> Path:
    from doitune.growth.family.expand import expand
    from doitune.growth.family.plan import read_plan, text_of
    from doitune.growth.family.run import begin, held

    growth, read = runs / "small", read_plan(str(plan))
    with held(growth):
        begin(growth, expand(read, "small"), text_of(read))
    return growth


def _forked(job: Callable[[], None], seconds: float = 0.0) -> bool:
    """A job in a process of its own; whether it was killed, after so many seconds, before its end."""
    import doitune.backends.hf  # noqa: F401  # loaded before the fork

    child = os.fork()
    if not child:
        try:
            job()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, "it ended with an error of its own"
            return False
        if seconds and time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.01)
