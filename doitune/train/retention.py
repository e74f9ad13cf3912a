"""Retention: when a training writes a checkpoint, which ones are kept, and how it stands at one again."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

from doitune.run.checkpoint import Checkpoint
from doitune.run.checkpoints import keep
from doitune.run.folder import save_checkpoint
from doitune.system import faults
from doitune.system.disk import need_room
from doitune.system.doing import doing
from doitune.system.spent import spent_on
from doitune.system.units import several
from doitune.train.early_stop import best_step
from doitune.train.events import Saved
from doitune.train.probes import Probes
from doitune.train.setup import Setup
from doitune.train.state import Standing, read_state, write_state
from doitune.train.weights import Weights, expected_bytes

SPARE = 1.05
"""Room that is asked for, as a multiple of what is to be written."""


class Retention:
    """The checkpoints of one training: the newest `train.keep_checkpoints` and the best one are kept."""

    def __init__(self, setup: Setup, weights: Weights) -> None:
        self.setup, self.weights = setup, weights
        self.probes = Probes(setup.material, setup.model)
        self._saved_at = time.monotonic()

    def is_due(self, at: Standing) -> bool:
        """After step 1 (it proves that saving works), after each epoch, and by time."""
        late = time.monotonic() - self._saved_at >= 60 * self.setup.recipe.train.checkpoint_minutes
        return at.step == 1 or late or at.step % self.setup.material.course.steps_per_epoch == 0

    @property
    def habit(self) -> str:
        """When it saves, and what it keeps, in words."""
        train, steps = self.setup.recipe.train, self.setup.material.course.steps_per_epoch
        when = f"after step 1, each epoch ({several(steps, 'step')}) and {train.checkpoint_minutes:g} minutes"
        newest = "the newest" if train.keep_checkpoints == 1 else f"the newest {train.keep_checkpoints}"
        return f"checkpoints: {when}, and at the end; {newest} and the best are kept"

    @spent_on("saving checkpoints")
    def save(self, at: Standing) -> None:
        """Write a checkpoint of the last optimiser boundary and delete those that are not kept."""
        doing(f"saving the checkpoint of step {at.step}")
        size = [one.bytes for one in self.setup.run.checkpoints.all()[-1:]] or [expected_bytes(self.weights)]

        def fill(folder: Path) -> None:
            write_state(folder, self.setup.model, self.weights.optimiser, at)
            self.probes.save(folder)

        save_checkpoint(self.setup.run, at.step, fill, math.ceil(SPARE * size[0]))
        self._saved_at = time.monotonic()
        self.weights.untrained = None
        self.tidy(at)
        self.setup.report(Saved(at.step))

    def save_boundary(self, at: Standing) -> None:
        """Save the last optimiser boundary, unless it is saved already; a half-done step is made again on
        resume."""
        if at.step and self._newest() != at.step:
            self.save(at)

    def save_last(self, at: Standing) -> None:
        """Save the end of a training, and keep what is to be kept of it."""
        faults.reach("final.begin")
        if self._newest() != at.step:
            self.save(at)
        self.tidy(at)  # a kill after the last validation may have left the best one before it
        faults.reach("final.end")

    def _newest(self) -> int:
        return max((found.step for found in self.setup.run.checkpoints.all()), default=-1)

    def tidy(self, at: Standing) -> None:
        """Delete the checkpoints that are not kept."""
        steps, section = [one.step for one in self.setup.run.checkpoints.all()], self.setup.recipe.train
        best = best_step(at.validations, section)
        kept = {*steps[-section.keep_checkpoints :], *([] if best is None else [best])}
        keep(self.setup.run.checkpoints, kept)


def need_room_for(setup: Setup, weights: Weights) -> None:
    """DiskError unless the disk holds every checkpoint that this run keeps, the one being written and the
    best, and 5 % more."""
    wanted = SPARE * (setup.recipe.train.keep_checkpoints + 2) * expected_bytes(weights)
    need_room(setup.run.folder, math.ceil(wanted) - sum(one.bytes for one in setup.run.checkpoints.all()))


def restore(setup: Setup, weights: Weights, checkpoint: Checkpoint) -> Standing:
    """Stand where the checkpoint was written, as its files say; a run at a constant rate may have become
    longer since. CheckpointError where it is not of this recipe, or the model does not answer as it did then.
    """
    doing(f"taking up the checkpoint of step {checkpoint.step}")
    weights.renew()
    steps = setup.material.course.total_steps
    of_steps = None if setup.recipe.train.schedule == "constant" else steps
    at = read_state(checkpoint.folder, setup.model, weights.optimiser, of_steps)
    Probes(setup.material, setup.model).prove(checkpoint.folder)
    return replace(at, total_steps=steps)
