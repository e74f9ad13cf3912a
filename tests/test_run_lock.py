"""One process works on a run at a time; a dead one holds nobody up, a reader keeps nobody out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import HANGS
from tiny_runs import make

from doitune.errors import LockedError
from doitune.run.folder import Run
from doitune.run.summary import summarise

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
    said = [one.communicate(timeout=HANGS)[0] for one in several]
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
