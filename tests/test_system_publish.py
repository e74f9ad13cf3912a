"""Results under a name that others may want at the same time: one writer, whole or not there, nothing left."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from patience import HANGS
from test_data_fetch import lines

from doitune.data.checksums import CHECKSUMS
from doitune.errors import DiskError, LockedError
from doitune.system import faults, publish
from doitune.system.lock import Wait, hold
from doitune.system.publish import alone, write_result


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_regular_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old", encoding="utf-8")
    (tmp_path / ".page.html.99999999.part").write_text("torn", encoding="utf-8")  # a killed process's
    (tmp_path / ".page.html.draft.part").write_text("the user's own", encoding="utf-8")
    write_result(tmp_path / "page.html", "新")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "新"
    assert names(tmp_path) == [".page.html.draft.part", "page.html"]


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    """Trap: a rename puts a file in the link's place, and what the link named keeps the old text."""
    (tmp_path / "far").mkdir()
    for target in (tmp_path / "far" / "page.html", tmp_path / "far" / "new.html"):
        link = tmp_path / f"link-{target.name}"
        link.symlink_to(target)
        write_result(link, "text")
        assert link.is_symlink() and target.read_text(encoding="utf-8") == "text"


def test_a_device_is_written_into_and_never_replaced(tmp_path: Path) -> None:
    """Trap: as root, `--out /dev/null` made a file of the device, and every program of the machine broke."""
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        pytest.skip("this user may not make devices")
    write_result(device, "text")
    assert stat.S_ISCHR(device.stat().st_mode) and names(tmp_path) == ["null"]
    write_result(Path("/dev/null"), "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_result(pipe, "x" * 200_000)
    reader.join(10)
    assert got == [b"x" * 200_000] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_that_nobody_reads_is_an_error_and_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(publish, "PIPE_SECONDS", 0.2)
    with pytest.raises(DiskError, match="nobody reads"):
        write_result(tmp_path / "pipe", "text")


@pytest.mark.parametrize("redirect", [">", ">>"])
def test_dev_stdout_goes_where_stdout_goes(tmp_path: Path, redirect: str) -> None:
    """Trap: /dev/stdout of a shell's `> file` resolves to a regular file, whose replacement the shell's
    reader never sees, and whose truncation loses what was printed before."""
    program = "import sys; from pathlib import Path; from doitune.system.publish import write_result; "
    program += "print('before', flush=True); write_result(Path('/dev/stdout'), 'result\\n'); print('after')"
    (tmp_path / "file").write_text("kept\n", encoding="utf-8")
    subprocess.run(f'"{sys.executable}" -c "{program}" {redirect} "{tmp_path}/file"', shell=True, check=True)
    expected = ["kept"] * (redirect == ">>") + ["before", "result"]
    assert (tmp_path / "file").read_text(encoding="utf-8").splitlines()[: len(expected)] == expected
    assert (
        "result"
        in subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    )


@pytest.mark.parametrize("name", ["folder", "a" * 300, "file/below", "loop"])
def test_what_cannot_be_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DiskError):
        write_result(tmp_path / name, "text")


def test_a_second_process_is_told_or_waits(tmp_path: Path) -> None:
    final, said = tmp_path / "corpus", []
    again = alone(final, "the corpus")
    with (
        alone(final, "the corpus"),
        pytest.raises(LockedError, match=f"process {os.getpid()}") as caught,
        again,
    ):
        raise AssertionError("two at once")
    assert caught.value.exit_code == 75

    working = threading.Event()

    def work() -> None:
        with alone(final, "the corpus"):
            working.set()
            time.sleep(0.5)

    first = threading.Thread(target=work)
    first.start()
    assert working.wait(20)
    with alone(final, "the corpus", Wait(seconds=20.0, report=said.append)):
        assert not first.is_alive() or first.join(5) is None
    assert len(said) == 1 and "waiting" in said[0]
    assert names(tmp_path) == []


def test_a_lock_that_its_owner_removes_is_not_held_twice(tmp_path: Path) -> None:
    """Trap: who waited gets the lock of a file that has no name any more, and a third one makes a new file."""
    lock, inside, most = tmp_path / "lock", [0], [0]

    def work() -> None:
        for _ in range(30):
            with hold(lock, "it", Wait(seconds=30.0), remove=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert most == [1]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_while_publishing_leaves_the_old_or_the_new(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: between two renames there is nothing under the name, and the pinned revision is lost."""
    if not exchange:
        monkeypatch.setattr(publish, "_exchange", lambda one, other: False)
    site = "publish.exchanged" if exchange else "publish.aside"
    final, fresh = tmp_path / "corpus", tmp_path / ".corpus.part"
    for folder, text in ((final, "old"), (fresh, "new")):
        folder.mkdir()
        (folder / "file").write_text(text, encoding="utf-8")
    faults.arm(f"{site}:1:raise")
    try:
        with pytest.raises(faults.PlantedError), alone(final, "the corpus"):
            publish.publish(fresh, final)
    finally:
        faults.arm("")
    if exchange:
        assert (final / "file").read_text(encoding="utf-8") == "new"
    with alone(final, "the corpus"):
        assert (final / "file").read_text(encoding="utf-8") == ("new" if exchange else "old")
    with alone(final, "the corpus"):
        if fresh.exists():
            publish.publish(fresh, final)
    assert names(tmp_path) == ["corpus"]


def test_two_fetches_at_once_publish_a_whole_corpus(tmp_path: Path) -> None:
    """Trap: 14 pairs of fetches with one staging folder published 4 times an incomplete corpus, with exit 0."""
    source = tmp_path / "source"
    for ability in ("math", "code", "ethics", "chinese"):
        (source / "curated" / "1000").mkdir(parents=True, exist_ok=True)
        (source / "curated" / "1000" / f"{ability}_1000.json").write_bytes(lines(ability, 3000))
    command = [sys.executable, "-m", "doitune", "data", "fetch", "doit", "--from", str(source)]
    for turn in range(3):
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / f"cache{turn}")}
        both = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(2)
        ]
        ended = [(one.communicate(timeout=HANGS)[1].decode(), one.returncode)[::-1] for one in both]
        assert {code for code, _ in ended} <= {0, 75} and 0 in {code for code, _ in ended}, ended
        corpora = tmp_path / f"cache{turn}" / "doitune" / "corpora"
        assert len(json.loads((corpora / "doit" / CHECKSUMS).read_text(encoding="utf-8"))["files"]) == 4
        assert names(corpora) == ["doit"]
