"""The loop: a step's examples through micro-batches, clip, step, validate, checkpoint, resume.

A step is a pure function of (recipe, data, weights, step number): the order of an epoch, the arrangement, the rate and the random numbers of
dropout all follow from the step number, so that a resume needs no replay, and a step that ran out of memory starts again as it was.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.batch import arrange, trained_tokens
from doitune.course import Course
from doitune.disk import need_room, write_json
from doitune.errors import CheckpointError, DivergedError, FitError
from doitune.events import Event, Note, Saved, StepLog, ValidationLog
from doitune.optimiser import build_optimiser, put_state, rate_at, set_rate, take_state
from doitune.probe import PackingProof, prove_packing

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.batch import Batch
    from doitune.example import Example
    from doitune.prepare import Material
    from doitune.prompt import Template
    from doitune.recipe import Recipe
    from doitune.run import Run

DEFAULT_MICRO_BATCH_TOKENS = 4096
STATE_SCHEMA = "doitune.state/1"

Scorer = Callable[["LoadedModel", "Template", Mapping[str, Sequence["Example"]]], dict[str, float]]
"""Asks validation questions and gives each ability's score in 0..1; handed in, so that training does not know evaluation."""


class Training:
    """One run in motion: the model, its optimiser, and where it stands."""

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        material: Material,
        model: LoadedModel,
        on_event: Callable[[Event], None],
        should_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`should_stop` is called after each micro-batch and raises where the run is asked to stop."""
        self.run, self.recipe, self.material, self.model = run, recipe, material, model
        self.on_event, self.should_stop = on_event, should_stop
        section = recipe.train
        ids = tuple(example.id for example in material.examples)
        self.course = Course(ids, section.seed, section.examples_per_step, section.epochs, section.max_steps)
        self.parameters = model.trainable()
        self.optimiser = build_optimiser(self.parameters, section, model.device)
        self.step = 0
        self.budget_tokens = section.tokens_per_micro_batch or max(DEFAULT_MICRO_BATCH_TOKENS, section.max_tokens)
        self.packed = False
        self.seconds = 0.0
        self.trained_tokens = 0
        self._saved_at = time.monotonic()

    def choose_arrangement(self) -> PackingProof | None:
        """Packed where the recipe allows it and the probe proves it exact, else sorted; says which and why."""
        wanted = self.recipe.train.arrangement
        if wanted == "sorted":
            self.packed = False
            return None
        proof = prove_packing(self.model, self.material.encoded)
        if wanted == "packed" and not proof.exact:
            raise FitError(f"packed micro-batches are not exact here: {proof.reason}", "use --set train.arrangement=auto")
        self.packed = proof.exact
        if not proof.exact:
            self.on_event(Note(f"micro-batches are sorted by length, not packed: {proof.reason}"))
        return proof

    def go(self, scorer: Scorer | None) -> dict[str, Any]:
        """Train from where it stands to the end; returns what done.json holds."""
        if self._validation_due() and self._last_validation() != self.step:
            self.validate(scorer)
        while self.step < self.course.total_steps and not self._out_of_patience():
            log = self.advance()
            self.run.log({"event": "step", **asdict(log)})
            self.on_event(log)
            due = self._validation_due()
            if due or self._checkpoint_due():
                self.save()
            if due:
                self.validate(scorer)
        if self._newest_checkpoint() != self.step:
            self.save()
        return self._finish()

    def advance(self) -> StepLog:
        """One optimiser step. After a lack of memory the same step starts again with half the token budget."""
        import torch

        while True:
            try:
                return self._step()
            except torch.OutOfMemoryError as error:
                self._release()
                longest = max(len(self.material.encoded[place].ids) for place in self.course.members(self.step))
                if self.budget_tokens <= longest:
                    raise FitError(
                        f"step {self.step + 1} does not fit this card even with one example at a time ({longest} tokens)",
                        "lower train.max_tokens or lora.rank, or use --set train.gradient_checkpointing=always",
                    ) from error
                self.budget_tokens = max(longest, self.budget_tokens // 2)
            text = f"out of memory in step {self.step + 1}: the token budget of a micro-batch is now {self.budget_tokens}; the step starts again"
            self.run.log({"event": "out_of_memory", "step": self.step, "tokens_per_micro_batch": self.budget_tokens})
            self.on_event(Note(text))

    def _step(self) -> StepLog:
        import torch

        started = time.monotonic()
        members = self.course.members(self.step)
        encoded = [self.material.encoded[place] for place in members]
        total = trained_tokens(encoded)
        rate = rate_at(self.step, self.course.total_steps, self.recipe.train)
        torch.manual_seed(_seed_of(self.recipe.train.seed, self.step))
        batches = arrange(encoded, self.budget_tokens, packed=self.packed)
        sums = self._gradient(batches, total)
        norm = self._clip()
        loss = math.fsum(sums) / total
        self._refuse_non_finite(loss, norm, members, sums)
        set_rate(self.optimiser, rate)
        self.optimiser.step()
        self._clear_gradients()
        self.step += 1
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
            positions=sum(batch.ids.numel() for batch in batches),
            micro_batches=len(batches),
            seconds=seconds,
            peak_memory_gib=peak_memory_gib(self.model),
            loss_by_ability=self._by_ability(members, sums),
        )

    def _gradient(self, batches: Sequence[Batch], total: int) -> list[float]:
        """Accumulate the gradient of the step's mean token loss; returns each example's sum of token losses, in the step's order."""
        self.model.training(True)
        self._clear_gradients()
        sums = [0.0] * sum(len(batch.members) for batch in batches)
        for batch in batches:
            loss = self.model.loss(batch, total)
            loss.value.backward()
            for place, value in zip(batch.members, loss.sums.tolist(), strict=True):
                sums[place] = value
            self.should_stop()
        return sums

    def _clip(self) -> float:
        """Norm of the whole gradient before clipping."""
        import torch

        limit = self.recipe.train.clip_norm
        tensors = [parameter for _, parameter in self.parameters]
        return float(torch.nn.utils.clip_grad_norm_(tensors, limit if limit > 0 else math.inf))

    def _clear_gradients(self) -> None:
        for _, parameter in self.parameters:
            parameter.grad = None

    def _release(self) -> None:
        import torch

        self._clear_gradients()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _by_ability(self, members: Sequence[int], sums: Sequence[float]) -> dict[str, float]:
        """Mean token loss of each ability's examples in this step."""
        totals: dict[str, list[float]] = {}
        for place, value in zip(members, sums, strict=True):
            pair = totals.setdefault(self.material.examples[place].ability, [0.0, 0.0])
            pair[0] += value
            pair[1] += self.material.encoded[place].trained
        return {name: pair[0] / pair[1] for name, pair in sorted(totals.items())}

    def _refuse_non_finite(self, loss: float, norm: float, members: Sequence[int], sums: Sequence[float]) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        rows = [self.material.examples[place].place for place, value in zip(members, sums, strict=True) if not math.isfinite(value)]
        where = f"; rows: {', '.join(rows[:5])}" if rows else ""
        raise DivergedError(
            f"step {self.step + 1}: loss {loss}, gradient norm {norm}{where}",
            f"the last good checkpoint is kept in {self.run.folder}; try a lower train.learning_rate",
        )

    def validate(self, scorer: Scorer | None) -> ValidationLog:
        """Loss by ability on the validation rows, and their score where a scorer is given."""
        started = time.monotonic()
        self.model.training(False)
        sums, counts = self._validation_sums()
        by_ability = scorer(self.model, self.material.template, self.material.valid) if scorer else {}
        log = ValidationLog(
            step=self.step,
            epoch=round(self.course.epoch_at(self.step), 4),
            loss=sum(sums.values()) / max(1, sum(counts.values())),
            loss_by_ability={name: sums[name] / counts[name] for name in sorted(sums)},
            score=math.fsum(by_ability.values()) / len(by_ability) if by_ability else None,
            score_by_ability=by_ability,
            seconds=time.monotonic() - started,
        )
        self.run.log({"event": "validation", **asdict(log)})
        self.on_event(log)
        self._tidy()
        return log

    def _validation_sums(self) -> tuple[dict[str, float], dict[str, int]]:
        import torch

        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        pairs = [(example, one) for name, rows in self.material.valid_encoded.items() for example, one in ((name, row) for row in rows)]
        with torch.no_grad():
            for batch in arrange([one for _, one in pairs], self.budget_tokens, packed=self.packed) if pairs else []:
                for place, value in zip(batch.members, self.model.loss(batch, 1).sums.tolist(), strict=True):
                    name, one = pairs[place]
                    sums[name] = sums.get(name, 0.0) + value
                    counts[name] = counts.get(name, 0) + one.trained
        return sums, counts

    def save(self) -> None:
        """Write a checkpoint of the last optimiser boundary and delete those that are not kept."""
        size = sum(parameter.numel() * parameter.element_size() for _, parameter in self.parameters)
        need_room(self.run.folder, 4 * size + (1 << 20))
        self.run.save_checkpoint(self.step, self._fill)
        self._saved_at = time.monotonic()
        self._tidy()
        self.on_event(Saved(self.step))

    def save_boundary(self) -> None:
        """Save the last optimiser boundary, unless it is saved already; a half-done step is forgotten and made again on resume."""
        self._clear_gradients()
        if self.step and self._newest_checkpoint() != self.step:
            self.save()

    def _fill(self, folder: Path) -> None:
        from safetensors.torch import save_file

        self.model.save_adapter(folder)
        tensors, numbers = take_state(self.optimiser, self.parameters)
        save_file(tensors, folder / "state.safetensors")
        document = {
            "schema": STATE_SCHEMA,
            "step": self.step,
            "total_steps": self.course.total_steps,
            "tokens_per_micro_batch": self.budget_tokens,
            "packed": self.packed,
            "trained_tokens": self.trained_tokens,
            "seconds": self.seconds,
            "optimiser_numbers": numbers,
        }
        write_json(folder / "state.json", document)

    def restore(self, folder: Path) -> None:
        """Stand where the checkpoint in `folder` was written; CheckpointError where it is not of this recipe."""
        from safetensors.torch import load_file

        document = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if document.get("schema") != STATE_SCHEMA or document["total_steps"] != self.course.total_steps:
            raise CheckpointError(
                f"{folder} was written for {document.get('total_steps')} steps, this recipe makes {self.course.total_steps}",
                "resume with the run's own recipe and data",
            )
        self.model.load_adapter(folder)
        put_state(self.optimiser, self.parameters, load_file(folder / "state.safetensors"), document["optimiser_numbers"])
        self.step = document["step"]
        self.budget_tokens, self.packed = document["tokens_per_micro_batch"], document["packed"]
        self.trained_tokens, self.seconds = document["trained_tokens"], document["seconds"]

    def _newest_checkpoint(self) -> int:
        found = self.run.checkpoints()
        return found[-1].step if found else -1

    def _tidy(self) -> None:
        steps_here = [found.step for found in self.run.checkpoints()]
        best = self.run.best_step(self.recipe.train.select_after_epoch)
        self.run.keep_checkpoints({*steps_here[-self.recipe.train.keep_checkpoints :], *([] if best is None else [best])})

    def _validation_due(self) -> bool:
        if not self.material.valid or self.step == 0:
            return False
        every = self.recipe.train.validate_every
        length = self.course.steps_per_epoch if every == "epoch" else int(every)
        return self.step % length == 0 or self.step == self.course.total_steps

    def _last_validation(self) -> int:
        return max((line["step"] for line in self.run.metrics() if line.get("event") == "validation"), default=-1)

    def _checkpoint_due(self) -> bool:
        """After step 1 (it proves that saving works), after each epoch, and by time."""
        late = time.monotonic() - self._saved_at >= 60 * self.recipe.train.checkpoint_minutes
        return self.step == 1 or late or self.step % self.course.steps_per_epoch == 0

    def _out_of_patience(self) -> bool:
        patience = self.recipe.train.patience
        if not patience:
            return False
        metrics = self.run.metrics()
        best = self.run.best_step(self.recipe.train.select_after_epoch)
        later = [line for line in metrics if line.get("event") == "validation" and best is not None and line["step"] > best]
        return len(later) >= patience

    def _finish(self) -> dict[str, Any]:
        best = self.run.best_step(self.recipe.train.select_after_epoch)
        final = self.step
        return {
            "schema": "doitune.done/1",
            "final_step": final,
            "best_step": final if best is None else best,
            "stopped_early": final < self.course.total_steps,
            "trained_tokens": self.trained_tokens,
            "seconds": round(self.seconds, 3),
        }


def _seed_of(seed: int, step: int) -> int:
    """Seed of a step's random numbers (dropout)."""
    return (seed * 1_000_003 + step * 7_919 + 1) % (1 << 63)


def peak_memory_gib(model: LoadedModel) -> float:
    """On CUDA the most memory the allocator held; elsewhere the process's largest resident size."""
    import torch

    if model.device.type == "cuda":
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
