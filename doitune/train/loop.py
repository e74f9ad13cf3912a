"""The loop: a step's gradient, clip, step, validate, checkpoint, resume, and what is done where memory runs
out.

A step is a pure function of (recipe, data, weights, step number): the order of an epoch, the rate and the
random numbers of dropout all follow from the step number, so that a resume needs no replay, and a step that
ran out of memory starts again as it was with smaller micro-batches. An optimiser that ran out of memory may
have changed some weights and not others: it is never tried again in place. The newest valid checkpoint is
taken up instead, by the way that a resume takes (a copy of weights and moments before each step would cost
every step of every run).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.optimiser import build_optimiser, set_rate
from doitune.backends.out_of_memory import OutOfMemory, memory_for
from doitune.errors import DoituneError, FitError
from doitune.prepare.schedule import rate_at
from doitune.prompt.batch import trained_tokens
from doitune.run.checkpoints import keep
from doitune.run.folder import save_checkpoint
from doitune.run.log import VALIDATION, best_of
from doitune.system import faults
from doitune.system.disk import need_room
from doitune.train.events import Event, Note, Saved, StepLog, ValidationLog
from doitune.train.gradient import Gradients, Made, Order
from doitune.train.guard import Guard
from doitune.train.packing import PackingProof, prove_packing
from doitune.train.state import Aside, Counters, expected_bytes, read_state, write_state
from doitune.train.team import Team
from doitune.train.trial import (
    Trial,
    card_gib,
    largest_batch,
    longest_row,
    longest_step,
    peak_memory_gib,
    reset_peak,
    same_random_state,
)
from doitune.train.validation import Validation

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.prepare.material import Material
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe
    from doitune.run.folder import Run

DEFAULT_MICRO_BATCH_TOKENS = 4096

Scorer = Callable[["LoadedModel", "Template", Mapping[str, Sequence["Example"]]], dict[str, float]]
"""Asks validation questions and gives each ability's score in 0..1; handed in, so that training does not
know evaluation."""


class Training:
    """One run in motion: the model, its optimiser, and where it stands. In a team this is the leader's
    part."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        material: Material,
        model: LoadedModel,
        on_event: Callable[[Event], None],
        team: Team | None = None,
    ) -> None:
        self.run, self.recipe, self.material, self.model, self.on_event = (
            run,
            recipe,
            material,
            model,
            on_event,
        )
        self.gradients = Gradients(recipe, material, model, team or Team())
        self.course, self.parameters = self.gradients.course, self.gradients.parameters
        self.validation = Validation(model, material, self._less_to_validate)
        self.planned_gib: float | None = None  # what a memory plan says, to stand beside what the trial finds
        section = recipe.train
        self.optimiser = build_optimiser(self.parameters, section, self.model.device)
        self.guard = Guard(run, material, model, self.course.total_steps, lambda event: self.on_event(event))
        self.step = 0
        self.budget_tokens = section.tokens_per_micro_batch or max(
            DEFAULT_MICRO_BATCH_TOKENS, section.max_tokens
        )
        self.packed = False
        self.seconds = 0.0
        self.trained_tokens = 0
        self._untrained: Aside | None = None  # until there is a checkpoint to go back to
        self._saved_at = time.monotonic()
        self.validations: Sequence[
            Mapping[str, Any]
        ] = ()  # those that the checkpoint knows which training goes on from
        self.interruptible: Callable[[], AbstractContextManager[None]] = (
            nullcontext  # around work that a signal may end at once
        )

    def choose_arrangement(self) -> PackingProof | None:
        """Packed where the recipe allows it and the probe proves it exact, else sorted; says which and
        why."""
        wanted = self.recipe.train.arrangement
        self.guard.prove_batches()
        if wanted == "sorted":
            self.packed = False
            return None
        proof = prove_packing(self.model, self.material.encoded)
        if wanted == "packed" and not proof.exact:
            raise FitError(
                f"packed micro-batches are not exact here: {proof.reason}", "use --set train.arrangement=auto"
            )
        self.packed = proof.exact
        if not proof.exact:
            self.on_event(Note(f"micro-batches are sorted by length, not packed: {proof.reason}"))
        return proof

    def try_out(self, scorer: Scorer | None) -> Trial:
        """Try the largest micro-batch of the run, a step of the optimiser, and evaluation, and change
        nothing; says what it took.

        Errors: FitError where the run does not fit even one example at a time.
        """
        before = Aside.of(self.parameters, self.optimiser)
        self._untrained = before if self.step == 0 else None
        with same_random_state(self.model):
            order, made, peak = self._try_longest(before)
            reset_peak(self.model)
            self._try_evaluation(scorer)
        trial = Trial(
            of_step=order.step + 1,
            positions=made.positions,
            tokens_per_micro_batch=self.budget_tokens,
            peak_gib=peak,
            evaluation_peak_gib=peak_memory_gib(self.model),
            planned_gib=self.planned_gib,
            card_gib=card_gib(self.model),
        )
        reset_peak(self.model)
        self.run.log.add({"event": "trial", "step": self.step, **asdict(trial)})
        return trial

    def _try_longest(self, before: Aside) -> tuple[Order, Made, float]:
        """The order that takes most, what it made, and its peak; with less to a micro-batch each time that
        memory runs out."""
        while True:
            order = longest_step(self.gradients, self.budget_tokens, self.packed)
            reset_peak(self.model)
            try:
                made = self.gradients.lead(order)
                self._clip()
                self._move(rate=0.0)
                return order, made, peak_memory_gib(self.model)
            except OutOfMemory:
                pass
            finally:
                self._put_back(before)
            self._take_less("trial", order.step)

    def _try_evaluation(self, scorer: Scorer | None) -> None:
        """One batch of validation rows, and the longest question; what fails is said, and does not stop a
        run."""
        rows = largest_batch(self.material.valid_encoded, self.budget_tokens, self.packed)
        if self.model.device.type == "cpu":
            rows = sorted(rows, key=lambda row: -len(row.ids))[:1]
        longest = longest_row(self.material)
        try:
            with self.interruptible(), memory_for("validation question"):
                self.validation.losses(rows, self.budget_tokens, packed=self.packed)
                if scorer and longest:
                    scorer(self.model, self.material.template, longest)
        except DoituneError as error:
            self.on_event(Note(f"validation failed when it was tried: {error.problem}"))
        self.gradients.release()

    def go(self, scorer: Scorer | None) -> dict[str, Any]:
        """Train from where it stands to the end; returns what done.json holds."""
        self._need_room()
        if self._validation_due() and self._last_validation() != self.step:
            self.validate(scorer)
        while self.step < self.course.total_steps and not self._out_of_patience():
            log = self.advance()
            if log is not None:
                self.run.log.add({"event": "step", **asdict(log)})
                faults.reach("step.logged")
                self.on_event(log)
                self.guard.see(log)
            due = self._validation_due()
            if due or self._checkpoint_due():
                self.save()
            if due:
                self.validate(scorer)
        self.gradients.dismiss()
        faults.reach("final.begin")
        if self._newest_checkpoint() != self.step:
            self.save()
        self._tidy()  # a kill after the last validation may have left the best one before it
        faults.reach("final.end")
        return self._finish()

    def advance(self) -> StepLog | None:
        """One optimiser step; None for one that is skipped, as its values are not finite.

        After a lack of memory it starts again with half the token budget, from the last safe boundary.
        """
        while True:
            try:
                return self._step()
            except OutOfMemory as lack:
                during = lack.during
            self.gradients.release()  # only here: the exception held the step's tensors
            if during == "optimiser":
                self._go_back()
            self._take_less(during, self.step)

    def _take_less(self, during: str, step: int) -> None:
        """Halve the token budget and say so; FitError, with the last boundary saved, where it is down to
        one example."""
        longest = max(len(one.ids) for one in self.gradients.encoded(step))
        if self.budget_tokens <= longest:
            self.save_boundary()
            raise FitError(
                f"step {step + 1} does not fit this card even with one example at a time ({longest} tokens)",
                "lower train.max_tokens or lora.rank, or use --set train.gradient_checkpointing=always",
            )
        self.budget_tokens = max(longest, self.budget_tokens // 2)
        self.run.log.add(
            {
                "event": "out_of_memory",
                "step": self.step,
                "during": during,
                "tokens_per_micro_batch": self.budget_tokens,
            }
        )
        where = f"in the {during} of step {step + 1}" if during != "step" else f"in step {step + 1}"
        self.on_event(
            Note(
                f"out of memory {where}: the token budget of a micro-batch is now {self.budget_tokens}; the step starts again"
            )
        )

    def _go_back(self) -> None:
        """Stand at the newest valid checkpoint again, or at the untrained adapter where there is none yet;
        the smaller budget stays."""
        budget, failed = self.budget_tokens, self.step + 1
        newest = self.run.checkpoints.newest_valid(lambda text: self.on_event(Note(text)))
        if newest is not None:
            self.restore(newest.folder)
        elif self._untrained is not None:
            self._put_back(self._untrained)
            self.step, self.trained_tokens, self.seconds = 0, 0, 0.0
            self.guard.forget()
        else:
            raise FitError(
                f"the optimiser ran out of memory in step {failed}, and there is no valid checkpoint",
                "start the run again",
            )
        self.budget_tokens = min(budget, self.budget_tokens)
        self.run.log.cut(self.step)
        self.on_event(
            Note(
                f"the optimiser ran out of memory in step {failed}: training goes on after step {self.step}, from its checkpoint"
            )
        )

    def _put_back(self, aside: Aside) -> None:
        """Weights and moments as they were set aside, in a fresh optimiser: the old one's may be half
        made."""
        self.gradients.release()
        self.optimiser = build_optimiser(self.parameters, self.recipe.train, self.model.device)
        aside.put(self.parameters, self.optimiser)

    def _step(self) -> StepLog | None:
        started = time.monotonic()
        order = Order(self.step, self.budget_tokens, self.packed)
        members = self.course.members(self.step)
        encoded = self.gradients.encoded(self.step)
        total = trained_tokens(encoded)
        rate = rate_at(self.step, self.course.total_steps, self.recipe.train)
        made = self.gradients.lead(order)
        norm = self._clip()
        loss = math.fsum(made.sums) / total
        finite = self.guard.is_finite(self.step + 1, loss, norm, members, made.sums)
        faults.reach("step.optimiser")
        if finite:
            self._move(rate)
        self.gradients.clear()
        self.step += 1
        faults.reach("step.after")
        if not finite:
            return None
        self.trained_tokens += total
        seconds = time.monotonic() - started
        self.seconds += seconds
        return StepLog(
            step=self.step,
            total_steps=self.course.total_steps,
            epoch=round(self.course.epoch_at(self.step), 4),
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            trained_tokens=total,
            tokens=sum(len(one.ids) for one in encoded),
            positions=made.positions,
            micro_batches=made.micro_batches,
            seconds=seconds,
            peak_memory_gib=peak_memory_gib(self.model),
            loss_by_ability=self.gradients.by_ability(self.step - 1, made.sums),
        )

    def _clip(self) -> float:
        """Norm of the whole gradient before clipping."""
        import torch

        limit = self.recipe.train.clip_norm
        with memory_for("step"):
            return float(
                torch.nn.utils.clip_grad_norm_(self.gradients.tensors, limit if limit > 0 else math.inf)
            )

    def _move(self, rate: float) -> None:
        """The optimiser's step."""
        set_rate(self.optimiser, rate)
        with memory_for("optimiser"):
            self.optimiser.step()

    def validate(self, scorer: Scorer | None) -> ValidationLog | None:
        """Loss by ability on the validation rows, and their score where a scorer is given; None, and said,
        where that cannot be done here."""
        started = time.monotonic()
        faults.reach("validate.begin")
        try:
            with self.interruptible():
                sums, counts = self.validation.by_ability(self.budget_tokens, packed=self.packed)
                with memory_for("validation question"):
                    by_ability = (
                        scorer(self.model, self.material.template, self.material.valid) if scorer else {}
                    )
        except DoituneError as error:
            failure = error.problem
        else:
            return self._validated(sums, counts, by_ability, time.monotonic() - started)
        self.gradients.release()
        self.run.log.add({"event": "validation_failed", "step": self.step, "problem": failure})
        self.on_event(Note(f"validation after step {self.step} failed, training goes on: {failure}"))
        return None

    def _validated(
        self, sums: dict[str, float], counts: dict[str, int], by_ability: dict[str, float], seconds: float
    ) -> ValidationLog:
        log = ValidationLog(
            step=self.step,
            epoch=round(self.course.epoch_at(self.step), 4),
            loss=sum(sums.values()) / max(1, sum(counts.values())),
            loss_by_ability={name: sums[name] / counts[name] for name in sorted(sums)},
            score=math.fsum(by_ability.values()) / len(by_ability) if by_ability else None,
            score_by_ability=by_ability,
            seconds=seconds,
        )
        self.run.log.add({"event": "validation", **asdict(log)})
        faults.reach("validate.end")
        self.on_event(log)
        self._tidy()
        return log

    def _less_to_validate(self, budget_tokens: int) -> None:
        self.run.log.add(
            {
                "event": "out_of_memory",
                "step": self.step,
                "during": "validation",
                "tokens_per_micro_batch": budget_tokens,
            }
        )
        self.on_event(
            Note(
                f"out of memory in validation after step {self.step}: its token budget is now {budget_tokens}"
            )
        )

    def save(self) -> None:
        """Write a checkpoint of the last optimiser boundary and delete those that are not kept."""
        known = [found.bytes for found in self.run.checkpoints.all()[-1:]]
        size = known[0] if known else expected_bytes(self.parameters, self.recipe.train.optimizer)
        save_checkpoint(self.run, self.step, self._fill, math.ceil(1.05 * size))
        self._saved_at = time.monotonic()
        self._untrained = None
        self._tidy()
        self.on_event(Saved(self.step))

    def _need_room(self) -> None:
        """DiskError unless the disk holds every checkpoint that this run keeps, the one being written and
        the best, and 5 % more."""
        size = expected_bytes(self.parameters, self.recipe.train.optimizer)
        there = sum(found.bytes for found in self.run.checkpoints.all())
        need_room(self.run.folder, math.ceil(1.05 * (self.recipe.train.keep_checkpoints + 2) * size) - there)

    def save_boundary(self) -> None:
        """Save the last optimiser boundary, unless it is saved already; a half-done step is forgotten and
        made again on resume."""
        self.gradients.clear()
        if self.step and self._newest_checkpoint() != self.step:
            self.save()

    def _fill(self, folder: Path) -> None:
        validations = tuple(line for line in self.run.log.lines() if line.get("event") == "validation")
        counters = Counters(
            self.step, self.course.total_steps, self.budget_tokens, self.packed, self.trained_tokens, self.seconds, validations
        )  # fmt: skip
        write_state(folder, self.model, self.optimiser, counters)
        self.guard.save(folder)

    def restore(self, folder: Path) -> None:
        """Stand where the checkpoint in `folder` was written; CheckpointError where it is not of this
        recipe."""
        self.optimiser = build_optimiser(self.parameters, self.recipe.train, self.model.device)
        counters = read_state(
            folder,
            self.model,
            self.optimiser,
            None if self.recipe.train.schedule == "constant" else self.course.total_steps,
        )
        self.guard.prove(folder)
        self.step, self.budget_tokens, self.packed = (
            counters.step,
            counters.tokens_per_micro_batch,
            counters.packed,
        )
        self.trained_tokens, self.seconds = counters.trained_tokens, counters.seconds
        self.validations = counters.validations

    def _newest_checkpoint(self) -> int:
        found = self.run.checkpoints.all()
        return found[-1].step if found else -1

    def _tidy(self) -> None:
        steps_here = [found.step for found in self.run.checkpoints.all()]
        best = self._best_step()
        keep(
            self.run.checkpoints,
            {*steps_here[-self.recipe.train.keep_checkpoints :], *([] if best is None else [best])},
        )

    def _best_step(self) -> int | None:
        return best_of(self.run.log.lines(VALIDATION), self.recipe.train.select_after_epoch)

    def _validation_due(self) -> bool:
        if not self.material.valid or self.step == 0:
            return False
        every = self.recipe.train.validate_every
        length = self.course.steps_per_epoch if every == "epoch" else int(every)
        return self.step % length == 0 or self.step == self.course.total_steps

    def _last_validation(self) -> int:
        return max(
            (line["step"] for line in self.run.log.lines() if line.get("event") == "validation"), default=-1
        )

    def _checkpoint_due(self) -> bool:
        """After step 1 (it proves that saving works), after each epoch, and by time."""
        late = time.monotonic() - self._saved_at >= 60 * self.recipe.train.checkpoint_minutes
        return self.step == 1 or late or self.step % self.course.steps_per_epoch == 0

    def _out_of_patience(self) -> bool:
        patience = self.recipe.train.patience
        if not patience:
            return False
        metrics = self.run.log.lines()
        best = self._best_step()
        later = [
            line
            for line in metrics
            if line.get("event") == "validation" and best is not None and line["step"] > best
        ]
        return len(later) >= patience

    def _finish(self) -> dict[str, Any]:
        section = self.recipe.train
        best = self._best_step()
        final = self.step
        epochs = [line["epoch"] for line in self.run.log.lines() if line.get("event") == "validation"]
        if epochs and max(epochs) <= section.select_after_epoch:
            self.on_event(
                Note(
                    f"no validation lies after epoch {section.select_after_epoch} (train.select_after_epoch): the best of all is taken"
                )
            )
        return {
            "schema": "doitune.done/1",
            "final_step": final,
            "best_step": final if best is None else best,
            "stopped_early": final < self.course.total_steps,
            "trained_tokens": self.trained_tokens,
            "seconds": round(self.seconds, 3),
            "endings": self.guard.endings(),
        }
