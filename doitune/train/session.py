"""One training from the command to done.json: prepare, load, prove, train; and the same again for a run that
was stopped.

Signals are kept here: the first asks the loop to stop at the last optimiser boundary, a second one leaves at
once.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.errors import Stopped
from doitune.memory.cards import Card
from doitune.memory.limit import Limit, limit_process
from doitune.memory.start import allowance, refuse_before_download
from doitune.prepare.origin import opening, origin, refuse_drift
from doitune.prompt.encoded_rows import rows_of
from doitune.prompt.moment import now
from doitune.recipe.resolve import Resolved, freeze
from doitune.run.changes import Change, Wishes, recipe_changes, recorded, with_changes
from doitune.run.encoder import moment_of, refuse_lost_moment
from doitune.run.folder import Run, create_run, named_run, refuse_lost, sweep_run
from doitune.run.folder import resolved as recipe_of
from doitune.run.full_disk import Patience
from doitune.run.layout import DONE, EXAMPLES, KEPT_OUT, LEDGER, ORIGIN, RECIPE, SUPERSEDED
from doitune.run.log import VALIDATION
from doitune.run.model import load_model
from doitune.system import faults
from doitune.system.arrays import each
from doitune.system.disk import make_folder, need_room, prove_folder
from doitune.system.signals import Asked, StopAsked, deferred
from doitune.system.spent import counting_time, spent_on
from doitune.system.units import MIB, several
from doitune.train.arrangement import choose_arrangement
from doitune.train.events import Note
from doitune.train.gradient import Gradients
from doitune.train.joining import joined, preparing, prove_same
from doitune.train.loop import Training, follow_leader
from doitune.train.plan import Judged, Plan, plan_training
from doitune.train.retention import restore
from doitune.train.setup import OnEvent, Scorer, Setup
from doitune.train.stopping import echo_seconds, saved_and_stopped, stoppable
from doitune.train.team import PeerLost, Team, await_launcher
from doitune.train.trackers import refuse_missing, tracked
from doitune.train.trial import try_out

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel


def start(
    resolved: Resolved,
    *,
    runs: Path,
    scorer: Scorer | None,
    on_event: OnEvent,
    judged: Judged | None = None,
    wait_minutes: float = 0.0,
    card: Card | None = None,
    called: str = "",
) -> Run:
    """Train a recipe in a new run directory under `runs`; returns the finished run. `wait_minutes`: how long
    to wait for room on a full disk. `called`: the directory's name; else the time is.

    `card`: one that the training has to fit as well as the one that is here, which is limited to it where it
    is larger. Errors: FitError before anything is downloaded.
    """
    refuse_before_download(resolved, card)
    make_folder(runs)
    need_room(runs, MIB)
    prove_folder(runs)
    refuse_missing(resolved.recipe.train.trackers)
    with counting_time(), joined() as team:
        loaded = _load(team, resolved, judged, now(), card)
        plan, record = loaded.plan, {**loaded.origin(), "recipe": recorded(loaded.plan.recipe)}
        run = named_run(runs, resolved.name, called) if called else create_run(runs, resolved.name)
        with run.lock(), stoppable(run):
            sweep_run(run)
            setup = _setup(loaded, run, scorer, on_event, wait_minutes)
            _begin(setup.run, plan, record)
            with tracked(setup) as setup:
                training = Training(setup)
                setup.note(
                    f"run {run.name}: {several(len(plan.material.examples), 'example')}, "
                    f"{several(training.at.total_steps, 'step')}, {loaded.backend} on {loaded.model.device}"
                )
                opened = (*opening(plan.recipe, plan.material, loaded.model), training.retention.habit)
                for text in (*loaded.limits, *opened):
                    setup.note(text)
                choose_arrangement(training)
                _train(training)
    return run


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
    with counting_time(), joined() as team, run.lock(), stoppable(run):
        faults.reach("resume.begin")
        prove_folder(run.folder)
        sweep_run(run)
        resolved = recipe_of(run, wishes.sets)
        before = run.read_json(ORIGIN)
        changes = recipe_changes(before.get("recipe"), resolved.recipe, allow, run.name)
        loaded = _load(team, resolved, judged, moment_of(run), limited_to(before))
        refuse_lost_moment(run, loaded.plan.material.template)
        here = loaded.origin()
        refuse_drift(before, here, run.name, allow=allow)
        if before.get("device") != here["device"]:
            changes = (*changes, Change("device", before.get("device"), here["device"]))
        with tracked(_setup(loaded, run, scorer, on_event, wishes.wait_minutes)) as setup:
            for text in loaded.limits:
                setup.note(text)
            training = Training(setup)
            _stand(training, wishes)
            if changes:
                _record(training, loaded.plan, {**before, "device": here["device"]}, changes)
            _train(training)
    return run


def limited_to(origin: Mapping[str, Any]) -> Card | None:
    """The card that a run was limited to as it began, by its origin.json; None: it was not."""
    limit = origin.get("card_limit")
    return Card(float(limit["card_gib"])) if limit else None


def follow(resolved: Resolved, judged: Judged | None = None, card: Card | None = None) -> None:
    """This process's part of a training that another one leads: the gradients that it asks for. It writes
    nothing and says nothing."""
    with joined() as team:
        loaded = _load(team, resolved, judged, now(), card)
        signals = Asked(echo_seconds(team))
        gradients = Gradients(loaded.plan.material, loaded.model, team, signals)
        with deferred(signals):
            try:
                follow_leader(gradients)
            except StopAsked as stop:
                raise Stopped(stop.number, "stopped with the process that leads") from None
            except PeerLost as lost:
                raise Stopped(signals.first or signal.SIGTERM, str(lost)) from lost


def follow_run(run: Run, wishes: Wishes = Wishes()) -> None:  # noqa: B008  # frozen
    """`follow`, where a run is resumed; nothing is left to do for one that is whole."""
    if run.done() is None or wishes.sets:
        follow(recipe_of(run, wishes.sets), card=limited_to(run.read_json(ORIGIN)))


@dataclass(frozen=True)
class _Loaded:
    """What every process of a training makes ready for itself; `backend` is its name."""

    plan: Plan
    backend: str
    model: LoadedModel
    team: Team
    limit: Limit | None

    @property
    def limits(self) -> list[str]:
        """What is to be said of a card that was named."""
        return [self.limit.text] if self.limit else []

    def origin(self) -> dict[str, Any]:
        """What origin.json says of it; the model is as it was loaded."""
        plan = self.plan
        found = origin(plan.recipe, plan.base, plan.material, self.model, self.backend)
        return {**found, **(self.limit.to_json() if self.limit else {})}


def _load(team: Team, resolved: Resolved, judged: Judged | None, moment: str, card: Card | None) -> _Loaded:
    """`moment`: what the base's chat template takes for now; the leader's counts. `card`: what this process's
    card is limited to."""
    moment = team.gather(moment)[0]
    with preparing(team):
        with spent_on("reading the rows"):
            plan = plan_training(resolved, judged, loads=True, moment=moment)
        limit, rows = None if card is None else limit_process(card), plan.material.template.new_rows
        with spent_on("loading the base"):
            backend, model = load_model(plan.recipe, plan.base, rows, training=True)
    if team.size > 1:
        prove_same(team, "examples", rows_of(plan.material.encoded).digest())
    return _Loaded(plan, backend, model, team, limit)


def _setup(loaded: _Loaded, run: Run, scorer: Scorer | None, on_event: OnEvent, wait_minutes: float) -> Setup:
    """All that the training of this run is given; its writers wait for room on a full disk."""
    signals = Asked(echo_seconds(loaded.team))
    patience = Patience(wait_minutes, report=lambda text: on_event(Note(text)), check=signals.check)
    on_card = loaded.model.device.type == "cuda"
    most_gib = loaded.limit.card_gib if loaded.limit else None
    return Setup(
        run=Run(run.folder, patience),
        recipe=loaded.plan.recipe,
        material=loaded.plan.material,
        model=loaded.model,
        scorer=scorer,
        report=on_event,
        team=loaded.team,
        signals=signals,
        allowance=allowance(loaded.plan.resolved, loaded.backend, most_gib) if on_card else None,
    )


def _begin(run: Run, plan: Plan, record: dict[str, Any]) -> None:
    """What is in a run's folder before its first step; recipe.yaml is last: with it the folder is a run
    that can be resumed."""
    faults.reach("start.folder")
    prove_folder(run.folder)
    course = plan.material.course
    order = b"".join(name + b"\n" for name in each(course.ids[course.order(0)]))
    run.write_json(LEDGER, plan.material.ledger.to_json())
    run.write(EXAMPLES, order.decode())
    if plan.material.kept_out:
        run.write_json(KEPT_OUT, {"schema": "doitune.kept-out/1", **plan.material.kept_out})
    run.write_json(ORIGIN, record)
    faults.reach("start.origin")
    run.write(RECIPE, freeze(plan.resolved))
    faults.reach("start.recipe")


def _stand(training: Training, wishes: Wishes) -> None:
    """Stand at the newest valid checkpoint, the log cut back to it; at the beginning where the run never
    had one, or that is wished."""
    setup, run = training.setup, training.setup.run
    newest = run.checkpoints.newest_valid(setup.note)
    if newest is not None:
        training.at = restore(setup, training.weights, newest)
    elif not wishes.from_scratch:
        refuse_lost(run)
    faults.reach("resume.restored")
    if unread := run.log.set_unread_aside():
        setup.note(f"{run.log.path} has {unread} lines that no run writes: they now lie in {SUPERSEDED}")
    again = run.log.cut(newest.step if newest else -1, training.at.validations)
    training.at = replace(training.at, validations=tuple(run.log.lines(VALIDATION)))
    faults.reach("resume.cut")
    where = (
        f"run {run.name} goes on after step {newest.step}"
        if newest
        else "there is no checkpoint: training starts from the beginning"
    )
    twice = f"; {again} step{'s are' if again > 1 else ' is'} trained again" if again else ""
    setup.note(f"{where}{twice}")
    if newest is None:
        choose_arrangement(training)


def _record(training: Training, plan: Plan, before: dict[str, Any], changes: Sequence[Change]) -> None:
    """Write down what this resume changes; a run that was whole is open again."""
    run = training.setup.run
    run.write_json(ORIGIN, with_changes(before, plan.recipe, changes, training.at.step))
    run.write(RECIPE, freeze(plan.resolved))
    (run.folder / DONE).unlink(missing_ok=True)
    text = ", ".join(f"{one.key} is {one.now} (was {one.was})" for one in changes)
    training.setup.note(f"allowed and written down in {ORIGIN}: {text}")


def _train(training: Training) -> None:
    """The loop with signals around it; done.json is written last."""
    run, signals = training.setup.run, training.setup.signals
    with deferred(signals):
        try:
            processes = training.setup.team.size
            run.log.add({"event": "processes", "step": training.at.step, "processes": processes})
            try_out(training)
            done = training.go()
            run.log.add(
                {"event": "parts", "step": training.at.step, "seconds_by_part": done["seconds_by_part"]}
            )
        except StopAsked as stop:
            raise saved_and_stopped(training, stop.number, signal.Signals(stop.number).name) from None
        except PeerLost as lost:
            left = saved_and_stopped(training, signals.first or signal.SIGTERM, str(lost))
            await_launcher(lambda: bool(signals.first))
            raise left from lost
    run.write_json(DONE, done)
    faults.reach("done")
