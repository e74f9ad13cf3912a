"""A family from its plan to its last measured member: what is done is skipped, what stopped is taken up
again, and every end before the last leaves a directory that the same command goes on with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from doitune.errors import DoituneError, Problem, Stopped, UsageError
from doitune.growth.family.expand import changes, recipe_of
from doitune.growth.family.work import Piece, is_done, pieces_of
from doitune.growth.family.worker import Answer
from doitune.growth.folder import GROWTH, GROWTH_LOCK, PLAN, SAID, Record, is_growth, read_record
from doitune.prepare.schedule import total_steps
from doitune.run.layout import DONE, METRICS
from doitune.run.log import STEP
from doitune.system.disk import make_folder, prove_folder, write_json, write_whole
from doitune.system.doing import counted
from doitune.system.json_records import object_of
from doitune.system.lock import hold
from doitune.system.signals import Asked, StopAsked, deferred

LOOK_SECONDS = 0.5
TRIES = 3
"""How often a piece whose process died is begun, all in all."""

ASKED_AS_ROWS = 300.0
"""What an ability's questions of one suite cost, in rows that are trained: for the time that is left."""


class Engine(Protocol):
    """Where pieces are done: at most `room` at the same time."""

    room: int

    def begin(self, piece: Piece) -> None:
        """Have a piece done."""

    def answers(self, seconds: float) -> list[Answer]:
        """What has been answered, waiting at most so long."""

    def stop(self, number: int) -> None:
        """Pass a signal on."""

    def close(self) -> None:
        """Nothing goes on afterwards."""


@dataclass(frozen=True)
class Running:
    """A piece under way: the step it is at, where it trains, and what it said last."""

    title: str
    said: str
    step: int
    total_steps: int


@dataclass(frozen=True)
class Standing:
    """How far a family is. `ended`: the pieces that have just ended, with what went wrong, if anything."""

    done: int
    total: int
    running: tuple[Running, ...]
    seconds_left: float | None
    ended: tuple[Answer, ...] = ()


OnStanding = Callable[[Standing], None]


@dataclass(frozen=True)
class _Cost:
    """Optimiser steps of a piece, and all of its work in rows that are trained."""

    steps: int
    units: float


@dataclass
class _Account:
    """What is still to be done, what is under way, what failed, and how long pieces take."""

    growth: Path
    costs: Mapping[Piece, _Cost]
    todo: list[Piece]
    done: int
    total: int
    begun: dict[Piece, float] = field(default_factory=dict)
    tries: dict[Piece, int] = field(default_factory=dict)
    failed: list[Answer] = field(default_factory=list)
    worked_units: float = 0.0
    worked_seconds: float = 0.0


def begin(growth: Path, record: Record, plan_text: str) -> Record:
    """Write down what is to be done, or what is added to it, under the family's lock; the record to work by.

    Errors: UsageError with the differences, where a family of another plan lies there.
    """
    if is_growth(growth):
        before = read_record(growth)
        record = replace(record, threads=before.threads)
        found = changes(before, record)
        if found:
            shown = [Problem("", one) for one in found[:8]]
            more = f"and {len(found) - 8} more differences; " if len(found) > 8 else ""
            cure = f"{more}give it another place with --name NAME, or bring the plan back to what it was"
            first = Problem("", f"{growth} holds the runs of another plan: {found[0]}", cure)
            raise UsageError.of([first, *shown[1:]])
        if record == before:
            return before
    write_whole(growth / PLAN, plan_text)
    write_json(growth / GROWTH, record.to_json())
    return record


@contextmanager
def held(growth: Path) -> Iterator[None]:
    """Inside, this process alone works on the family. Errors: LockedError, DiskError."""
    make_folder(growth)
    prove_folder(growth)
    with hold(growth / GROWTH_LOCK, f"growth {growth.name}"):
        yield


def work(growth: Path, record: Record, engine: Engine, on_standing: OnStanding, goes_on: str) -> list[Answer]:
    """Have all that is left done; the pieces that failed. `goes_on`: the command that takes the family up
    again.

    Errors: Stopped by a signal, once all that was under way is saved.
    """
    pieces = pieces_of(record)
    left = [one for one in pieces if not is_done(growth, record, one)]
    account = _Account(growth, _costs(record), left, len(pieces) - len(left), len(pieces))
    signals = Asked()
    try:
        with deferred(signals):
            try:
                while account.todo or account.begun:
                    _turn(account, engine, on_standing, signals)
            except StopAsked as stop:
                _wind_up(account, engine, signals)
                problem = f"{account.done} of {account.total} runs are done, what was under way is saved"
                raise Stopped(stop.number, problem, goes_on) from None
    finally:
        engine.close()
    return account.failed


