"""The loop: forward, backward, clip, step; validate, checkpoint, stop.

A step is a pure function of (recipe, data, weights, step number): the order of an epoch, the rate and the
random numbers of dropout all follow from the step number, so that a resume needs no replay, and a step that
ran out of memory starts again as it was with smaller micro-batches (`recovery`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from doitune.backends.out_of_memory import OutOfMemory, memory_for
from doitune.prepare.schedule import rate_at
from doitune.prompt.batch import trained_tokens
from doitune.run.log import STEP, VALIDATION
from doitune.system import faults
from doitune.system.doing import counted
from doitune.system.signals import StopAsked
from doitune.system.spent import STEPS, spent_on
from doitune.train.early_stop import out_of_patience
from doitune.train.events import StepLog
from doitune.train.gradient import FINE, NO_MEMORY, STOP_ASKED, Gradients, Made, Part, agree, loss_by_ability
from doitune.train.guard import Guard
from doitune.train.peak import peak_memory_gib
from doitune.train.recovery import Recovery
from doitune.train.result import result
from doitune.train.retention import Retention, need_room_for
from doitune.train.setup import Setup
from doitune.train.shares import END, Order
from doitune.train.stillness import Stillness
from doitune.train.validation import Validation, is_validated, validate
from doitune.train.weights import Weights

if TYPE_CHECKING:
    import torch

    from doitune.prompt.batch import Batch


def forward_backward(gradients: Gradients, part: Part) -> None:
    """Add up the gradient of the step's mean token loss over this process's micro-batches. Their losses are
    read once, behind the last of them: each reading waits for all that a card has been given."""
    made: list[tuple[Batch, torch.Tensor]] = []
    for batch in counted(f"step {part.order.step + 1}: micro-batches", gradients.batches(part)):
        faults.reach("step.forward")
        loss = gradients.model.loss(batch, part.trained_tokens)
        faults.reach("step.backward")
        loss.value.backward()
        made.append((batch, loss.sums))
        gradients.signals.check()
    read_sums(part, made)
    gradients.pool(part)


def read_sums(part: Part, made: Sequence[tuple[Batch, torch.Tensor]]) -> None:
    """Take over each example's sum of token losses from its micro-batch."""
    import torch

    if made:
        values = torch.cat([sums for _, sums in made]).tolist()
        places = [place for batch, _ in made for place in batch.members]
        for place, value in zip(places, values, strict=True):
            part.sums[place] = faults.spoil("loss", value)


def make_gradient(gradients: Gradients, order: Order) -> Made:
    """This process's part of a step's gradient; the whole one is then the leader's.

    Errors, in every process alike: OutOfMemory, StopAsked; PeerLost.
    """
    part, word = gradients.begin(order), FINE
    try:
        with memory_for("step"):
            forward_backward(gradients, part)
    except OutOfMemory:
        word = NO_MEMORY
    except StopAsked as stop:
        word = STOP_ASKED + stop.number
    return agree(gradients, part, word)


def lead(gradients: Gradients, order: Order) -> Made:
    """Have every process make its part. Errors: see `make_gradient`."""
    gradients.team.broadcast(order.numbers)
    return make_gradient(gradients, order)


def follow_leader(gradients: Gradients) -> None:
    """Do what the leader says until it says that all is done; a lack of memory is the leader's to answer."""
    while (order := Order.of(gradients.team.broadcast(END.numbers))) != END:
        try:
            make_gradient(gradients, order)
        except OutOfMemory:
            continue
        gradients.clear()


class Training:
    """One run in motion: what it was given, and where it stands (`at`). In a team: the leader's part."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.at = setup, setup.start()
        self.gradients = Gradients(setup.material, setup.model, setup.team, setup.signals)
        self.weights = Weights(setup.model, setup.recipe.train)
        self.guard = Guard(setup)
        self.retention = Retention(setup, self.weights)
        self.recovery = Recovery(setup, self.gradients, self.retention, self.guard)
        self.validation = Validation(setup)
        self.stillness = Stillness(setup, self.weights)

    def go(self) -> dict[str, Any]:
        """Train from where it stands to the end; returns what done.json says."""
        section = self.setup.recipe.train
        need_room_for(self.setup, self.weights)
        self.stillness.begin()
        if self.validation.is_due(self.at) and not is_validated(self.at):
            self.validate()
        while self.at.step < self.at.total_steps and not out_of_patience(self.at.validations, section):
            log = self.advance()
            if log is not None:
                self.setup.run.log.add({"event": STEP, **asdict(log)})
                faults.reach("step.logged")
                self.setup.report(log)
                self.guard.see(log)
                self.stillness.see()
            due = self.validation.is_due(self.at)
            if due or self.retention.is_due(self.at):
                self.retention.save(self.at)
            if due:
                self.validate()
        self.setup.team.broadcast(END.numbers)
        self.retention.save_last(self.at)
        self.stillness.end(self.setup.run.checkpoints.all()[-1].folder)
        return result(self.setup, self.at)

    def advance(self) -> StepLog | None:
        """One optimiser step; None for one that is skipped, as its values are not finite.

        After a lack of memory it starts again with half the token budget, from the last safe boundary.
        """
        while True:
            try:
                return _step(self)
            except OutOfMemory as lack:
                during = lack.during
            self.gradients.release()  # only here: the exception kept the step's tensors alive
            self.at = self.recovery.after(during, self.at)

    def validate(self) -> None:
        """Measure and log, see `validate`; then only the best and the newest checkpoints are kept."""
        log = validate(self.validation, self.at)
        if log is None:
            self.gradients.release()
        else:
            line = {"event": VALIDATION, **asdict(log)}
            self.at = replace(self.at, validations=(*self.at.validations, line))
            self.retention.tidy(self.at)


@spent_on(STEPS)
def _step(training: Training) -> StepLog | None:
    """One try at a step. Errors: OutOfMemory, StopAsked, PeerLost, DivergedError."""
    started = time.monotonic()
    at, setup, gradients = training.at, training.setup, training.gradients
    members, encoded = gradients.course.members(at.step), gradients.encoded(at.step)
    rate = rate_at(at.step, at.total_steps, setup.recipe.train)
    made = lead(gradients, Order(at.step, at.tokens_per_micro_batch, at.packed))  # forward and backward
    norm = training.weights.clip()
    tokens = trained_tokens(encoded)
    loss = math.fsum(made.sums) / tokens
    finite = training.guard.is_finite(at.step + 1, loss, norm, members, made.sums)
    faults.reach("step.optimiser")
    if finite:
        training.weights.move(rate)
    gradients.clear()
    training.at = at = replace(at, step=at.step + 1)
    faults.reach("step.after")
    if not finite:
        return None
    seconds = time.monotonic() - started
    training.at = replace(at, trained_tokens=at.trained_tokens + tokens, seconds=at.seconds + seconds)
    return StepLog(
        step=at.step,
        total_steps=at.total_steps,
        epoch=round(gradients.course.epoch_at(at.step), 4),
        loss=loss,
        learning_rate=rate,
        grad_norm=norm,
        trained_tokens=tokens,
        tokens=sum(len(one.ids) for one in encoded),
        positions=made.positions,
        micro_batches=made.micro_batches,
        seconds=seconds,
        peak_memory_gib=peak_memory_gib(setup.model),
        loss_by_ability=loss_by_ability(setup.material, members, made.sums),
    )
