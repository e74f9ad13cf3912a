"""Fault points: one list of them, each with a place in the code, nothing armed unless asked."""

from __future__ import annotations

import ast
import math
import os
from pathlib import Path

import pytest

from doitune.errors import UsageError
from doitune.system import faults

PACKAGE = Path(faults.__file__).parents[1]


@pytest.fixture(autouse=True)
def _disarmed() -> object:
    yield
    faults.arm("")


def calls() -> dict[str, list[str]]:
    """Every literal site that the code reaches, and where."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("faults.reach", "faults.spoil") and isinstance(node.args[0], ast.Constant):
                found.setdefault(node.args[0].value, []).append(f"{path.name}:{node.lineno}")
            if name == "_write" and isinstance(
                node.args[-1], ast.Constant
            ):  # the writer's own, which passes its site on
                found.setdefault(node.args[-1].value, []).append(f"{path.name}:{node.lineno}")
    return found


def test_every_site_has_a_place_and_every_place_a_site() -> None:
    """Trap: a fault point that a lab never visits as it is in no list, and one that nothing reaches any
    more."""
    found = calls()
    assert len(found) > 30
    assert set(found) == set(faults.SITES)
    assert set(faults.SAVING) <= set(faults.SITES) and len(faults.SAVING) >= 9


def test_nothing_happens_unless_it_is_armed() -> None:
    assert not faults.armed()
    for site in faults.SITES:
        faults.reach(site)
    assert faults.spoil("loss", 1.5) == 1.5


@pytest.mark.parametrize(("action", "raised"), [("enospc", OSError), ("raise", faults.PlantedError)])
def test_the_nth_arrival_acts_and_no_other(action: str, raised: type[BaseException]) -> None:
    faults.arm(f"ckpt.begin:3:{action}")
    faults.reach("ckpt.begin")
    faults.reach("ckpt.staged")
    faults.reach("ckpt.begin")
    with pytest.raises(raised):
        faults.reach("ckpt.begin")
    faults.reach("ckpt.begin")


def test_memory_signals_and_nan() -> None:
    import signal

    import torch

    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        faults.arm("step.backward:1:oom, step.after:1:sigusr1, loss:2:nan")
        with pytest.raises(torch.OutOfMemoryError):
            faults.reach("step.backward")
        faults.reach("step.after")
        assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert faults.spoil("loss", 1.0) == 1.0 and math.isnan(faults.spoil("loss", 1.0))


def test_kill_is_the_default() -> None:
    assert faults.parse("done:1") == (faults.Fault("done", 1, "kill"),)
    child = os.fork()
    if not child:
        faults.arm("done:1")
        faults.reach("done")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


@pytest.mark.parametrize(
    "text", ["nowhere:1:kill", "done", "done:0", "done:x", "done:1:melt", "done:1:kill:2"]
)
def test_a_fault_that_cannot_be_read_names_what_there_is(text: str) -> None:
    with pytest.raises(UsageError, match="DOITUNE_FAULT") as caught:
        faults.arm(text)
    assert caught.value.hint


def test_the_desk_reads_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from doitune.__main__ import main

    monkeypatch.setenv(faults.VARIABLE, "nowhere:1")
    monkeypatch.setattr(sys, "argv", ["doitune", "recipes", "list"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2 and "nowhere" in capsys.readouterr().err
