"""Which runs there are, and which one a name means."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

from doitune.errors import UsageError
from doitune.run.default import RUNS
from doitune.run.folder import NAME_FORM, Run
from doitune.run.layout import RECIPE
from doitune.system.paths import as_argument

_STAMP = re.compile(r"[0-9]{8}-[0-9]{6}")
"""What NAME_FORM writes."""


def list_runs(runs: Path) -> list[Run]:
    """Every run under `runs`, oldest first by the time in its name."""
    found = [Run(path.parent) for path in runs.glob(f"*/*/{RECIPE}")]
    return sorted(found, key=_when)


def _when(run: Run) -> tuple[str, int, str]:
    """Time, number among those of the same second (`...-10` is after `...-2`), recipe. A run that has another
    name, as the members of a family do, began when its recipe was written."""
    stamp, number = run.folder.name[:15], run.folder.name[15:].removeprefix("-")
    if not _STAMP.fullmatch(stamp):
        stamp, number = time.strftime(NAME_FORM, time.localtime((run.folder / RECIPE).stat().st_mtime)), ""
    return stamp, int(number) if number.isdecimal() else 1, run.name


def command(words: str, run: Run, runs: Path, *more: str) -> str:
    """The line `doitune WORDS RUN ...` to be copied: it means this run where it is typed now, whatever has
    begun beside it, with `--runs` where that is not the default."""
    for text in ("last", run.name):
        if not text.startswith("-") and _means(text, runs, run):
            return shlex.join(["doitune", *words.split(), text, *more, *_where(runs)])
    return shlex.join(["doitune", *words.split(), as_argument(run.folder), *more])


def _where(runs: Path) -> list[str]:
    return [] if runs == RUNS else ["--runs", as_argument(runs)]


def _means(text: str, runs: Path, run: Run) -> bool:
    try:
        return find_run(text, runs).folder.resolve() == run.folder.resolve()
    except UsageError:
        return False


def find_run(text: str, runs: Path) -> Run:
    """A run by its directory, by `last`, or by an unambiguous part of its name. UsageError lists what
    there is, and refuses a text that says nothing (of any name, "" is a part)."""
    folder, part = Path(text), text.strip().strip("/")
    names = f"`{shlex.join(['doitune', 'runs', 'list', *_where(runs)])}` names them"
    if not text.strip():
        raise UsageError("an empty name names no run", f"{names}, or write `last`")
    if (folder / RECIPE).is_file():
        return Run(folder.resolve())
    known = list_runs(runs)
    if text == "last":
        if known:
            return known[-1]
        start = shlex.join(["doitune", "train", "demo", *_where(runs)])
        raise UsageError(f"there is no run under {runs}", f"start one: {start}")
    matches = [run for run in known if part.strip("./") and part in run.name]
    exact = [run for run in matches if run.name == part]
    if len(exact or matches) == 1:
        return (exact or matches)[0]
    if matches:
        raise UsageError(
            f"{text!r} names {len(matches)} runs", "one of: " + ", ".join(run.name for run in matches[-8:])
        )
    raise UsageError(
        f"no run is called {text!r} under {runs}",
        f"{names}; --runs DIR looks elsewhere",
    )
