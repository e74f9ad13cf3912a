"""Whatever a model, a file or a name says, a terminal gets text: every way of printing, in a real
pseudo-terminal, with 225 hostile texts."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from fcntl import ioctl
from pathlib import Path

import pytest
from hostile import TERMINAL
from patience import HANGS
from terminal import until_closed

OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|2K|1A|K)|\r")
"""Colours of ours, and what a live line needs to write over itself."""

FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ue000-\uf8ff\ufe00-\ufe0d\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e01ef\U000f0000-\U0010ffff]"
)

PROGRAM = """
import json, sys, time, warnings
from types import SimpleNamespace as Any
from doitune import __main__ as process
from doitune.console import activity, examples, progress, screen, scores
from doitune.system.doing import doing
from doitune.data.check import CheckReport
from doitune.data.bring import Progress
from doitune.errors import DataError, Problem
from doitune.train.events import Note
from doitune.evals.compare import Comparison, Pair
from doitune.evals.report import Mean, Report, SetScore, Table
from doitune.evals.evaluation import Evaluation
from doitune.data.jsonl import Finding
from doitune.prepare.preview import Piece, Row
from doitune.recipe.budget import Ledger, Line

way, texts = sys.argv[1], json.loads(sys.stdin.read())
sys.stdin = open("/dev/tty")
warnings.showwarning = process._warn


def evaluation(text):
    one = SetScore(text, 10, 0.5, 0.2, 0.8, 0.25, 0.1, unread=1, within_chance=True, too_long=1, fewer_shots=1)
    mean = Mean(0.5, 0.2, 0.8, 0.25, 0.1, 1, 10, True)
    report = Report(text, 1, {}, tuple(Table(name, (one,), mean, mean, mean, groups={text: mean}) for name in ("fixed", "paper")), 10, 20, (text,))
    scores.show_evaluations([Evaluation(text, text, report, 3)], ("fixed", "paper"))


def pairs(text):
    pair = Pair(text, text, text, 9, 0.1, 0.2, 0.1, 0, 0.2, 0.5, 0.5, 1, 2, 0.3, False, text)
    scores.show_comparisons([Comparison(text, text, text, 0, "fixed", pair, (pair,), 1, None)])


def crash(text):
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        screen.show_crash(error)


def live(text):
    with progress.LiveLine() as line:
        line.file(Progress(text, 1, 2, 1, 2))
        line.questions(text, Any(done=1, total=2))
        line.part(text, 1, 2)
        line.note(text)
        busy(text)


def training(text):
    with progress.TrainingDisplay() as display:
        display(Note(text))
        busy(text)


def busy(text):
    activity.FIRST_SECONDS, activity.TICK_SECONDS = 0.0, 0.01
    doing(text, 1, 2)
    time.sleep(0.05)


WAYS = {
    "say": screen.say,
    "note": screen.note,
    "table": lambda text: screen.show_table([text, "b"], [[text, text]], title=text),
    "error": lambda text: screen.show_error(DataError.of([Problem(text, text, text)]), as_json=False),
    "json": lambda text: screen.show_json({text: [text], "schema": text}),
    "json error": lambda text: screen.show_error(DataError.of([Problem(text, text, text)]), as_json=True),
    "preview": lambda text: examples.show_preview([Row(text, text, text, (Piece(text, True, ""), Piece(text, False, text)), 1, 1, False)]),
    "check": lambda text: examples.show_check(CheckReport({}, [Finding(text, text, 1, text, text)], [])),
    "ledger": lambda text: examples.show_ledger(Ledger({text: Line(1, 1, 1)}), text),
    "scores": evaluation, "pairs": pairs, "crash": crash, "live": live, "training": training,
    "warning": lambda text: warnings.warn(text),
}
for text in texts:
    WAYS[way]("<" + text + ">")
"""

WAYS = [
    "say",
    "note",
    "table",
    "error",
    "json",
    "json error",
    "preview",
    "check",
    "ledger",
    "scores",
    "pairs",
    "crash",
    "live",
    "training",
    "warning",
]


def typed(way: str, texts: list[str]) -> tuple[str, int]:
    """What comes out of a terminal in which `texts` were printed that way, and the exit code."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))
    settings_ = termios.tcgetattr(slave)
    settings_[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, settings_)
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8:surrogatepass"}
    program = PROGRAM.replace('sys.stdin = open("/dev/tty")\n', "")
    child = subprocess.Popen(
        [sys.executable, "-c", program, way],
        stdin=subprocess.PIPE,
        stdout=slave,
        stderr=slave,
        env=environment,
    )
    os.close(slave)
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(until_closed(master)))
    reader.start()
    child.communicate(json.dumps(texts).encode("ascii"), timeout=HANGS)
    reader.join(timeout=10)
    os.close(master)
    return b"".join(said).decode("utf-8", "strict"), child.returncode


@pytest.mark.parametrize("way", WAYS)
def test_only_our_own_codes_reach_the_terminal(way: str) -> None:
    """Trap: rich lets OSC 52, clear-screen and C1 through `print`, and breaks on `[/foo]`."""
    texts = TERMINAL[::4] if way in ("scores", "pairs", "live", "training") else TERMINAL
    out, code = typed(way, texts)
    assert code == 0, out[-2000:]
    assert "[/foo]" in out or texts is not TERMINAL
    plain = OWN.sub("", out)
    found = FORBIDDEN.search(plain)
    assert not found, repr(plain[max(0, found.start() - 40) : found.end() + 20])
    if "json" in way:
        assert "\\u001b" in out and "\\u202e" in out and "\\u009b" in out
    elif texts is TERMINAL:
        assert all(
            mark in out for mark in ("<U+001B>", "<U+009B>", "<U+202E>", "<U+200B>", "<U+0007>", "<U+E0100>")
        )


def test_our_colours_are_there_so_the_test_above_can_see_codes() -> None:
    assert "\x1b[1;31m" in typed("error", ["x"])[0]


def test_hidden_characters_in_json_read_back_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    from doitune.console.screen import show_json

    show_json({"schema": "x", "texts": TERMINAL, "中": "文"})
    out = capsys.readouterr().out
    assert json.loads(out)["texts"] == TERMINAL and "中" in out
    assert not FORBIDDEN.search(out)


def test_every_printer_of_the_package_is_known_here() -> None:
    """A new way to the screen must be added to the ways above, or be made of them."""
    import ast

    package = Path(__file__).parents[1] / "doitune"
    raw = []
    for path in sorted((package / "console").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("print", "write", "status", "update")
            ):
                said = ", ".join(ast.unparse(argument) for argument in node.args)
                if said and not re.search(
                    r"^(safe|styled|grid|Markdown\(safe)\(|^self\.bar\.task_ids|^text(\.replace|$)", said
                ):
                    raw.append(f"{path.name}:{node.lineno} {said}")
    assert not raw
