"""A disk that fills up loses nothing: no half checkpoint, exit 74, and the same bytes once there is room."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Desk, assert_same
from patience import wait_for

from doitune.errors import DiskError
from doitune.run.full_disk import Patience
from doitune.selftest.traces import Traces
from doitune.system.disk import filesystem_of, prove_folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = Desk(tmp_path_factory.mktemp("disk"))
    assert made.do(*made.train("whole")).code == 0
    import doitune.backends.hf  # noqa: F401

    return made


@pytest.fixture(scope="module")
def wanted(desk: Desk) -> Traces:
    return desk.traces("whole")


@pytest.fixture
def small(desk: Desk) -> Iterator[Path]:
    """A small disk of its own: tmpfs, where that may be mounted."""
    folder = desk.folder / "small"
    folder.mkdir(exist_ok=True)
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "doitune-test", str(folder)],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _resize(folder: Path, kib: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", str(folder)], check=True, capture_output=True)


def _all_whole(desk: Desk) -> int:
    run = desk.run("small")
    if run is None:
        return 0
    assert not [one for one in run.checkpoints.all() if one.verify()], (
        "a checkpoint that is not whole was published"
    )
    return len(run.checkpoints.all())


def _until_saved(desk: Desk, checkpoints: int) -> None:
    """Wait for a run that has so many checkpoints."""
    wait_for(lambda: (run := desk.run("small")) is not None and len(run.checkpoints.all()) >= checkpoints)


def test_a_disk_that_is_full_in_the_middle(desk: Desk, small: Path, wanted: Traces) -> None:
    """Room at the start, taken by somebody else after three steps."""
    _resize(small, 16384)
    child = desk.begin(*desk.train("small", "--wait-for-disk", "0"), fault="")
    _until_saved(desk, 2)
    _hog(small)
    ended = desk.wait(child)
    assert ended.code in (0, 74), ended.said
    assert _all_whole(desk) >= 1
    (small / "hog").unlink()
    assert desk.do(*desk.resume("small")).code == 0
    assert_same(wanted, desk.traces("small"))


def _hog(folder: Path) -> None:
    """Take every free byte."""
    with (folder / "hog").open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(1 << 16))
        except OSError:
            return


@pytest.mark.slow
def test_a_run_waits_for_room(desk: Desk, small: Path, wanted: Traces) -> None:
    """It says so, goes on by itself when somebody makes room, and nothing differs."""
    _resize(small, 16384)
    child = desk.begin(*desk.train("small", "--wait-for-disk", "5"), fault="")
    _until_saved(desk, 1)
    _hog(small)

    def make_room() -> None:
        time.sleep(3)
        (small / "hog").unlink()

    helper = threading.Thread(target=make_room)
    helper.start()
    ended = desk.wait(child)
    helper.join()
    assert ended.code == 0, ended.said
    assert_same(wanted, desk.traces("small"))


@pytest.mark.slow
@pytest.mark.parametrize("kib", [4, 16, 32, 64, 96, 128, 160, 192, 256, 320, 448, 4096])
def test_twelve_sizes(kib: int, desk: Desk, small: Path, wanted: Traces) -> None:
    """A disk that shrinks, after the first checkpoint, to so much more than is on it."""
    _resize(small, 16384)
    child = desk.begin(*desk.train("small", "--wait-for-disk", "0"))
    _until_saved(desk, 1)
    said = os.statvfs(small)
    _resize(small, (said.f_blocks - said.f_bfree) * said.f_frsize // 1024 + kib)
    ended = desk.wait(child)
    assert ended.code in (0, 74) and "Traceback" not in ended.said, ended.said
    assert ended.code == 0 or "MiB" in ended.said or "cannot write" in ended.said, ended.said
    whole = _all_whole(desk)
    assert whole >= 1
    _resize(small, 16384)
    again = desk.do(*desk.resume("small"))
    assert again.code == 0, again.said
    assert_same(wanted, desk.traces("small"))
    print(f"{kib} KiB left: exit {ended.code}, {whole} whole checkpoints")


@pytest.mark.parametrize("kib", [256])
def test_a_disk_too_small_for_a_run_is_told_at_once(kib: int, desk: Desk, small: Path) -> None:
    _resize(small, kib)
    ended = desk.do(*desk.train("small"))
    assert ended.code == 74 and "MiB are needed" in ended.said and desk.run("small") is None, ended.said


def test_patience_relieves_waits_and_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order; and a disk that says it has room is tried twice, not for half an hour."""
    from doitune.run import full_disk
    from doitune.system import disk

    free = [0]
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free[0]}))
    monkeypatch.setattr(full_disk, "NAP_SECONDS", 0.01)
    relieved: list[int] = []

    def relieve() -> bool:
        relieved.append(1)
        return len(relieved) <= 2

    with pytest.raises(DiskError, match="are needed"):
        Patience().write(tmp_path, 10, lambda: None, relieve)
    assert len(relieved) >= 3, "what may go has gone"
    said: list[str] = []

    def check() -> None:
        free[0] = 1 << 30

    assert (
        Patience(1.0, 0.05, said.append, check).write(tmp_path, 10, lambda: "done", lambda: False) == "done"
    )
    assert len(said) == 1 and "waiting up to 1 minutes" in said[0]
    tries: list[int] = []

    def broken() -> None:
        tries.append(1)
        raise DiskError("cannot write")

    with pytest.raises(DiskError, match="cannot write"):
        Patience(30.0).write(tmp_path, 10, broken, lambda: False)
    assert len(tries) == 2


def test_a_read_only_disk_is_refused_before_a_run_is_made(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True, capture_output=True)
    with pytest.raises(DiskError, match="Read-only file system") as caught:
        prove_folder(small)
    assert "tmpfs" in caught.value.problem and str(small) in caught.value.problem


def test_a_folder_that_cannot_do_what_a_run_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    prove_folder(tmp_path)
    assert list(tmp_path.iterdir()) == [] and filesystem_of(tmp_path)

    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(DiskError, match="No locks available") as caught:
        prove_folder(tmp_path)
    assert filesystem_of(tmp_path) in caught.value.problem
    assert list(tmp_path.iterdir()) == []
