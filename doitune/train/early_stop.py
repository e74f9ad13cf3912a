"""Early stopping: which validation is the best so far, and whether the run has waited long enough for a
better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doitune.run.log import best_of

if TYPE_CHECKING:
    from doitune.recipe.fields import TrainSection


def best_step(validations: Sequence[Mapping[str, Any]], section: TrainSection) -> int | None:
    """The step of the best validation as the recipe chooses it; None without any."""
    return best_of(validations, section.select_after_epoch)


def out_of_patience(validations: Sequence[Mapping[str, Any]], section: TrainSection) -> bool:
    """Whether `train.patience` validations have passed since the best one."""
    best = best_step(validations, section)
    if not section.patience or best is None:
        return False
    return sum(line["step"] > best for line in validations) >= section.patience
