"""What leads a family: places, processes that are lost, pieces that fail, signals; no model is loaded."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import small_growth as small

from doitune.errors import Stopped
from doitune.growth.family import local, run
from doitune.growth.family.run import TRIES, Standing, failure, work
from doitune.growth.family.work import Piece
from doitune.growth.family.worker import Answer
from doitune.growth.folder import Record
from doitune.growth.measured import Member
from doitune.recipe.resolve import freeze, resolve
from doitune.system.cards import InstalledCard

NAMES = ("demo-a-s0", "demo-b-s0", "demo-c-s0")


class Fake:
    """An engine whose answers are given by a function of the piece and its try."""

    def __init__(self, answer: Callable[[Piece, int], Answer], room: int = 2) -> None:
        self.answer, self.room = answer, room
        self.begun: list[Piece] = []
        self.under_way: list[Piece] = []
        self.stopped: list[int] = []
        self.closed = False

    def begin(self, piece: Piece) -> None:
        self.begun.append(piece)
        self.under_way.append(piece)
        assert len(self.under_way) <= self.room

    def answers(self, seconds: float) -> list[Answer]:
        if not self.under_way:
            return []
        piece = self.under_way.pop(0)
        return [self.answer(piece, self.begun.count(piece))]

    def stop(self, number: int) -> None:
        self.stopped.append(number)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def record(tmp_path: Path) -> Record:
    text = freeze(resolve("demo", overrides=["train.max_steps=3"]))
    members = tuple(Member(name, "equal", "demo", "curated", 0, {"math": 4}) for name in NAMES)
    return Record(
        "f", ("math",), {}, {"math": 9}, small.SUITES, members, dict.fromkeys(NAMES, text), {"demo": text}
    )


def test_every_piece_is_done_once_and_counted(record: Record, tmp_path: Path) -> None:
    seen: list[Standing] = []
    engine = Fake(lambda piece, tries: Answer(piece))
    assert work(tmp_path, record, engine, seen.append, "again") == []
    assert [one.name for one in engine.begun] == ["demo", *NAMES] and engine.closed
    assert [one.done for one in seen] == [1, 2, 3, 4] and {one.total for one in seen} == {4}
    assert seen[0].seconds_left is not None and not seen[-1].running


def test_a_lost_process_is_begun_again_and_a_mistake_is_not(record: Record, tmp_path: Path) -> None:
    """Trap: a run that diverges is trained for ever."""

    def answer(piece: Piece, tries: int) -> Answer:
        if piece.name == NAMES[0] and tries < TRIES:
            return Answer(piece, 70, "lost", "killed", lost=True)
        if piece.name == NAMES[1]:
            return Answer(piece, 70, "diverged", "the loss is not finite", "a lower rate")
        if piece.name == NAMES[2]:
            return Answer(piece, 71, "lost", "killed", lost=True)
        return Answer(piece)

    engine = Fake(answer)
    failed = work(tmp_path, record, engine, lambda standing: None, "again")
    assert [engine.begun.count(Piece(name)) for name in NAMES] == [TRIES, 1, TRIES]
    assert {one.piece.name for one in failed} == set(NAMES[1:])
    error = failure(failed, "again")
    assert (
        error.exit_code == failed[0].exit_code and "not finite" in error.problem and len(error.problems) == 2
    )


def test_a_signal_is_passed_on_and_says_how_to_go_on(record: Record, tmp_path: Path) -> None:
    def answer(piece: Piece, tries: int) -> Answer:
        if piece.name == NAMES[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return Answer(piece)

    engine = Fake(answer)
    with pytest.raises(Stopped, match=r"3 of 4") as stop:
        work(tmp_path, record, engine, lambda standing: None, "doitune grow x")
    assert (stop.value.exit_code, stop.value.hint) == (143, "doitune grow x")
    assert engine.stopped == [signal.SIGTERM] and engine.closed and not engine.under_way
    assert Piece(NAMES[2]) not in engine.begun, "nothing is begun after the signal"


def test_places_are_cards_else_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "installed_cards", lambda: (InstalledCard("a", 1, 1, "d"),) * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv(local.THREADS, raising=False)
    four = local.places(None)
    assert (four.at_once, four.cards) == (4, ("0", "1", "2", "3"))
    shared = local.places(6)
    assert [shared.environment(number)["CUDA_VISIBLE_DEVICES"] for number in (0, 3, 4)] == ["0", "3", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-7f")
    assert local.places(None).cards == ("2", "GPU-7f")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    none = local.places(None)
    assert (none.at_once, none.cards, none.threads) == (8, (), 1)
    assert local.places(2).threads == 4 and local.places(2, threads=1).threads == 1
    assert (
        "CUDA_VISIBLE_DEVICES" not in none.environment(0) or not none.environment(0)["CUDA_VISIBLE_DEVICES"]
    )
    monkeypatch.setenv(local.THREADS, "3")
    assert local.places(2).threads == 3, "what the user says of threads holds"


def test_a_look_is_short() -> None:
    assert run.LOOK_SECONDS <= 1, "a signal is heard within a moment"
