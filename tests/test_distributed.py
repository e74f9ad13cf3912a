"""Real torchrun with two processes on the CPU: the weights of one process, one voice, and a run that outlives
its processes.

The processes of these tests are tests/two_processes.py: the real command, with a fault planted where a test
asks for one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS

from doitune.run.folder import Run
from doitune.train.exchange import add_up, pool
from doitune.train.shares import Order, share
from doitune.train.team import Team, follows, place

SETTINGS = (
    "train.learning_rate=2e-4",
    "train.optimizer=adamw",
    "train.examples_per_step=8",
    "train.validation_rows_per_ability=1",
)
PROGRAM = str(Path(__file__).with_name("two_processes.py"))


def environment(**more: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "TORCHELASTIC"))
    }
    root = str(Path(__file__).parents[1])
    return {
        **clean,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": root,
        "NO_COLOR": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **more,
    }


def torchrun(*arguments: str, processes: int = 2, **more: str) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node N -m doitune ...`, with its faults in the environment."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "--master-port",
        "0",
    ]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", PROGRAM, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more)
    )


def alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doitune", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=HANGS,
        check=False,
    )


def train(recipe: Path, runs: Path, *more: str) -> list[str]:
    return [
        "train",
        str(recipe),
        "--runs",
        str(runs),
        *(part for setting in (*SETTINGS, *more) for part in ("--set", setting)),
    ]


def only_run(runs: Path) -> Run:
    (folder,) = (runs / "tiny").iterdir()
    return Run(folder)


def lines(run: Run, event: str) -> list[dict[str, Any]]:
    return [line for line in run.log.lines() if line["event"] == event]


def difference(one: Run, other: Run) -> float:
    """The largest difference of two runs' last adapters."""
    from safetensors.torch import load_file

    first, second = (
        load_file(run.checkpoints.all()[-1].folder / "adapter_model.safetensors") for run in (one, other)
    )
    assert (
        first.keys() == second.keys() and one.checkpoints.all()[-1].step == other.checkpoints.all()[-1].step
    )
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_corpus: Path) -> Path:
    path = tmp_path_factory.mktemp("two") / "tiny.yaml"
    path.write_text(
        f"summary: a tiny training for tests\nmodel:\n  name: {tiny_base}\nlora:\n  rank: 4\n  alpha: 8\n  dropout: 0.1\n"
        f"data:\n  corpus: {tiny_corpus}\n  budget:\n    biology: 8\n    history: 8\n    code: 8\n    math: 8\n"
        "train:\n  epochs: 2\n  max_tokens: 256\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def single(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process."""
    runs = tmp_path_factory.mktemp("single")
    done = alone(*train(recipe, runs))
    assert done.returncode == 0, done.stderr
    return only_run(runs)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test starts; none outlives it."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for one in found:
        if one.poll() is None:
            one.send_signal(signal.SIGTERM)
            try:
                one.communicate(timeout=HANGS)
            except subprocess.TimeoutExpired:
                one.kill()
                one.communicate()


def test_two_processes_learn_what_one_learns(single: Run, recipe: Path, tmp_path: Path) -> None:
    """Weights within 1e-6, dropout included; the same steps and losses; one voice. Traps: a loss averaged
    over processes, a mask for each process."""
    process = torchrun(*train(recipe, tmp_path), "--json")
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0, err
    run = only_run(tmp_path)
    assert difference(single, run) < 1e-6
    ours, theirs = lines(single, "step"), lines(run, "step")
    assert [line["step"] for line in theirs] == list(range(1, 9))
    assert all(
        abs(one["loss"] - other["loss"]) < 1e-5 and one["tokens"] == other["tokens"]
        for one, other in zip(ours, theirs, strict=True)
    )
    assert all(line["micro_batches"] >= 2 for line in theirs), "nothing was shared"
    assert [line["processes"] for line in lines(run, "processes")] == [2]
    json.loads(out)  # one document: the other process is silent
    assert err.count("step 8/8") == 1 and err.count("32 examples") == 1


@pytest.mark.slow
def test_a_process_without_memory_makes_all_of_them_start_the_step_again(
    single: Run, recipe: Path, tmp_path: Path
) -> None:
    """The second process runs out in the forward of its third micro-batch. Trap: it leaves the others
    waiting in a sum that it never joins."""
    process = torchrun(*train(recipe, tmp_path), FAULT="oom:1:3")
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0, err
    run = only_run(tmp_path)
    (lack,) = lines(run, "out_of_memory")
    assert lack["tokens_per_micro_batch"] == 2048
    assert difference(single, run) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 0])
