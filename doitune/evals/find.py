"""Which saved evaluations a comparison means: a folder, a run's best evaluated checkpoint, `RUN@base`,
`RUN@STEP`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from doitune.errors import UsageError
from doitune.evals.compare import Side, read_side
from doitune.evals.saved import OUTCOMES
from doitune.run.folder import Run, find_run

BASE = "base"


def find_evaluations(texts: Sequence[str], *, suite: str, runs: Path) -> list[Side]:
    """The saved evaluation that each text means; a single run stands for its base and itself. Errors:
    UsageError, CheckpointError."""
    wanted = list(texts)
    if len(texts) == 1:
        name, _, checkpoint = texts[0].partition("@")
        if checkpoint == BASE or (Path(name) / OUTCOMES).is_file():
            raise UsageError(
                f"{texts[0]} has nothing beside it", "name a second evaluation to compare it with"
            )
        wanted.insert(0, f"{name}@{BASE}")
    return [_evaluation(text, suite, runs) for text in wanted]


def _evaluation(text: str, suite: str, runs: Path) -> Side:
    folder = Path(text)
    if (folder / OUTCOMES).is_file():
        return read_side(folder, name=text)
    name, _, checkpoint = text.partition("@")
    run = find_run(name, runs)
    place = (
        run.folder
        / "evals"
        / suite
        / (_checkpoint(checkpoint) if checkpoint else _best_evaluated(run, suite))
    )
    if not place.is_dir():
        raise UsageError(
            f"{run.name} has no evaluation {suite} of {place.name}",
            f"run `doitune eval {name} --suite {suite}` first",
        )
    return read_side(place, name=f"{run.name}@{place.name}")


def _checkpoint(text: str) -> str:
    return f"step-{int(text):06d}" if text.isascii() and text.isdecimal() else text


def _best_evaluated(run: Run, suite: str) -> str:
    """The best checkpoint if it was evaluated, else the newest that was."""
    done = run.done()
    best = f"step-{done['best_step']:06d}" if done else ""
    known = sorted(path.name for path in (run.folder / "evals" / suite).glob("step-*") if path.is_dir())
    if not known:
        raise UsageError(
            f"{run.name} has no evaluation {suite}", f"run `doitune eval {run.name} --suite {suite}` first"
        )
    return best if best in known else known[-1]