def _turn(account: _Account, engine: Engine, on_standing: OnStanding, signals: Asked) -> None:
    """Fill the free places, and take what is answered."""
    signals.check()
    while account.todo and len(account.begun) < engine.room:
        piece = account.todo.pop(0)
        account.begun[piece] = time.monotonic()
        account.tries[piece] = account.tries.get(piece, 0) + 1
        engine.begin(piece)
    ended = [one for one in (_taken(account, answer) for answer in engine.answers(LOOK_SECONDS)) if one]
    on_standing(_standing(account, engine, ended))


def _taken(account: _Account, answer: Answer) -> Answer | None:
    """Book an answer; None for a piece that is begun once more."""
    seconds = time.monotonic() - account.begun.pop(answer.piece)
    if answer.lost and account.tries[answer.piece] < TRIES:
        account.todo.insert(0, answer.piece)
        return None
    if answer.exit_code:
        account.failed.append(answer)
    else:
        account.done += 1
        account.worked_seconds += seconds
        account.worked_units += account.costs[answer.piece].units
    return answer


def _wind_up(account: _Account, engine: Engine, signals: Asked) -> None:
    """Pass the signal on, a second one too, until nothing is under way."""
    passed = 0
    while account.begun:
        for number in signals.numbers[passed:]:
            engine.stop(number)
            passed += 1
        for answer in engine.answers(LOOK_SECONDS):
            account.begun.pop(answer.piece)
            account.done += not answer.exit_code


def _standing(account: _Account, engine: Engine, ended: Sequence[Answer]) -> Standing:
    running = tuple(_running(account, one) for one in account.begun)
    left = None
    if account.worked_units:
        pace = account.worked_seconds / account.worked_units
        waiting = sum(account.costs[one].units for one in account.todo) * pace
        now = time.monotonic()
        under_way = (
            max(0.0, account.costs[one].units * pace - (now - since)) for one, since in account.begun.items()
        )
        left = (waiting + sum(under_way)) / max(1, min(engine.room, len(account.todo) + len(account.begun)))
    return Standing(account.done, account.total, running, left, tuple(ended))


def _running(account: _Account, piece: Piece) -> Running:
    """What a piece's folder says of it."""
    folder = piece.folder(account.growth)
    said = _end_of(folder / SAID)
    steps = [] if (folder / DONE).is_file() else _end_of(folder / METRICS)
    step = next((int(found["step"]) for line in reversed(steps) if (found := _step(line))), 0)
    return Running(piece.title, said[-1].partition(" ")[2] if said else "", step, account.costs[piece].steps)


def _end_of(path: Path) -> list[str]:
    """The last lines of a file that is being written; none where there is no file."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 8192))
            return stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _step(line: str) -> dict[str, Any] | None:
    found = object_of(line.encode("utf-8"))
    return found if found and found.get("event") == STEP and isinstance(found.get("step"), int) else None


def _costs(record: Record) -> dict[Piece, _Cost]:
    """About what each piece costs."""
    asked = ASKED_AS_ROWS * len(record.abilities) * len(record.suites)
    found = {piece: _Cost(0, asked) for piece in pieces_of(record)}
    for member in counted("working out the runs", record.members):
        train = recipe_of(record.recipes[member.name], member.name).recipe.train
        steps = total_steps(train, sum(member.rows.values()) + member.synthetic)
        found[Piece(member.name)] = _Cost(steps, asked + steps * train.examples_per_step)
    return found


def failure(failed: Sequence[Answer], goes_on: str) -> DoituneError:
    """What a family ends with whose pieces failed: the first one's exit code, and each one's own words."""
    error = DoituneError.of(
        Problem(one.piece.title, one.problem, one.hint or f"then go on: {goes_on}") for one in failed
    )
    error.kind, error.exit_code = failed[0].kind, failed[0].exit_code
    return error
