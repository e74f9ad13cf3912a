"""The result of a training: what done.json says, written last."""

from __future__ import annotations

from typing import Any

from doitune.system.spent import spent_so_far
from doitune.train.early_stop import best_step
from doitune.train.endings import reply_endings
from doitune.train.setup import Setup
from doitune.train.state import Standing


def result(setup: Setup, at: Standing) -> dict[str, Any]:
    """The document of done.json for a run that ends where it stands."""
    section = setup.recipe.train
    best = best_step(at.validations, section)
    epochs = [line["epoch"] for line in at.validations]
    if epochs and max(epochs) <= section.select_after_epoch:
        setup.note(
            f"no validation lies after epoch {section.select_after_epoch} (train.select_after_epoch): "
            "the best of all is taken"
        )
    return {
        "schema": "doitune.done/1",
        "final_step": at.step,
        "best_step": at.step if best is None else best,
        "stopped_early": at.step < at.total_steps,
        "trained_tokens": at.trained_tokens,
        "seconds": round(at.seconds, 3),
        "endings": reply_endings(setup),
        "seconds_by_part": {name: round(spent, 3) for name, spent in spent_so_far().items()},
    }
