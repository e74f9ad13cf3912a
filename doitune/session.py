"""One training from the command to done.json: prepare, load, prove, train; and the same again for a run that was stopped.

Signals are held here: the first asks the loop to stop at the last optimiser boundary, a second one leaves at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from doitune.base import Base, find_base
from doitune.cookbook import freeze, resolve
from doitune.course import Course
from doitune.disk import make_folder, need_room
from doitune.errors import Stopped
from doitune.events import Event, Note, StepLog, ValidationLog
from doitune.prepare import Material, origin, prepare, refuse_drift, tokenizer_template
from doitune.run import Run, create_run
from doitune.trackers import Trackers, refuse_missing
from doitune.train import Scorer, Training
from doitune.trained import load_model

if TYPE_CHECKING:
    from doitune.cookbook import Resolved
    from doitune.example import Example
    from doitune.recipe import Recipe

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))

OnEvent = Callable[[Event], None]
Judged = Mapping[str, Sequence["Example"]]
"""Rows, by suite, that a run will be judged on beside its corpus's own; handed in, as training does not know evaluation."""


@dataclass(frozen=True)
class Plan:
    """What a training would do, without weights: for `--dry-run` and for the start of a run."""

    resolved: Resolved
    base: Base
    material: Material

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.resolved.recipe


def plan_training(resolved: Resolved, judged: Judged | None = None) -> Plan:
    """Resolve the base, choose and encode the examples, prove the template's law. `judged`, errors: see `prepare`."""
    recipe = resolved.recipe
    base = find_base(recipe.model.name, recipe.model.revision)
    return Plan(resolved, base, prepare(recipe, tokenizer_template(base, recipe.prompt), judged))


def describe(plan: Plan) -> dict[str, Any]:
    """A plan as `doitune train --dry-run --json` gives it."""
    train, material = plan.recipe.train, plan.material
    course = Course(tuple(one.id for one in material.examples), train.seed, train.examples_per_step, train.epochs, train.max_steps)
    return {
        "schema": "doitune.dry-run/1",
        "recipe": plan.resolved.name,
        "base": plan.base.name,
        "examples": len(material.examples),
        "tokens": sum(len(one.ids) for one in material.encoded),
        "trained_tokens": sum(one.trained for one in material.encoded),
        "steps": course.total_steps,
        "ledger": material.ledger.to_json(),
    }


def start(resolved: Resolved, *, runs: Path, scorer: Scorer | None, on_event: OnEvent, judged: Judged | None = None) -> Run:
    """Train a recipe in a new run directory under `runs`; returns the finished run."""
    make_folder(runs)
    need_room(runs, 1 << 20)
    refuse_missing(resolved.recipe.train.trackers)
    plan = plan_training(resolved, judged)
    backend, model = load_model(plan.recipe, plan.base, plan.material.template.new_rows, training=True)
    run = create_run(runs, resolved.name)
    with run.lock():
        run.write("recipe.yaml", freeze(resolved))
        run.write_json("ledger.json", plan.material.ledger.to_json())
        run.write_json("origin.json", origin(plan.recipe, plan.base, plan.material, str(model.device), backend))
        training = Training(run, plan.recipe, plan.material, model, on_event)
        order = [plan.material.examples[place].id for step in range(training.course.steps_per_epoch) for place in training.course.members(step)]
        run.write("examples.txt", "".join(f"{name}\n" for name in order))
        on_event(Note(f"run {run.name}: {len(order)} examples, {training.course.total_steps} steps, {backend} on {model.device}"))
        proof = training.choose_arrangement()
        run.log({"event": "arrangement", "step": 0, "packed": training.packed, "proof": None if proof is None else asdict(proof)})
        _train(training, run, scorer)
    return run


def resume(run: Run, *, scorer: Scorer | None, on_event: OnEvent, judged: Judged | None = None) -> Run:
    """Go on where a run stopped: same recipe, data, base and versions, or CheckpointError with the differences."""
    if run.done() is not None:
        on_event(Note(f"run {run.name} is already whole"))
        return run
    with run.lock():
        plan = plan_training(resolve(str(run.recipe_path)), judged)
        backend, model = load_model(plan.recipe, plan.base, plan.material.template.new_rows, training=True)
        now = origin(plan.recipe, plan.base, plan.material, str(model.device), backend)
        refuse_drift(run.read_json("origin.json"), now, run.name)
        training = Training(run, plan.recipe, plan.material, model, on_event)
        newest = run.newest_valid(lambda text: on_event(Note(text)))
        if newest is None:
            run.cut_metrics(-1)
            on_event(Note("there is no valid checkpoint: training starts from the beginning"))
            training.choose_arrangement()
        else:
            training.restore(newest.folder)
            again = run.cut_metrics(newest.step)
            on_event(Note(f"run {run.name} goes on after step {newest.step}" + (f"; {again} logged lines are made again" if again else "")))
        _train(training, run, scorer)
    return run


def _train(training: Training, run: Run, scorer: Scorer | None) -> None:
    """The loop with trackers and signals around it; done.json is written last."""
    trackers = Trackers(training.recipe.train.trackers, run)
    shown = training.on_event

    def tell(event: Event) -> None:
        if isinstance(event, (StepLog, ValidationLog)):
            trackers.log(_numbers(event), event.step)
        shown(event)

    training.on_event = tell
    try:
        with _signals() as asked:
            training.should_stop = lambda: _stop_if(asked)
            try:
                done = training.go(scorer)
            except _StopAsked as stop:
                training.save_boundary()
                name = signal.Signals(stop.number).name
                raise Stopped(
                    stop.number, f"{name}: stopped after step {training.step}, everything is saved", f"doitune resume {run.folder}"
                ) from None
        run.write_json("done.json", done)
    finally:
        trackers.close()


def _numbers(event: StepLog | ValidationLog) -> dict[str, float]:
    """The numbers of an event for trackers, by a flat name."""
    prefix = "train" if isinstance(event, StepLog) else "validation"
    flat: dict[str, Any] = {}
    for key, value in asdict(event).items():
        pairs = [(f"{prefix}/{key}/{inner}", number) for inner, number in value.items()] if isinstance(value, dict) else [(f"{prefix}/{key}", value)]
        flat.update({name: float(number) for name, number in pairs if isinstance(number, (int, float))})
    return flat


class _StopAsked(BaseException):
    """A signal arrived; raised between two micro-batches, where weights are whole."""

    def __init__(self, number: int) -> None:
        self.number = number


def _stop_if(asked: list[int]) -> None:
    if asked:
        raise _StopAsked(asked[0])


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Inside, a stopping signal is noted in the list; a second one raises KeyboardInterrupt. Handlers are put back afterwards."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
