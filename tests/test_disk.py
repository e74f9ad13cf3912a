"""A reader sees the old content or the new one, never a part."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from doitune.errors import DiskError
from doitune.system import disk
from doitune.system.disk import (
    append_line,
    make_folder,
    need_room,
    read_lines,
    whole_folder,
    write_json,
    write_whole,
)
from doitune.system.lock import hold, is_held


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_put_whole(tmp_path: Path) -> None:
    path = tmp_path / "一 file"
    write_whole(path, "第一")
    write_whole(path, b"\x00second")
    assert path.read_bytes() == b"\x00second"
    assert _names(tmp_path) == ["一 file"]


def test_json_keeps_its_order_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": "一"})
    assert path.read_text(encoding="utf-8").index('"b"') < path.read_text(encoding="utf-8").index("一")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["b"] == 1
    assert _names(tmp_path) == ["a.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(DiskError, match="No space left on device") as caught:
        write_whole(path, "new")
    assert caught.value.exit_code == 74
    assert str(tmp_path) in caught.value.problem
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a.json"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "step-1"
    with whole_folder(final) as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "a").write_text("x")
        assert not final.exists()
        assert staging.parent == final.parent, "a rename needs the same disk"
    assert (final / "inner" / "a").read_text() == "x"
    assert _names(tmp_path) == ["step-1"]


@pytest.mark.parametrize(
    "error", [ValueError("ours"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_after_an_error_nothing_is_left(tmp_path: Path, error: BaseException) -> None:
    wanted = DiskError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted), whole_folder(tmp_path / "step-1") as staging:
        (staging / "a").write_text("half")
        raise error
    assert _names(tmp_path) == []


def test_the_staging_folder_of_a_dead_process_is_no_obstacle(tmp_path: Path) -> None:
    """A crash between two writes leaves it behind; the process number can come again."""
    stale = tmp_path / f".staging-step-1-{os.getpid()}"
    stale.mkdir()
    (stale / "old").write_text("x")
    with whole_folder(tmp_path / "step-1") as staging:
        (staging / "new").write_text("x")
    assert _names(tmp_path / "step-1") == ["new"]


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "kept").write_text("x")
    with pytest.raises(DiskError), whole_folder(tmp_path / "step-1") as staging:
        (staging / "new").write_text("x")
    assert _names(tmp_path) == ["step-1"] and _names(tmp_path / "step-1") == ["kept"]


@pytest.mark.parametrize("torn", [b'{"step": 2, "lo', b'{"step": 2, "loss": "\xe4\xb8', b"\x00\x00\x00"])
def test_a_torn_line_is_skipped_and_the_log_goes_on(tmp_path: Path, torn: bytes) -> None:
    """Trap: the line after a crash is glued to the torn one, and two are lost."""
    path = tmp_path / "metrics.jsonl"
    append_line(path, {"step": 1})
    with path.open("ab") as stream:
        stream.write(torn)
    assert read_lines(path) == [{"step": 1}]
    append_line(path, {"step": 3, "text": "\u2028 一"})
    append_line(path, {"step": 4})
    assert [line["step"] for line in read_lines(path)] == [1, 3, 4]


def test_foreign_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n[1]\n3\nnot json\n{"a": 2}\n', encoding="utf-8")
    assert read_lines(path) == [{"a": 1}, {"a": 2}]
    assert read_lines(tmp_path / "none") == []


def test_a_log_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_line(tmp_path / "a", {"loss": float("inf")})


def test_a_full_disk_stops_the_log(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(DiskError, match="No space left"):
        append_line(tmp_path / "metrics.jsonl", {"step": 1})


def test_room_is_asked_of_the_disk_that_will_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    class Usage:
        free = 1000

    def usage(path: Path) -> Any:
        asked.append(path)
        return Usage

    monkeypatch.setattr(disk.shutil, "disk_usage", usage)
    need_room(tmp_path / "not" / "yet", 1000)
    assert asked == [tmp_path]
    with pytest.raises(DiskError, match="are needed") as caught:
        need_room(tmp_path / "not" / "yet", 1001)
    assert caught.value.exit_code == 74 and "--runs" in caught.value.hint


def test_a_folder_that_cannot_be_made_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DiskError, match="cannot write in"):
        make_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("name", ["/", ".", "..", "folder"])
def test_a_folder_is_no_file_to_write(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(DiskError, match="it is a folder"):
        write_whole(Path(name), "page")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_lock_holds_on_a_disk_without_room_for_its_owners_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a resume on a full disk that ends before it can wait for room."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with hold(tmp_path / "run.lock", "a run"):
        assert is_held(tmp_path / "run.lock")
    assert not is_held(tmp_path / "run.lock")