def test_a_process_that_dies_ends_a_run_that_can_be_resumed(
    single: Run, recipe: Path, tmp_path: Path, started: list[subprocess.Popen[str]], rank: int
) -> None:
    """kill -9 in the middle of step 6: the others leave within seconds, not with 0; one process goes on
    where it stopped, to the same weights."""
    process = torchrun(*train(recipe, tmp_path), FAULT=f"kill:{rank}:6")
    started.append(process)
    began = time.monotonic()
    _, err = process.communicate(timeout=HANGS)
    assert time.monotonic() - began < 300 and process.returncode != 0
    run = only_run(tmp_path)
    assert run.done() is None and not run.is_locked()
    if rank == 1:
        assert run.checkpoints.all()[-1].step == 5, "the last boundary was not saved"
        assert err.count("stopped: ") == 1 and "doitune resume" in err
    again = alone("resume", str(run.folder))
    assert again.returncode == 0, again.stderr
    assert difference(single, run) < 1e-6
    assert [line["processes"] for line in lines(run, "processes")] == [2, 1]
    assert [line["step"] for line in lines(run, "step")] == list(range(1, 9))


@pytest.mark.slow
def test_a_stop_of_one_process_stops_all_at_the_same_boundary_and_two_go_on(
    single: Run, recipe: Path, tmp_path: Path
) -> None:
    """SIGTERM to the process that follows; the run says so once, exits not with 0, and is resumed by two
    processes."""
    process = torchrun(*train(recipe, tmp_path), FAULT="term:1:4")
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode != 0
    run = only_run(tmp_path)
    assert run.checkpoints.all()[-1].step == 3
    assert err.count("stopped: ") == 1 and "stopped after step 3, everything is saved" in err
    again = torchrun("resume", str(run.folder))
    _, err = again.communicate(timeout=HANGS)
    assert again.returncode == 0, err
    assert difference(single, run) < 1e-6


@pytest.mark.slow
def test_a_problem_of_one_process_is_said_once_and_by_the_leader(recipe: Path, tmp_path: Path) -> None:
    """Of a bad recipe all know, of a card that is too small only its own process. Trap: N copies of an
    error, or none."""
    process = torchrun(*train(recipe, tmp_path, "train.no_such=1"))
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode != 0 and err.count("error: ") == 1 and "no_such" in err
    process = torchrun(*train(recipe, tmp_path), FAULT="fit:1:1")
    _, err = process.communicate(timeout=HANGS)
    assert (
        process.returncode != 0
        and err.count("error: ") == 1
        and "process 1 of 2: this card is too small" in err
    )
    assert not (tmp_path / "tiny").exists(), "a run that never began leaves no folder"


@pytest.mark.slow
def test_a_whole_run_is_no_work_for_two(single: Run) -> None:
    """Trap: the leader leaves and the other waits for it."""
    process = torchrun("resume", str(single.folder))
    _, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0 and "already whole" in err


LENGTHS = [[40, 300, 12, 90, 90, 95, 200, 7, 33, 60, 61, 500], [100] * 8, [900, 3, 3, 3], [5]]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_step_is_shared_whole_and_evenly(processes: int, packed: bool) -> None:
    """Each example in one process's part, none over the budget, the busiest part near the mean. Trap: a
    step of one micro-batch leaves cards idle."""
    from doitune.prompt.batch import positions_of

    for lengths in LENGTHS:
        for budget in (4096, 512, 100):
            shares = share(lengths, Order(0, budget, packed), processes)
            assert len(shares) == processes
            assert sorted(place for part in shares for group in part for place in group) == list(
                range(len(lengths))
            )
            for group in (group for part in shares for group in part):
                assert (
                    len(group) == 1
                    or positions_of([lengths[place] for place in group], packed=packed) <= budget
                )
    even = [
        sum(len(group) for group in part) for part in share([100] * 12, Order(0, 4096, packed), processes)
    ]
    assert len(set(even)) == 1, even


def test_alone_nothing_is_asked_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable or two that a cluster sets are not torchrun. Trap: a run that waits for processes which
    nobody started."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert place() == (0, 1) and not follows()
    team = Team()
    assert team.broadcast((1, 2)) == [1, 2] and team.greatest(3) == 3 and team.gather("x") == ["x"]
    assert pool(team, [], [1.0]) is None and add_up(team, None, [], [1.0, 2.0]) == [1.0, 2.0]
