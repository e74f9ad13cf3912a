"""Token losses of validation rows, batch by batch; a batch that memory does not hold is cut in two."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from doitune.backends.out_of_memory import OutOfMemory, memory_for
from doitune.prompt.batch import collate, cut

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.prepare.material import Material
    from doitune.prompt.batch import Batch
    from doitune.prompt.encoded import Encoded


class Validation:
    """The validation rows of a run, and how many tokens of them memory holds at once."""

    def __init__(self, model: LoadedModel, material: Material, on_less: Callable[[int], None]) -> None:
        """`on_less` is told a token budget that was halved."""
        self.model, self.on_less = model, on_less
        self.pairs = [(name, row) for name, rows in material.valid_encoded.items() for row in rows]
        self.most_tokens: float = math.inf

    def by_ability(self, budget_tokens: int, *, packed: bool) -> tuple[dict[str, float], dict[str, int]]:
        """Token losses and trained tokens of each ability's rows. Errors: see `losses`."""
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for (name, row), value in zip(
            self.pairs, self.losses([row for _, row in self.pairs], budget_tokens, packed=packed), strict=True
        ):
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0) + row.trained
        return sums, counts

    def losses(self, encoded: Sequence[Encoded], budget_tokens: int, *, packed: bool) -> list[float]:
        """Each example's sum of token losses in nats, without gradient.

        Out of memory: the budget is halved, for later calls too, and what is not measured yet is cut anew;
        OutOfMemory where it is down to one example.
        """
        self.model.training(False)
        sums = [0.0] * len(encoded)
        waiting = list(range(len(encoded)))
        while waiting:
            budget = int(min(budget_tokens, self.most_tokens))
            lengths = [len(encoded[place].ids) for place in waiting]
            groups = [[waiting[place] for place in group] for group in cut(lengths, budget, packed=packed)]
            done = list(
                takewhile(
                    lambda group: _measured(self.model, collate(encoded, group, packed=packed), sums), groups
                )
            )
            waiting = sorted(place for group in groups[len(done) :] for place in group)
            if waiting and budget <= max(lengths):
                raise OutOfMemory("validation batch")
            if waiting:
                self.most_tokens = less = max(max(lengths), budget // 2)
                self.on_less(less)
        return sums


def _measured(model: LoadedModel, batch: Batch, sums: list[float]) -> bool:
    """Put the batch's losses into `sums`; False where memory ran out."""
    import torch

    try:
        with torch.no_grad(), memory_for("validation batch"):
            values = model.loss(batch, 1).sums.tolist()
    except OutOfMemory:
        values = None
    if values is None:
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        return False
    for place, value in zip(batch.members, values, strict=True):
        sums[place] = value
    return True
