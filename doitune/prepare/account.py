"""What a run will train on, counted and proved before step 1: no row lost, how many tokens are trained, a
schedule that reaches its peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.errors import RecipeError
from doitune.prepare.schedule import rate_at
from doitune.prompt.encoded import Encoded
from doitune.prompt.encoded_rows import rows_of

if TYPE_CHECKING:
    from doitune.recipe.budget import Ledger
    from doitune.recipe.fields import TrainSection


@dataclass(frozen=True)
class TrainedRows:
    """Rows chosen = trained + refused (too long and dropped). Tokens of the trained ones, and the least,
    median and most trained tokens of a row.

    `repeated`: trained rows that say the same as an earlier one.
    """

    chosen: int
    trained: int
    refused: int
    tokens: int
    trained_tokens: int
    least: int
    median: float
    most: int
    repeated: int = 0

    @property
    def text(self) -> str:
        """The same as a sentence."""
        share = 100 * self.trained_tokens / self.tokens
        refused = f"{self.refused:,} refused as too long" if self.refused else "none refused"
        repeated = f"; {self.repeated:,} rows say the same as another" if self.repeated else ""
        return (
            f"{self.chosen:,} rows: {self.trained:,} trained, {refused}; "
            f"{self.trained_tokens:,} of {self.tokens:,} tokens are trained ({share:.0f} %), "
            f"{self.least:,} to {self.most:,} a row, median {self.median:,g}{repeated}"
        )


def count_rows(ledger: Ledger, encoded: Sequence[Encoded]) -> TrainedRows:
    """The account of the rows that a budget chose. RuntimeError where one was lost on the way: that is our
    bug, never a user's."""
    total = ledger.total()
    if len(encoded) != total.trained or total.kept != total.trained + total.truncated:
        raise RuntimeError(
            f"rows were lost: {total.kept} chosen, {total.truncated} refused, {total.trained} to train, "
            f"{len(encoded)} encoded"
        )
    import numpy as np

    rows = rows_of(encoded)
    trained = rows.trained
    return TrainedRows(
        chosen=total.kept,
        trained=total.trained,
        refused=total.truncated,
        tokens=int(rows.lengths.sum()),
        trained_tokens=int(trained.sum()),
        least=int(trained.min()),
        median=float(np.median(trained)),
        most=int(trained.max()),
        repeated=len(rows) - rows.different,
    )


def rates(section: TrainSection, total_steps: int) -> tuple[float, float, float]:
    """The learning rate of the first step, the highest one, and that of the last step.

    RecipeError where the warm-up takes all steps: the rate that the recipe names would never be used.
    """
    if section.warmup_steps >= total_steps:
        raise RecipeError(
            f"train.warmup_steps {section.warmup_steps} leaves none of the run's {total_steps} steps "
            "at the full rate",
            f"use fewer, for example --set train.warmup_steps={total_steps // 10}",
        )
    found = [rate_at(step, total_steps, section) for step in range(total_steps)]
    return found[0], max(found), found[-1]


def schedule_text(section: TrainSection, total_steps: int) -> str:
    """The schedule as it will be, in a sentence."""
    first, peak, last = rates(section, total_steps)
    return f"learning rate {first:.3g} in step 1, at most {peak:.3g}, {last:.3g} in step {total_steps:,}"
