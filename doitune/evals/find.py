"""Which saved evaluations a comparison means: a folder, a run's best evaluated checkpoint, `RUN@base`,
`RUN@STEP`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from doitune.errors import UsageError
from doitune.evals.compare import Side, read_side
from doitune.evals.request import HELD
from doitune.run.find import command, find_run
from doitune.run.folder import Run
from doitune.run.layout import (
    BASE,
    EVALS,
    OF_CORPUS,
    OUTCOMES,
    RECIPE,
    evaluation_folder,
    step_folders,
    step_name,
    step_of,
    suite_folder,
)


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


def evaluations_of(text: str, runs: Path) -> tuple[str, list[Path]]:
    """What a text calls, a run or the folder of one evaluation, and the folders of its evaluations. Errors:
    UsageError."""
    folder = Path(text)
    if folder.is_dir() and not (folder / RECIPE).is_file():
        return text, [folder]
    run = find_run(text, runs)
    found = sorted(path.parent for path in (run.folder / EVALS).glob(f"*/*/{OUTCOMES}"))
    if not found:
        raise UsageError(f"{run.name} has no evaluation", f"run `{command('eval', run, runs)}` first")
    return run.name, found


def _evaluation(text: str, suite: str, runs: Path) -> Side:
    folder = Path(text)
    if (folder / OUTCOMES).is_file():
        return read_side(folder, name=text)
    name, _, checkpoint = text.partition("@")
    run = find_run(name, runs)
    place = evaluation_folder(
        run.folder, suite, _checkpoint(checkpoint) if checkpoint else _best_evaluated(run, suite, runs)
    )
    if not place.is_dir():
        raise UsageError(
            f"{run.name} has no evaluation {suite} of {place.name}",
            _first(run, suite, runs, place.name),
        )
    return read_side(place, name=f"{run.name}@{place.name}")


def _checkpoint(text: str) -> str:
    return step_name(int(text)) if text.isascii() and text.isdecimal() else text


def _best_evaluated(run: Run, suite: str, runs: Path) -> str:
    """The best checkpoint if it was evaluated, else the newest that was."""
    done = run.done()
    best = step_name(done["best_step"]) if done else ""
    known = [path.name for path in step_folders(suite_folder(run.folder, suite))]
    if not known:
        raise UsageError(f"{run.name} has no evaluation {suite}", _first(run, suite, runs))
    return best if best in known else known[-1]


def _first(run: Run, suite: str, runs: Path, checkpoint: str = BASE) -> str:
    """What to run before. What `cmmlu-5shot-exact` says in one name, `eval` takes as three options."""
    suite, _, corpus = suite.partition(OF_CORPUS)
    held = next((one for one, name in HELD.items() if suite.endswith(f"-{name}")), "")
    suite = suite.removesuffix(f"-{HELD[held]}") if held else suite
    plain = suite.removesuffix("-exact")
    name, shots = found.groups() if (found := re.fullmatch(r"(.+)-([0-9]+)shot", plain)) else (plain, "")
    more = ["--suite", name]
    if shots:
        more += ["--shots", shots]
    if plain != suite:
        more.append("--exact")
    if held:
        more += ["--quantise", held]
    if corpus:
        more += ["--corpus", corpus]
    step = step_of(checkpoint)
    if step is not None:
        more += ["--checkpoint", str(step)]
    return f"run `{command('eval', run, runs, *more)}` first"
