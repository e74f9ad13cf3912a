"""One process of the crash lab: forked with the libraries loaded, watched through shared memory, killed at
a site or at a time."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from doitune.errors import DoituneError
from doitune.recipe.resolve import resolve
from doitune.run.find import list_runs
from doitune.system import faults
from doitune.train.events import Event, StepLog
from doitune.train.session import resume, start

SITES = tuple(faults.SITES)
_SAVING, _LOOPING, _STEP, _FIRST, _COUNTS = 0, 4, 8, 12, 16
LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
    "safetensors",
    "numpy",
    "doitune",
)
LOADED = "modules.txt"
"""Which modules a child that came to its end had loaded."""

_LOOP_SITES = ("resume.cut", "start.recipe")


class Watch:
    """What a child says about itself while it lives, in memory that outlives it."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, _COUNTS + 4 * len(SITES))

    def _get(self, place: int) -> int:
        return int(struct.unpack_from("<I", self.memory, place)[0])

    def _put(self, place: int, value: int) -> None:
        struct.pack_into("<I", self.memory, place, value)

    @property
    def saving(self) -> bool:
        """Whether the writer of a checkpoint was at work when the child was last heard of."""
        return self._get(_SAVING) == 1

    @property
    def looping(self) -> bool:
        """Whether the child has come to its first step."""
        return self._get(_LOOPING) == 1

    @property
    def step(self) -> int:
        """The last step that it logged."""
        return self._get(_STEP)

    @property
    def first(self) -> int:
        """The first step that it logged; 0 for none."""
        return self._get(_FIRST)

    def counts(self) -> dict[str, int]:
        """How often it came to each site."""
        return {site: self._get(_COUNTS + 4 * number) for number, site in enumerate(SITES)}

    def visit(self, site: str) -> None:
        """The child is at a site."""
        place = _COUNTS + 4 * SITES.index(site)
        self._put(place, self._get(place) + 1)
        if site in ("ckpt.begin", "ckpt.end"):
            self._put(_SAVING, int(site == "ckpt.begin"))
        if site in _LOOP_SITES:
            self._put(_LOOPING, 1)

    def hear(self, event: Event) -> None:
        """The child's training reports."""
        if isinstance(event, StepLog):
            self._put(_STEP, event.step)
            if not self.first:
                self._put(_FIRST, event.step)


@dataclass(frozen=True)
class Blow:
    """How a child is to be killed: by the fault point in `fault`, or `after_seconds` of its loop (or of
    its life); neither: not at all."""

    fault: str = ""
    after_seconds: float | None = None
    of_loop: bool = True


@dataclass(frozen=True)
class Died:
    """How a child ended: the exit code, -9 where it was killed; what it had said; the end of what it
    printed."""

    code: int
    watch: Watch
    seconds: float
    said: str

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def warm_up(runs: Path) -> None:
    """Load what a whole run under `runs` has loaded, so that the children to come need not. No work is
    done: threads do not survive a fork."""
    for name in (runs / LOADED).read_text(encoding="utf-8").split("\n"):
        if name.partition(".")[0] in LIBRARIES and name not in sys.modules:
            with suppress(ImportError, AttributeError):
                import_module(name)


Work = Callable[[Watch], None]
"""What a child does; it may report its steps to the watch."""


def live(recipe: Path, runs: Path, blow: Blow) -> Died:
    """Train `recipe` under `runs` in a child, or go on with the run that is there; wait for its end."""

    def train(watch: Watch) -> None:
        there = list_runs(runs)
        if there:
            resume(there[-1], scorer=None, on_event=watch.hear)
        else:
            start(resolve(str(recipe)), runs=runs, scorer=None, on_event=watch.hear)

    return live_through(train, runs, blow)


def live_through(work: Work, folder: Path, blow: Blow) -> Died:
    """Do `work` in a child that may be killed; its log is left in `folder`. Wait for its end."""
    watch, log = Watch(), folder / "child.log"
    folder.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")  # a child may be killed before it has opened its log
    began = time.monotonic()
    child = os.fork()
    if not child:
        _be_child(work, folder, blow, watch, log)
    code = _wait(child, blow, watch, began)
    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    return Died(code, watch, time.monotonic() - began, said)


def _wait(child: int, blow: Blow, watch: Watch, began: float) -> int:
    """The child's exit code; the blow falls in time."""
    until = None if blow.of_loop else began
    while blow.after_seconds is not None:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        until = now if until is None and watch.looping else until
        if until is not None and now - until >= blow.after_seconds:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _be_child(work: Work, folder: Path, blow: Blow, watch: Watch, log: Path) -> None:
    """Never returns: the child leaves without any of the parent's cleaning up."""
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False, buffering=1)
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the promise of equal bytes is the CPU's
        import torch

        torch.set_num_threads(1)
        faults.arm(blow.fault)
        with faults.watched(watch.visit):
            work(watch)
        (folder / LOADED).write_text("\n".join(sys.modules), encoding="utf-8")
        code = 0
    except DoituneError as error:
        sys.stderr.write(f"{error.problem}\n{error.hint}\n")
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
