"""One training from the command to done.json: prepare, load, prove, train; and the same again for a run that
was stopped.

Signals are held here: the first asks the loop to stop at the last optimiser boundary, a second one leaves at
once.
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.pick import begin
from doitune.backends.tokenizer import tokenizer_template
from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.errors import DiskError, Stopped
from doitune.memory.start import allowance, refuse_before_download
from doitune.prepare.material import Material, course_of, prepare
from doitune.prepare.origin import opening, origin, refuse_drift
from doitune.prepare.schedule import Course
from doitune.recipe.resolve import Resolved, freeze
from doitune.run.changes import Change, Wishes, recipe_changes, recorded, with_changes
from doitune.run.folder import Run, create_run, refuse_lost, sweep_run
from doitune.run.folder import resolved as recipe_of
from doitune.run.full_disk import Patience
from doitune.run.layout import DONE, EXAMPLES, LEDGER, ORIGIN, RECIPE
from doitune.run.model import load_model
from doitune.system import faults
from doitune.system.disk import make_folder, need_room, prove_folder
from doitune.system.signals import Asked, StopAsked, deferred, stopped
from doitune.train.events import Event, Note, StepLog, ValidationLog
from doitune.train.gradient import Gradients
from doitune.train.loop import Scorer, Training
from doitune.train.team import PeerLost, Team, await_launcher, joined
from doitune.train.trackers import Trackers, refuse_missing

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example
    from doitune.memory.cards import Card
    from doitune.recipe.fields import Recipe

ECHO_SECONDS = 3.0
"""How long after a signal torchrun may pass the same one on."""

OnEvent = Callable[[Event], None]
Judged = Mapping[str, Sequence["Example"]]
"""Rows, by suite, that a run will be judged on beside its corpus's own; handed in, as training does not
know evaluation."""


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


def plan_training(resolved: Resolved, judged: Judged | None = None, *, loads: bool = False) -> Plan:
    """Resolve the base, choose and encode the examples, prove the template's law. `judged`, errors: see
    `prepare`.

    `loads`: the base is going to be held in this process, whose backend begins first.
    """
    recipe = resolved.recipe
    base = find_base(recipe.model.name, recipe.model.revision)
    if loads:
        begin(recipe.model.backend, base)
    return Plan(resolved, base, prepare(recipe, tokenizer_template(base, recipe.prompt), judged))


def describe(plan: Plan) -> dict[str, Any]:
    """A plan as `doitune train --dry-run --json` gives it."""
    train, material = plan.recipe.train, plan.material
    course = Course(
        tuple(one.id for one in material.examples),
        train.seed,
        train.examples_per_step,
        train.epochs,
        train.max_steps,
    )
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


def start(
    resolved: Resolved,
    *,
    runs: Path,
    scorer: Scorer | None,
    on_event: OnEvent,
    judged: Judged | None = None,
    wait_minutes: float = 0.0,
    card: Card | None = None,
) -> Run:
    """Train a recipe in a new run directory under `runs`; returns the finished run. `wait_minutes`: how long
    to wait for room on a full disk.

    `card`: one that the training has to fit as well as the one that is here. Errors: FitError before anything
    is downloaded.
    """
    refuse_before_download(resolved, card)
    make_folder(runs)
    need_room(runs, 1 << 20)
    prove_folder(runs)
    refuse_missing(resolved.recipe.train.trackers)
    with joined() as team:
        plan, backend, model = _prepare(team, resolved, judged)
        record = {
            **origin(plan.recipe, plan.base, plan.material, model, backend),
            "recipe": recorded(plan.recipe),
        }
        run = create_run(runs, resolved.name)
        with run.lock(), _told(run):
            _begin(run, plan, record)
            training = Training(run, plan.recipe, plan.material, model, on_event, team)
            _allow(training, resolved, backend)
            examples, steps = len(plan.material.examples), training.course.total_steps
            on_event(Note(f"run {run.name}: {examples} examples, {steps} steps, {backend} on {model.device}"))
            for text in opening(plan.recipe, plan.material, model):
                on_event(Note(text))
            _arrange(training, run)
            _train(training, run, scorer, wait_minutes)
    return run


def _begin(run: Run, plan: Plan, record: dict[str, Any]) -> None:
    """What a run's folder holds before its first step; recipe.yaml is last: with it the folder is a run
    that can be resumed."""
    faults.reach("start.folder")
    prove_folder(run.folder)
    course = course_of(plan.recipe, plan.material.examples)
    order = [
        plan.material.examples[place].id
        for step in range(course.steps_per_epoch)
        for place in course.members(step)
    ]
    run.write_json(LEDGER, plan.material.ledger.to_json())
    run.write(EXAMPLES, "".join(f"{name}\n" for name in order))
    run.write_json(ORIGIN, record)
    faults.reach("start.origin")
    run.write(RECIPE, freeze(plan.resolved))
    faults.reach("start.recipe")


def _allow(training: Training, resolved: Resolved, backend: str) -> None:
    """Give a run on a card the micro-batches that its memory plan allows."""
    found = allowance(resolved, backend) if training.model.device.type == "cuda" else None
    if found is not None:
        training.budget_tokens, training.planned_gib = found.tokens, found.planned_gib


def _arrange(training: Training, run: Run) -> None:
    """Choose how micro-batches are made, and log the proof."""
    proof = training.choose_arrangement()
    run.log.add(
        {
            "event": "arrangement",
            "step": 0,
            "packed": training.packed,
            "proof": None if proof is None else asdict(proof),
        }
    )


def resume(
    run: Run,
    *,
    scorer: Scorer | None,
    on_event: OnEvent,
    judged: Judged | None = None,
    wishes: Wishes | None = None,
) -> Run:
    """Go on where a run stopped: same recipe, data, base and versions, or CheckpointError with the
    differences.

    A finished run is returned as it is, unless `wishes` change its recipe.
    """
    wishes = wishes or Wishes()
    allow = wishes.keys  # refused before anything is read
    if run.done() is not None and not wishes.sets:
        on_event(Note(f"run {run.name} is already whole"))
        return run
    with joined() as team, run.lock(), _told(run):
        faults.reach("resume.begin")
        prove_folder(run.folder)
        sweep_run(run)
        resolved = recipe_of(run, wishes.sets)
        before = run.read_json(ORIGIN)
        changes = recipe_changes(before.get("recipe"), resolved.recipe, allow, run.name)
        plan, backend, model = _prepare(team, resolved, judged)
        now = origin(plan.recipe, plan.base, plan.material, model, backend)
        refuse_drift(before, now, run.name, allow=allow)
        if before.get("device") != now["device"]:
            changes = (*changes, Change("device", before.get("device"), now["device"]))
        training = Training(run, plan.recipe, plan.material, model, on_event, team)
        _allow(training, resolved, backend)
        _stand(training, run, wishes)
        if changes:
            _record(run, plan, {**before, "device": now["device"]}, changes, training)
        _train(training, run, scorer, wishes.wait_minutes)
    return run


def _stand(training: Training, run: Run, wishes: Wishes) -> None:
    """Stand at the newest valid checkpoint, the log cut back to it; at the beginning where the run never
    had one, or that is wished."""
    newest = run.checkpoints.newest_valid(lambda text: training.on_event(Note(text)))
    if newest is not None:
        training.restore(newest.folder)
    elif not wishes.from_scratch:
        refuse_lost(run)
    faults.reach("resume.restored")
    if unread := run.log.set_unread_aside():
        training.on_event(
            Note(
                f"{run.log.path} has {unread} lines that no run writes: they now lie in {run.log.superseded_path.name}"
            )
        )
    again = run.log.cut(newest.step if newest else -1, training.validations)
    faults.reach("resume.cut")
    where = (
        f"run {run.name} goes on after step {newest.step}"
        if newest
        else "there is no checkpoint: training starts from the beginning"
    )
    training.on_event(
        Note(where + (f"; {again} step{'s are' if again > 1 else ' is'} trained again" if again else ""))
    )
    if newest is None:
        _arrange(training, run)


def _record(
    run: Run, plan: Plan, before: dict[str, Any], changes: Sequence[Change], training: Training
) -> None:
    """Write down what this resume changes; a run that was whole is open again."""
    run.write_json(ORIGIN, with_changes(before, plan.recipe, changes, training.step))
    run.write(RECIPE, freeze(plan.resolved))
    (run.folder / DONE).unlink(missing_ok=True)
    text = ", ".join(f"{one.key} is {one.now} (was {one.was})" for one in changes)
    training.on_event(Note(f"allowed and written down in origin.json: {text}"))


def follow(resolved: Resolved, judged: Judged | None = None) -> None:
    """This process's part of a training that another one leads: the gradients that it asks for. It writes
    nothing and says nothing."""
    with joined() as team:
        plan, _, model = _prepare(team, resolved, judged)
        gradients = Gradients(plan.recipe, plan.material, model, team)
        with deferred(_echo(team)) as asked:
            gradients.asked_to_stop = lambda: asked.first
            try:
                gradients.follow()
            except StopAsked as stop:
                raise Stopped(stop.number, "stopped with the process that leads") from None
            except PeerLost as lost:
                raise Stopped(asked.first or signal.SIGTERM, str(lost)) from lost


def follow_run(run: Run, wishes: Wishes = Wishes()) -> None:  # noqa: B008  # frozen
    """`follow`, where a run is resumed; nothing is left to do for one that is whole."""
    if run.done() is None or wishes.sets:
        follow(recipe_of(run, wishes.sets))


def _prepare(team: Team, resolved: Resolved, judged: Judged | None) -> tuple[Plan, str, LoadedModel]:
    """What every process of a training makes ready for itself: the plan, the backend's name and the model."""
    with team.preparing():
        plan = plan_training(resolved, judged, loads=True)
        backend, model = load_model(plan.recipe, plan.base, plan.material.template.new_rows, training=True)
    if team.size > 1:
        team.prove_same(
            "examples",
            sha256(repr([(one.ids, one.labels) for one in plan.material.encoded]).encode()).hexdigest(),
        )
    return plan, backend, model


