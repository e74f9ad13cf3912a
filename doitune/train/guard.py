"""The guards of one training, as the loop calls them: what they find is logged in the run's metrics and
told, or raised."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.out_of_memory import OutOfMemory
from doitune.backends.probe import choose_rows, prove_adapter, prove_batches, save_probe, take_probe
from doitune.prompt.encode import fingerprint
from doitune.train.endings import ask_endings
from doitune.train.events import Event, Note, StepLog
from doitune.train.spikes import Watch

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.prepare.material import Material
    from doitune.prompt.encoded import Encoded
    from doitune.run.folder import Run

NAMED_ROWS = 5


class Guard:
    """Watches one training. The watch over its steps starts from what the run has logged, when the first
    step is seen."""

    def __init__(
        self,
        run: Run,
        material: Material,
        model: LoadedModel,
        total_steps: int,
        on_event: Callable[[Event], None],
    ) -> None:
        self.run, self.material, self.model = run, material, model
        self.total_steps, self.on_event = total_steps, on_event
        self.rows = choose_rows(material.examples, material.encoded)
        self.encoder = fingerprint(material.template)

    @cached_property
    def watch(self) -> Watch:
        """The last steps."""
        return Watch(self.total_steps, self.run.log.lines())

    def forget(self) -> None:
        """The run stands at another step than the last one seen: the watch starts from its log again."""
        self.__dict__.pop("watch", None)

    def prove_batches(self) -> None:
        """ModelError where a row's loss depends on what is beside it in a padded micro-batch."""
        prove_batches(self.model, self.rows)

    def save(self, folder: Path) -> None:
        """Put the probe of the model as it is into a checkpoint's folder."""
        save_probe(folder, take_probe(self.model, self.rows, self.encoder))

    def prove(self, folder: Path) -> None:
        """CheckpointError unless the model answers as the checkpoint in `folder` did when it was saved."""
        self.forget()
        prove_adapter(self.model, folder, self.encoder)

    def is_finite(
        self, step: int, loss: float, grad_norm: float, members: Sequence[int], sums: Sequence[float]
    ) -> bool:
        """Whether a step (from 1) may be made. One that may not is logged with its rows and told;
        DivergedError where it is one too many.

        `sums`: the losses of the examples at the places `members`.
        """
        watch = self.watch  # from here on it holds what is logged
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return True
        rows = [
            self.material.examples[place].place
            for place, value in zip(members, sums, strict=True)
            if not math.isfinite(value)
        ]
        named = (
            f"; rows: {', '.join(rows[:NAMED_ROWS])}"
            + (f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else "")
            if rows
            else ""
        )
        problem = f"step {step}: loss {loss}, gradient norm {grad_norm}{named}"
        watch.skip(step, problem)
        self.run.log.add(
            {"event": "skipped", "step": step, "loss": str(loss), "grad_norm": str(grad_norm), "rows": rows}
        )
        self.on_event(Note(f"{problem}: the step is skipped, no weight moves"))
        return False

    def see(self, log: StepLog) -> None:
        """Take note of a step that was made and logged; spikes are logged and told. DivergedError after
        steps with a loss of exactly 0."""
        for spike in self.watch.see(log.step, log.loss, log.grad_norm):
            self.run.log.add({"event": "spike", **asdict(spike)})
            self.on_event(Note(spike.text))

    def endings(self) -> dict[str, Any]:
        """Whether the model ends its replies, as done.json holds it; told where too few end. Validation
        rows are asked, else trained ones."""
        try:
            found = ask_endings(self.model, self.material.template, *self._asked())
        except OutOfMemory as error:  # the training is whole all the same
            self.on_event(Note(f"warning: whether replies end is not known: {error.problem}"))
            return {"asked": 0, "ended": 0, "max_new_tokens": 0, "marked": True}
        if found.marked:
            self.on_event(Note(f"warning: {found.text}"))
        return {**asdict(found), "marked": found.marked}

    def _asked(self) -> tuple[list[Example], list[Encoded]]:
        material = self.material
        rows = [
            pair
            for name in material.valid
            for pair in zip(material.valid[name], material.valid_encoded[name], strict=True)
        ]
        rows = rows or list(zip(material.examples, material.encoded, strict=True))
        return [example for example, _ in rows], [one for _, one in rows]
