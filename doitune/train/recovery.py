"""Recovery from a lack of memory: the same step again with smaller micro-batches.

An optimiser that ran out of memory may have changed some weights and not others: it is never tried again in
place. The newest valid checkpoint is taken up instead, by the way that a resume takes (a copy of weights and
moments before each step would cost every step of every run).
"""

from __future__ import annotations

from dataclasses import replace

from doitune.errors import FitError
from doitune.run.log import VALIDATION
from doitune.train.gradient import Gradients
from doitune.train.guard import Guard
from doitune.train.retention import Retention, restore
from doitune.train.setup import Setup
from doitune.train.state import Standing


class Recovery:
    """Where a training goes on after it ran out of memory."""

    def __init__(self, setup: Setup, gradients: Gradients, retention: Retention, guard: Guard) -> None:
        self.setup, self.gradients, self.retention, self.guard = setup, gradients, retention, guard

    def after(self, during: str, at: Standing) -> Standing:
        """Where to stand after a lack `during` a step or its optimiser. Errors: see `with_less`."""
        return self.with_less(self._go_back(at) if during == "optimiser" else at, during)

    def with_less(self, at: Standing, during: str, step: int | None = None) -> Standing:
        """The same with half the token budget, which is logged; `step` (from 0) is the one that failed,
        the next one if not given.

        Errors: FitError, with the last boundary saved, where the budget is down to one example.
        """
        step = at.step if step is None else step
        longest = max(len(one.ids) for one in self.gradients.encoded(step))
        if at.tokens_per_micro_batch <= longest:
            self.retention.save_boundary(at)
            raise FitError(
                f"step {step + 1} does not fit this card even with one example at a time ({longest} tokens)",
                "lower train.max_tokens or lora.rank, or use --set train.gradient_checkpointing=always",
            )
        tokens = max(longest, at.tokens_per_micro_batch // 2)
        log_lack(self.setup, at.step, during, tokens)
        where = f"in the {during} of step {step + 1}" if during != "step" else f"in step {step + 1}"
        self.setup.note(
            f"out of memory {where}: the token budget of a micro-batch is now {tokens}; the step starts again"
        )
        return replace(at, tokens_per_micro_batch=tokens)

    def _go_back(self, at: Standing) -> Standing:
        """Stand at the newest valid checkpoint again, or at the untrained adapter where there is none yet;
        the smaller budget stays."""
        run, weights, failed = self.setup.run, self.retention.weights, at.step + 1
        newest = run.checkpoints.newest_valid(self.setup.note)
        if newest is not None:
            back = restore(self.setup, weights, newest)
        elif weights.untrained is not None:
            weights.put_back(weights.untrained)
            back = replace(self.setup.start(), packed=at.packed)
        else:
            raise FitError(
                f"the optimiser ran out of memory in step {failed}, and there is no valid checkpoint",
                "start the run again",
            )
        self.guard.forget()
        run.log.cut(back.step)
        self.setup.note(
            f"the optimiser ran out of memory in step {failed}: training goes on after step {back.step}, "
            "from its checkpoint"
        )
        return replace(
            back,
            tokens_per_micro_batch=min(at.tokens_per_micro_batch, back.tokens_per_micro_batch),
            validations=tuple(run.log.lines(VALIDATION)),
        )


def log_lack(setup: Setup, step: int, during: str, tokens: int) -> None:
    """Log a lack of memory after `step` steps, and the token budget from now on."""
    setup.run.log.add(
        {"event": "out_of_memory", "step": step, "during": during, "tokens_per_micro_batch": tokens}
    )
