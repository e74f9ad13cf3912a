"""The desk in a forked child: libraries are loaded once, a trial costs half a second, and signals, exit
codes and output are a real process's."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytest
from patience import HANGS

from doitune.__main__ import main
from doitune.run.find import list_runs
from doitune.run.folder import Run
from doitune.selftest.traces import Traces, traces_of
from doitune.selftest.world import make_world
from doitune.system import faults, signals

LIBRARIES = (
    "doitune.backends.hf",
    "doitune.cli.evaluation",
    "doitune.cli.training",
    "doitune.train.session",
    "transformers.models.llama.modeling_llama",
)
"""What most commands load, once for all children."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (-n: killed by signal n), all that it wrote, and how long after
    the last signal."""

    code: int
    said: str
    seconds: float

    @property
    def last_line(self) -> str:
        return self.said.strip().splitlines()[-1] if self.said.strip() else ""


def begun(
    arguments: Sequence[str],
    out: Path,
    error: Path,
    *,
    fault: str = "",
    before: Callable[[], None] | None = None,
) -> int:
    """Start a command, whose streams are these files; its process, once it obeys signals: before that a busy
    machine decides what one does."""
    obeys, tell = os.pipe()
    obey = signals.obey

    def obeyed() -> None:
        obey()
        os.close(tell)

    def run() -> None:
        signals.obey = obeyed
        _stream_to(out, error)
        os.environ.update({"NO_COLOR": "1", faults.VARIABLE: fault, "CUDA_VISIBLE_DEVICES": ""})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if before is not None:
            before()
        sys.argv = ["doitune", *arguments]
        main()

    child = os.fork()
    if not child:
        leave_after(run)
    os.close(tell)
    os.read(obeys, 1)  # nothing comes: it ends when the child closes its side, or dies
    os.close(obeys)
    return child


def leave_after(work: Callable[[], object]) -> NoReturn:
    """The end of a forked child: its exit code is what `work` exits with, 0 where it returns, 99 for a
    traceback."""
    code = 99
    try:
        work()
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _stream_to(out: Path, error: Path) -> None:
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(out, how, 0o600), 1)
    os.dup2(1 if error == out else os.open(error, how, 0o600), 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False, buffering=1)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)


def asked(*arguments: str, seconds: float = 1500.0) -> dict[str, Any]:
    """The document of a command that ends well, begun in this folder."""
    for name in LIBRARIES:
        import_module(name)
    with TemporaryDirectory() as place:
        out, error = Path(place) / "out", Path(place) / "error"
        code = ended(begun((*arguments, "--json"), out, error), seconds)
        said = out.read_text(encoding="utf-8")
        assert code == 0, (arguments, code, said, error.read_text(encoding="utf-8", errors="replace"))
    return dict(json.loads(said))


def ended(child: int, seconds: float) -> int | None:
    """A child's exit code (-n: signal n); None where it had to be killed after so many seconds."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


class Desk:
    """Commands in a folder of their own, on the crash lab's tiny world."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = make_world(folder / "world").recipe

    def begin(self, *arguments: str, fault: str = "", before: Callable[[], None] | None = None) -> int:
        """Start a command; its process, once it obeys signals."""
        log = self.folder / "said.log"
        return begun(arguments, log, log, fault=fault, before=before)

    def wait(self, child: int, seconds: float = HANGS) -> Ended:
        """The end of a command."""
        began = time.monotonic()
        code = ended(child, seconds)
        said = (self.folder / "said.log").read_text(encoding="utf-8", errors="replace")
        if code is None:
            pytest.fail(f"a command did not end in {seconds} s: {said[-2000:]}")
        return Ended(code, said, time.monotonic() - began)

    def do(self, *arguments: str, fault: str = "", before: Callable[[], None] | None = None) -> Ended:
        """A command from its beginning to its end."""
        return self.wait(self.begin(*arguments, fault=fault, before=before))

    def train(self, runs: str, *more: str) -> tuple[str, ...]:
        return ("train", str(self.recipe), "--runs", str(self.folder / runs), *more)

    def resume(self, runs: str, *more: str) -> tuple[str, ...]:
        return ("resume", "last", "--runs", str(self.folder / runs), *more)

    def run(self, runs: str) -> Run | None:
        """The newest run under `runs`."""
        return next(iter(list_runs(self.folder / runs)[::-1]), None)

    def traces(self, runs: str) -> Traces:
        found = self.run(runs)
        assert found is not None
        return traces_of(found)


def assert_same(wanted: Traces, found: Traces) -> None:
    """Byte for byte, naming the part that is not."""
    wrong: Mapping[str, int] = {
        name: sum(a != b for a, b in zip(part, found.parts[name], strict=False))
        + abs(len(part) - len(found.parts[name]))
        for name, part in wanted.parts.items()
        if part != found.parts[name]
    }
    assert not wrong, f"differing bytes by part: {wrong}"
