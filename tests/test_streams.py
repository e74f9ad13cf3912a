"""What a command says goes where it can, and a training does not hang on it: closed streams, full disks, gone
readers, other encodings.

Each in a process of its own, as a shell starts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Desk
from patience import HANGS

from doitune.system.disk import append_line, read_lines, write_json

DOITUNE = f"{sys.executable} -m doitune"


def shell(script: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Bash with `$doitune`, in UTF-8 unless said otherwise; the last line of stdout is the exit code of
    `$doitune`."""
    environment = {
        **os.environ,
        "doitune": DOITUNE,
        "NO_COLOR": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        **variables,
    }
    return subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, timeout=HANGS, check=False
    )


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("$doitune recipes list >/dev/full; echo $?", 74, b"error: the result cannot be written to stdout"),
        ("$doitune recipes list --json >/dev/full; echo $?", 74, b""),
        ("$doitune train nowhere 2>/dev/full; echo $?", 65, b""),
        ("$doitune recipes list >&-; echo $?", 0, b""),
        ("$doitune recipes list >&- 2>&- <&-; echo $?", 0, b""),
        ("$doitune train nowhere 2>&-; echo $?", 65, b""),
        ("$doitune runs list --runs none <&-; echo $?", 0, b""),
        ("( $doitune recipes list; echo $? >&2 ) | true", 141, b""),
        ("( $doitune recipes list --json; echo $? >&2 ) | true", 141, b""),
    ],
)
def test_a_stream_that_takes_nothing(script: str, code: int, words: bytes) -> None:
    ended = shell(script)
    said = ended.stdout + ended.stderr
    assert str(code).encode() in said.splitlines(), said
    assert words in said and b"Traceback" not in said and b"Exception ignored" not in said, said


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "latin-1"])
def test_a_terminal_of_another_encoding(encoding: str) -> None:
    """Trap: one character that it lacks ended a command, after an evaluation of hours."""
    ended = shell(
        "$doitune recipes show demo --json; $doitune train 没有; echo $?", PYTHONIOENCODING=encoding
    )
    assert b"Traceback" not in ended.stderr and ended.stdout.strip().endswith(b"65"), ended.stderr
    document = ended.stdout.strip()[: -len(b"65")]
    assert json.loads(document.decode(encoding))["recipe"]["model"]["name"] == "demo"
    assert b"\\u6ca1\\u6709" in ended.stderr or "没有".encode("gbk") in ended.stderr


def test_words_of_every_kind_in_ascii() -> None:
    ended = shell("$doitune recipes explain reconstruct; echo $?", PYTHONIOENCODING="ascii")
    assert ended.stdout.strip().endswith(b"0") and ended.stdout.isascii() and not ended.stderr, ended.stderr


# A training


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = Desk(tmp_path_factory.mktemp("streams"))
    import doitune.backends.hf  # noqa: F401  # loaded for the children to come

    return made


def _lead(number: int, path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    os.dup2(descriptor, number)


def test_a_training_whose_log_is_on_a_full_disk_goes_on(desk: Desk) -> None:
    """`doitune train ... 2>log` on the disk that fills up: the words are lost, the run is not."""
    ended = desk.do(*desk.train("full"), before=lambda: _lead(2, "/dev/full"))
    run = desk.run("full")
    assert ended.code == 0 and run is not None and run.done() is not None, ended.said


def test_a_training_without_any_stream_writes_its_files_and_no_others(desk: Desk) -> None:
    """Trap: the first file that is opened takes the number of a closed stream, and libraries write their
    words into it."""

    def close() -> None:
        for number in (0, 1, 2):
            os.close(number)

    ended = desk.do(*desk.train("closed"), before=close)
    run = desk.run("closed")
    assert ended.code == 0 and run is not None and run.done() is not None
    assert all(not found.verify() for found in run.checkpoints.all())


def test_a_runs_folder_whose_name_is_not_utf_8(desk: Desk) -> None:
    """Trap: a training of hours whose adapter no safetensors can open."""
    runs = os.fsdecode(os.fsencode(desk.folder) + b"/n\xffme")
    Path(runs).mkdir()
    for command in ((*desk.train("x")[:2], "--runs", runs), ("runs", "list", "--runs", runs, "--json")):
        ended = desk.do(*command)
        assert "Traceback" not in ended.said, ended.said
        assert ended.code == (0 if command[0] == "runs" else 74), ended.said
    assert (
        not list(Path(runs).iterdir()) and "not UTF-8" in desk.do(*desk.train("x")[:2], "--runs", runs).said
    )


def test_a_name_that_is_not_utf_8_can_be_written_down(tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xffme")
    write_json(tmp_path / "origin.json", {"command": [name]})
    append_line(tmp_path / "log.jsonl", {"name": name})
    assert json.loads((tmp_path / "origin.json").read_text(encoding="utf-8")) == {"command": [name]}
    assert read_lines(tmp_path / "log.jsonl") == [{"name": name}]
