"""Every name in the directory of a run, once: other files ask here and write none of their own.

    runs/<recipe>/<date-time>/
      recipe.yaml  origin.json  examples.txt  ledger.json  metrics.jsonl  done.json  run.lock
      checkpoints/step-000320/        MANIFEST.json  state.json  state.safetensors; the adapter and its probe
      evals/<suite>/step-000320/      evaluation.json  outcomes.jsonl  report.json  report.md  batching.json
      evals/<suite>/base/             the same of the untrained base
      evals/<suite>/<any>/judgements/     what a judge model said of its free answers beside another's
    runs/bases/<base>/evals/...       of a base that no run was trained on, or an adapter apart from its run

In a checkpoint the adapter's own files have peft's names (`base/adapter.py`), its probe has that of
`backends/probe.py`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

RECIPE, ORIGIN, EXAMPLES, LEDGER = "recipe.yaml", "origin.json", "examples.txt", "ledger.json"
KEPT_OUT = "kept_out.json"
METRICS, SUPERSEDED = "metrics.jsonl", "metrics.superseded.jsonl"
DONE, LOCK, PAGE, TRACKERS = "done.json", "run.lock", "report.html", "trackers"

CHECKPOINTS = "checkpoints"
MANIFEST, STATE, STATE_TENSORS = "MANIFEST.json", "state.json", "state.safetensors"
OLD, TRASH, BAD = ".old-", ".trash-", ".bad-"
"""How the name of a checkpoint begins that is being replaced, deleted, or was found damaged."""

EVALS, BASES, BASE = "evals", "bases", "base"
EVALUATION, EVALUATION_LOCK, BATCHING = "evaluation.json", "evaluation.lock", "batching.json"
OUTCOMES, REPORT, REPORT_TEXT = "outcomes.jsonl", "report.json", "report.md"
LONE = "lone-adapter"
"""The name of an evaluation of an adapter apart from its run."""
JUDGED = "judgements"
"""In an evaluation's folder: what judges said of its free answers beside another's."""
OF_CORPUS = "-corpus-"
"""Between a suite and the name of another corpus than the run's, whose rows were asked."""

STEP = "step-"
"""How the name of a checkpoint's folder begins."""

_STEP = re.compile(rf"{STEP}([0-9]{{6,}})")


def step_name(step: int) -> str:
    """The folder of the checkpoint after `step` optimiser steps, and of its evaluations."""
    return f"{STEP}{step:06d}"


def step_of(name: str) -> int | None:
    """The step that a folder is named after; None where it is named otherwise."""
    found = _STEP.fullmatch(name)
    return int(found[1]) if found else None


def step_folders(folder: Path) -> list[Path]:
    """The folders in `folder` that are named after a step, by name."""
    return sorted(path for path in folder.glob("*") if step_of(path.name) is not None and path.is_dir())


def suite_folder(folder: Path, suite: str) -> Path:
    """Where the evaluations of a run (or of a base, in its folder of BASES) on one suite are."""
    return folder / EVALS / suite


def evaluation_folder(folder: Path, suite: str, checkpoint: str) -> Path:
    """Where one evaluation is; `checkpoint` is the name of a step's folder, or BASE."""
    return suite_folder(folder, suite) / checkpoint


def reports(folder: Path) -> list[Path]:
    """The report of every finished evaluation of a run, by suite and checkpoint."""
    return sorted((folder / EVALS).glob(f"*/*/{REPORT}"))


def resume_command(folder: Path) -> str:
    """What goes on with the run in `folder`, wherever it is typed on this machine."""
    return f"doitune resume {shlex.quote(str(folder.absolute()))}"


def in_run(checkpoint: Path) -> Path | None:
    """The run that a checkpoint's folder belongs to; None where it is no whole checkpoint of a run."""
    whole = (checkpoint / MANIFEST).is_file() and checkpoint.parent.name == CHECKPOINTS
    return checkpoint.resolve().parents[1] if whole else None


def recipe_name(recipe: Path) -> str | None:
    """The name of the recipe that a run's recipe.yaml was resolved from; None for any other file."""
    try:
        is_of_run = recipe.name == RECIPE and (recipe.parent / ORIGIN).is_file()
        return recipe.resolve().parent.parent.name if is_of_run else None
    except (OSError, ValueError):
        return None
