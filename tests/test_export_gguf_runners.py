"""A llama.cpp that aborts, hangs or is missing is one sentence with a cure, a quantiser too, and a disk that is too
small is known before anything is written. Stand-ins take llama.cpp's place, so that nothing of it is needed."""

from __future__ import annotations

import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from doitune.backends import llama_cpp
from doitune.errors import DiskError, ModelError, UsageError
from doitune.export.gguf import export as exporting
from doitune.export.gguf import foresight, quantise
from doitune.export.gguf.place import refuse_foreign
from doitune.export.merged import Wish
from doitune.recipe.resolve import resolve
from doitune.selftest.world import make_world
from doitune.train.session import start

SERVER = """
import http.server, json, sys, time
class Silent(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        {answer}
    def log_message(self, *_):
        pass
there = http.server.HTTPServer(("127.0.0.1", 0), Silent)
print(json.dumps({{"address": "http://127.0.0.1:%d" % there.server_port}}), flush=True)
there.serve_forever()
"""
RUNNERS = {
    "aborts while it reads": ("import os; os.abort()", "it was ended by signal 6"),
    "ends while it reads": ("import sys; sys.exit(3)", "it ended with code 3"),
    "hangs while it reads": ("import time; time.sleep(60)", "it has not read the file within 2 s"),
    "aborts when it is asked": (SERVER.format(answer="import os; os.abort()"), "it was ended by signal 6"),
    "hangs when it is asked": (SERVER.format(answer="time.sleep(60)"), "it has not answered for 2 s"),
    "refuses": (SERVER.format(answer='self.send_error(400, "no such token")'), "it refused tokenize"),
}


@pytest.mark.parametrize("kind", list(RUNNERS))
def test_a_runner_that_aborts_or_hangs_is_one_sentence_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    program, said = RUNNERS[kind]
    (tmp_path / "child.py").write_text(program)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(llama_cpp, "CHILD", tmp_path / "child.py")
    monkeypatch.setattr(llama_cpp, "PATIENCE_SECONDS", 2.0 if "hangs" in kind else 60.0)
    monkeypatch.setattr(llama_cpp, "why_no_reader", lambda: None)
    with (
        pytest.raises(ModelError) as caught,
        llama_cpp.running(tmp_path / "x.gguf", 64) as server,
    ):
        server.ask("tokenize", content="x")
    assert f"x.gguf: llama.cpp cannot use x.gguf: {said}" in caught.value.problem
    assert "--to merged" in caught.value.hint and "\n" not in caught.value.problem


def test_a_missing_runner_is_said_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "find_spec", lambda name: None)
    with (
        pytest.raises(UsageError, match="xllamacpp is not installed") as caught,
        llama_cpp.running(tmp_path, 64),
    ):
        pass
    assert caught.value.hint == "pip install 'doitune[gguf]'"


def test_patience_grows_with_the_file(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(14 << 30)
    assert llama_cpp.patience(tmp_path / "large") == llama_cpp.PATIENCE_SECONDS + 14 * llama_cpp.SECONDS_A_GIB


QUANTISERS = {
    "aborts": ("import os, sys; sys.stderr.write('ggml: bad tensor\\n'); sys.stderr.flush(); os.abort()", "ended by signal 6: ggml: bad tensor"),
    "hangs": ("import time; time.sleep(60)", "it has written nothing for 1 s"),
    "writes nothing": ("pass", "it ended with code 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(QUANTISERS))
def test_a_quantiser_that_aborts_or_hangs_is_one_sentence_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    program, said = QUANTISERS[kind]
    monkeypatch.setattr(quantise, "QUIET_SECONDS", 1.0)
    with pytest.raises(ModelError, match=f"quantiser did not write q4_k_m: .*{said}") as caught:
        quantise.quantise([sys.executable, "-c", program], tmp_path / "a", tmp_path / "b", "q4_k_m")
    assert "--quant q8_0" in caught.value.hint


def test_a_quantiser_that_is_slow_but_writes_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "QUIET_SECONDS", 1.0)
    slow = "import sys, time\nfor _ in range(8):\n    open(sys.argv[2], 'ab').write(b'x'); time.sleep(0.25)"
    quantise.quantise([sys.executable, "-c", slow], tmp_path / "a", tmp_path / "b", "q4_k_m")
    assert (tmp_path / "b").read_bytes() == b"x" * 8


def test_what_will_be_written_is_said_first_and_refused_where_the_disk_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a merge of an hour, and then no room for the file."""
    world = make_world(tmp_path)
    run = start(
        resolve(str(world.recipe), overrides=["train.max_steps=1"]),
        runs=tmp_path / "runs",
        scorer=None,
        on_event=lambda event: None,
    )
    monkeypatch.setattr(exporting, "refuse_no_reader", lambda: None)
    notes: list[str] = []
    wanted = exporting.Files(Wish(run, tmp_path / "out"), ("f16", "q8_0"))

    class Merging(Exception):
        pass

    def merge(*_: Any) -> None:
        raise Merging

    monkeypatch.setattr(exporting, "export_merged", merge)
    with pytest.raises(Merging):
        exporting.export_gguf(wanted, exporting.Listener(note=notes.append))
    assert len(notes) == 1 and "will be written (merged" in notes[0] and "q8_0" in notes[0]
    usage = namedtuple("usage", "total used free")(1 << 40, 1 << 40, 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskError, match=r"0\.1 MiB free") as caught:
        exporting.export_gguf(wanted)
    assert "--out" in caught.value.hint and not (tmp_path / "out").exists()
    assert foresight.BITS["q8_0"] == 8 * 34 / 32
    other = tmp_path / "other" / "gguf"
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        exporting.export_gguf(exporting.Files(Wish(run, tmp_path / "other")))


@pytest.mark.parametrize(
    ("files", "is_ours"),
    [
        ({}, True),
        ({"export.json": '{"to": "gguf"}'}, True),
        ({"export.json": '{"same": null}'}, True),
        ({"export.json": '{"to": "adapter"}', "adapter_config.json": "{}"}, False),
        ({"export.json": '{"same": null}', "doitune-base.json": "{}"}, False),
        ({"export.json": "[]"}, False),
        ({"notes.txt": ""}, False),
    ],
)
def test_an_export_of_another_format_is_not_written_over(
    files: dict[str, str], is_ours: bool, tmp_path: Path
) -> None:
    """Trap: the card and the digests of an adapter, replaced by those of a GGUF beside it."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if is_ours:
        refuse_foreign(tmp_path, "gguf")
        return
    with pytest.raises(
        UsageError, match=r"is there already, and is (an export to adapter, not|no export of doitune) to gguf"
    ):
        refuse_foreign(tmp_path, "gguf")
