"""Fault points: named places in the writer and the loop where a test, or the crash lab, lets this process
fail.

`DOITUNE_FAULT=site:n[:action]` (several with commas) makes the n-th arrival at a site act; nothing is armed
unless it is set, and an unarmed `reach` is one comparison. The sites stand here and nowhere else, so that a
lab can visit every one.
"""

from __future__ import annotations

import errno
import math
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from doitune.errors import UsageError

VARIABLE = "DOITUNE_FAULT"

SITES = {
    "start.folder": "a run's folder is made, nothing is in it",
    "start.origin": "origin.json, ledger.json and examples.txt are written, recipe.yaml is not",
    "start.recipe": "recipe.yaml is written, the first step is still to come",
    "resume.begin": "a resumed run is locked, nothing is read yet",
    "resume.restored": "the checkpoint is loaded, the log is not cut yet",
    "resume.cut": "the log is cut back to the checkpoint's step",
    "step.forward": "before a micro-batch's forward pass",
    "step.backward": "between a micro-batch's forward and backward pass",
    "step.optimiser": "the gradient is whole, the optimiser has not stepped",
    "step.after": "the optimiser has stepped, nothing is logged",
    "step.logged": "the step is in the log, no checkpoint has it",
    "loss": "the loss of a micro-batch (action nan)",
    "validate.begin": "before a validation",
    "validate.end": "after a validation",
    "final.begin": "all steps are done, the last checkpoint may be missing",
    "final.end": "the last checkpoint is there, done.json is not",
    "done": "done.json is written",
    "ckpt.begin": "before the staging folder is made",
    "ckpt.staged": "the staging folder is empty",
    "ckpt.filled": "adapter and state are in the staging folder, nothing is flushed",
    "ckpt.before_file": "before a file is flushed and hashed",
    "ckpt.after_file": "after a file is flushed and hashed",
    "ckpt.before_manifest": "every file is flushed, the manifest is missing",
    "ckpt.after_manifest": "the manifest is written, its folder is not flushed",
    "ckpt.before_rename": "the staging folder is whole and flushed",
    "ckpt.replaced": "the step's older checkpoint is moved aside, the new one has no name yet",
    "ckpt.after_rename": "the checkpoint has its name, the parent is not flushed",
    "ckpt.before_verify": "the parent is flushed, the files are not read again",
    "ckpt.end": "the checkpoint is verified",
    "trash.begin": "before a checkpoint that is not kept gives up its name",
    "trash.renamed": "it is renamed and still whole",
    "trash.end": "it is deleted",
    "aside.begin": "before a damaged checkpoint is set aside",
    "aside.end": "after it is set aside",
    "write.begin": "before a small file is written beside its name",
    "write.torn": "half of it is written",
    "write.before_rename": "it is whole and flushed beside its name",
    "write.after_rename": "it has its name, the folder is not flushed",
    "fetch.whole": "a corpus is whole beside its name",
    "publish.exchanged": "a result has its name, the one before it is not deleted",
    "publish.aside": "the result before is set aside, the new one has no name yet",
    "append.begin": "before a line is added to a log",
    "append.torn": "half of the line is written",
    "append.end": "the line is written",
}  # fmt: skip
"""Every fault point, in words."""

SAVING = tuple(name for name in SITES if name.startswith("ckpt.") and name not in ("ckpt.begin", "ckpt.end"))
"""Sites inside the checkpoint writer; between `ckpt.begin` and `ckpt.end` a save is under way."""

SIGNALS = {
    name.lower(): getattr(signal, name)
    for name in ("SIGKILL", "SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
}
ACTIONS = ("kill", "enospc", "oom", "nan", "raise", *(name for name in SIGNALS if name != "sigkill"))


class PlantedError(RuntimeError):
    """What the action `raise` raises: an error that nothing knows how to handle."""


@dataclass(frozen=True)
class Fault:
    """The `number`-th arrival at `site` (from 1) does `action`."""

    site: str
    number: int
    action: str


_visit: Callable[[str], Fault | None] | None = None


def parse(text: str) -> tuple[Fault, ...]:
    """The faults that `site:n[:action]` names; `kill` unless it says otherwise. UsageError names the sites
    or actions there are."""
    return tuple(_fault(part.strip()) for part in text.split(",") if part.strip())


def _fault(text: str) -> Fault:
    site, _, rest = text.partition(":")
    number, _, action = rest.partition(":")
    action = action or "kill"
    if site not in SITES:
        raise UsageError(f"{VARIABLE}: no fault point is called {site!r}", f"there are {', '.join(SITES)}")
    if not (number.isascii() and number.isdecimal() and int(number) > 0):
        raise UsageError(f"{VARIABLE}: {text!r} is not site:n[:action]", f"for example {site}:1:kill")
    if action not in ACTIONS:
        raise UsageError(f"{VARIABLE}: no action is called {action!r}", f"there are {', '.join(ACTIONS)}")
    return Fault(site, int(number), action)


def arm(text: str) -> None:
    """Let the faults in `text` happen from now on, and no others; empty: none."""
    global _visit
    faults = parse(text)
    _visit = _planned(faults) if faults else None


def _planned(faults: tuple[Fault, ...]) -> Callable[[str], Fault | None]:
    seen: Counter[str] = Counter()

    def visit(site: str) -> Fault | None:
        seen[site] += 1
        return next((fault for fault in faults if fault.site == site and fault.number == seen[site]), None)

    return visit


@contextmanager
def watched(visitor: Callable[[str], None]) -> Iterator[None]:
    """Inside, every arrival at a site is reported to `visitor` first; faults that are armed still happen."""
    global _visit
    before = _visit

    def visit(site: str) -> Fault | None:
        visitor(site)
        return None if before is None else before(site)

    _visit = visit
    try:
        yield
    finally:
        _visit = before


def armed() -> bool:
    """Whether anybody looks at the sites: a writer then stops half-way through a write to let it tear."""
    return _visit is not None


def reach(site: str) -> None:
    """This process is at `site`; what is armed for this arrival happens."""
    if _visit is not None:
        fault = _visit(site)
        if fault is not None:
            _act(fault)


def spoil(site: str, value: float) -> float:
    """`value`, or NaN where that is armed for this arrival."""
    if _visit is None:
        return value
    fault = _visit(site)
    if fault is not None and fault.action != "nan":
        _act(fault)
    return math.nan if fault is not None else value


def _act(fault: Fault) -> None:
    if fault.action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if fault.action == "oom":
        import torch

        raise torch.OutOfMemoryError(f"planted at {fault.site}")
    if fault.action in ("raise", "nan"):
        raise PlantedError(f"planted at {fault.site}")
    os.kill(os.getpid(), SIGNALS["sigkill" if fault.action == "kill" else fault.action])
