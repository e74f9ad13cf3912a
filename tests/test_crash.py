"""Killed anywhere, a run loses at most the work since its last checkpoint, and its result is
byte-identical. A sample by default; all of it is slow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS

from doitune.selftest.child import Blow, live
from doitune.system import faults

ROOT = Path(__file__).parents[1]


def lab(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """`doitune selftest crash` in a process of its own: forking needs one without threads. Its folder is named
    as seen from where it runs, as the default is; the user's cache is not touched."""
    cache = tmp_path / "cache"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(cache),
    }
    command = [
        sys.executable,
        "-m",
        "doitune",
        "selftest",
        "crash",
        "--json",
        "--dir",
        "lab 实验",
        *arguments,
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=3 * HANGS, check=False
    )
    assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:])
    report = json.loads(done.stdout)
    assert report["schema"] == "doitune.selftest.crash/1" and report["passed"], report
    assert report["failures"] == report["steps_lost_beyond_interval"] == report["differing_bytes"] == 0
    assert not list((tmp_path / "lab 实验").iterdir()), "a lab that passed leaves nothing behind"
    assert not list(cache.glob("doitune/corpora/doit*"))
    return dict(report)


def test_a_run_survives_a_few_kills_and_damages(tmp_path: Path) -> None:
    report = lab(tmp_path, "--kills", "4", "--corruptions", "2", "--command-kills", "0")
    assert report["kills"] == 4 and report["kills_during_save"] >= 2
    assert report["corruptions"] == report["corruptions_found"] == 2


@pytest.mark.slow
def test_every_command_that_writes_survives_kills(tmp_path: Path) -> None:
    """Trap: two fetches' common staging folder, an export's half shard, a lock or a torn file left behind."""
    report = lab(tmp_path, "--kills", "0", "--corruptions", "0", "--command-kills", "60")
    killed = report["commands"]
    assert set(killed) == {"eval", "score", "report", "export", "data fetch", "base make"}
    assert sum(one["kills"] for one in killed.values()) == 60 and not any(
        one["failures"] for one in killed.values()
    )
    assert len({site for one in killed.values() for site in one["sites"]}) >= 5


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    """Each site at least once, at least half of the kills while a checkpoint is being written."""
    report = lab(tmp_path, "--kills", "100", "--corruptions", "0", "--command-kills", "0")
    assert report["kills"] >= 100 and report["kills_during_save"] >= 50, report
    elsewhere = ("aside.", "fetch.", "publish.", "ckpt.replaced")  # of damaged checkpoints and other commands
    visited = {site for site in faults.SITES if not site.startswith(elsewhere)}
    assert visited <= set(report["sites"]) and "random time" in report["sites"], visited - set(
        report["sites"]
    )


@pytest.mark.slow
def test_every_damage_is_found_and_survived(tmp_path: Path) -> None:
    """Every file of a checkpoint, six kinds of damage, four times."""
    report = lab(tmp_path, "--kills", "0", "--corruptions", "120", "--command-kills", "0")
    assert report["corruptions"] == report["corruptions_found"] == 120


def test_a_lab_that_cannot_write_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    command = [
        sys.executable,
        "-m",
        "doitune",
        "selftest",
        "crash",
        "--kills",
        "1",
        "--dir",
        str(tmp_path / "file" / "lab"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 74 and "cannot write in" in done.stderr and "Traceback" not in done.stderr


def test_a_child_that_is_killed_before_it_says_anything(tmp_path: Path) -> None:
    """Trap: its log is not there yet, or holds the words of the life before."""
    (tmp_path / "child.log").write_text("the life before")
    died = [live(tmp_path / "none.yaml", tmp_path, Blow(after_seconds=0.0, of_loop=False)) for _ in range(5)]
    assert any(one.killed for one in died)
    assert all("the life before" not in one.said for one in died)