def _train(training: Training, run: Run, scorer: Scorer | None, wait_minutes: float) -> None:
    """The loop with trackers and signals around it; done.json is written last."""
    team = training.gradients.team
    trackers = Trackers(training.recipe.train.trackers, run)
    shown = training.on_event

    def tell(event: Event) -> None:
        if isinstance(event, (StepLog, ValidationLog)):
            trackers.log(_numbers(event), event.step)
        shown(event)

    training.on_event = tell
    try:
        with deferred(_echo(team)) as asked:
            run.patience = Patience(wait_minutes, report=lambda text: tell(Note(text)), check=asked.check)
            training.gradients.asked_to_stop = lambda: asked.first
            training.interruptible = asked.at_once
            try:
                run.log.add({"event": "processes", "step": training.step, "processes": team.size})
                training.try_out(scorer)
                done = training.go(scorer)
            except StopAsked as stop:
                raise _stopped(training, asked, stop.number, signal.Signals(stop.number).name) from None
            except PeerLost as lost:
                left = _stopped(training, asked, asked.first or signal.SIGTERM, str(lost))
                await_launcher(lambda: bool(asked.first))
                raise left from lost
        run.write_json(DONE, done)
        faults.reach("done")
    finally:
        trackers.close()


def _echo(team: Team) -> float:
    """For how long the signal that came first may come again without meaning more."""
    return ECHO_SECONDS if team.size > 1 else 0.0


