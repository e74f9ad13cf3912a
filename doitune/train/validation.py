"""Validation: the loss of the validation rows by ability, and their score where somebody asks them. A batch
that does not fit into memory is cut in two."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import TYPE_CHECKING

from doitune.backends.out_of_memory import OutOfMemory, free_cache, memory_for
from doitune.errors import DoituneError
from doitune.prompt.batch import collate, cut
from doitune.run.log import VALIDATION
from doitune.system import faults
from doitune.system.doing import counted
from doitune.system.spent import spent_on
from doitune.train.events import ValidationLog
from doitune.train.recovery import log_lack
from doitune.train.setup import Setup
from doitune.train.state import Standing

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.prompt.batch import Batch
    from doitune.prompt.encoded import Encoded


class Validation:
    """The validation rows of a run, when they are measured, and how many tokens of them fit into memory at
    once."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.pairs = [(name, row) for name, rows in setup.material.valid_encoded.items() for row in rows]
        self.most_tokens: float = math.inf

    def is_due(self, at: Standing) -> bool:
        """Whether the rows are to be measured after so many steps."""
        if not self.pairs or at.step == 0:
            return False
        every = self.setup.recipe.train.validate_every
        length = self.setup.material.course.steps_per_epoch if every == "epoch" else int(every)
        return at.step % length == 0 or at.step == at.total_steps

    def losses(self, encoded: Sequence[Encoded], at: Standing) -> list[float]:
        """Each example's sum of token losses in nats, without gradient.

        Out of memory: the token budget is halved, for later calls too, and what is not measured yet is cut
        anew; OutOfMemory where it is down to one example.
        """
        model = self.setup.model
        model.training(False)
        sums = [0.0] * len(encoded)
        waiting = list(range(len(encoded)))
        while waiting:
            budget = int(min(at.tokens_per_micro_batch, self.most_tokens))
            lengths = [len(encoded[place].ids) for place in waiting]
            groups = [[waiting[place] for place in group] for group in cut(lengths, budget, packed=at.packed)]
            done = list(
                takewhile(
                    lambda group: _measured(model, collate(encoded, group, packed=at.packed), sums),
                    counted("measuring validation rows: micro-batches", groups),
                )
            )
            waiting = sorted(place for group in groups[len(done) :] for place in group)
            if waiting and budget <= max(lengths):
                raise OutOfMemory("validation batch")
            if waiting:
                self.most_tokens = less = max(max(lengths), budget // 2)
                log_lack(self.setup, at.step, "validation", less)
                self.setup.note(
                    f"out of memory in validation after step {at.step}: its token budget is now {less}"
                )
        return sums


def is_validated(at: Standing) -> bool:
    """Whether the rows have been measured where the training stands."""
    return any(line["step"] == at.step for line in at.validations)


@spent_on("validating")
def validate(validation: Validation, at: Standing) -> ValidationLog | None:
    """Measure the rows and have them scored, log and report it; None, and reported, where that cannot be
    done here."""
    setup, started = validation.setup, time.monotonic()
    faults.reach("validate.begin")
    try:
        with setup.signals.at_once():
            values = validation.losses([row for _, row in validation.pairs], at)
            with memory_for("validation question"):
                scores = (
                    setup.scorer(setup.model, setup.material.template, setup.material.valid)
                    if setup.scorer
                    else {}
                )
    except DoituneError as error:
        failure = error.problem
    else:
        log = _log(validation, at, values, scores, time.monotonic() - started)
        setup.run.log.add({"event": VALIDATION, **asdict(log)})
        faults.reach("validate.end")
        setup.report(log)
        return log
    setup.run.log.add({"event": "validation_failed", "step": at.step, "problem": failure})
    setup.note(f"validation after step {at.step} failed, training goes on: {failure}")
    return None


def _log(
    validation: Validation, at: Standing, values: list[float], scores: dict[str, float], seconds: float
) -> ValidationLog:
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for (name, row), value in zip(validation.pairs, values, strict=True):
        sums[name] = sums.get(name, 0.0) + value
        counts[name] = counts.get(name, 0) + row.trained
    return ValidationLog(
        step=at.step,
        epoch=round(validation.setup.material.course.epoch_at(at.step), 4),
        loss=sum(sums.values()) / max(1, sum(counts.values())),
        loss_by_ability={name: sums[name] / counts[name] for name in sorted(sums)},
        score=math.fsum(scores.values()) / len(scores) if _decides(validation, scores) else None,
        score_by_ability=scores,
        seconds=seconds,
    )


def _decides(validation: Validation, scores: dict[str, float]) -> bool:
    """Whether the scores may choose a checkpoint: most rows are questions that have one. A few letters among
    free answers say less of a checkpoint than the loss of all rows."""
    rows = [row for found in validation.setup.material.valid.values() for row in found]
    return bool(scores) and 2 * sum(row.form != "open" for row in rows) > len(rows)


def _measured(model: LoadedModel, batch: Batch, sums: list[float]) -> bool:
    """Put the batch's losses into `sums`; False where memory ran out."""
    import torch

    try:
        with torch.no_grad(), memory_for("validation batch"):
            values = model.loss(batch, 1).sums.tolist()
    except OutOfMemory:
        values = None
    if values is None:
        free_cache()
        return False
    for place, value in zip(batch.members, values, strict=True):
        sums[place] = value
    return True