def _stopped(training: Training, asked: Asked, number: int, why: str) -> Stopped:
    """The last boundary is saved, unless there was a second signal or the disk is full; the error that
    says so."""
    run, step = training.run, training.step
    run.patience = Patience()
    try:
        if asked.in_haste:
            raise StopAsked(number)
        training.save_boundary()
        what = f"stopped after step {step}, everything is saved"
    except StopAsked as again:
        number, what = (
            again.number,
            f"left at once in step {step + 1}; what the last checkpoint holds is kept",
        )
    except DiskError as full:
        what = f"stopped after step {step}, which could not be saved ({full.problem}); what the last checkpoint holds is kept"
    return Stopped(number, f"{why}: {what}", _command(run))


def _command(run: Run) -> str:
    return f"doitune resume {shlex.quote(str(run.folder))}"


@contextmanager
def _told(run: Run) -> Iterator[None]:
    """A signal outside the loop, where nothing is under way that a resume would not make again."""
    try:
        yield
    except (StopAsked, KeyboardInterrupt) as stop:
        hint = (
            _command(run)
            if (run.folder / RECIPE).is_file()
            else "run the same command again: nothing was begun"
        )
        raise stopped(stop, "stopped; what is finished is kept", hint) from None


def _numbers(event: StepLog | ValidationLog) -> dict[str, float]:
    """The numbers of an event for trackers, by a flat name."""
    prefix = "train" if isinstance(event, StepLog) else "validation"
    flat: dict[str, Any] = {}
    for key, value in asdict(event).items():
        pairs = (
            [(f"{prefix}/{key}/{inner}", number) for inner, number in value.items()]
            if isinstance(value, dict)
            else [(f"{prefix}/{key}", value)]
        )
        flat.update({name: float(number) for name, number in pairs if isinstance(number, (int, float))})
    return flat
