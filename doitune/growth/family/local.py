"""The processes of this machine that do a family's pieces: one a card, or some of its cores."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from doitune.errors import DoituneError
from doitune.growth.family.work import Piece
from doitune.growth.family.worker import WORKERS, Answer
from doitune.system.cards import installed_cards

GRACE_SECONDS = 600.0
"""How long a process that was asked to stop may take to save what it has."""

THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Places:
    """Where pieces are done at the same time. `cards`: their numbers for CUDA, a process on each in turn;
    none: on the cores, `threads` each."""

    at_once: int
    cards: tuple[str, ...]
    threads: int

    def environment(self, number: int) -> dict[str, str]:
        """Of the process at a place."""
        found = {**os.environ, THREADS: str(self.threads), "PYTHONUNBUFFERED": "1"}
        if self.cards:
            found["CUDA_VISIBLE_DEVICES"] = self.cards[number % len(self.cards)]
        return found


def places(at_once: int | None, threads: int | None = None) -> Places:
    """What this machine offers; `at_once`, `threads`: where they were said before."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    cards = tuple(str(number) for number in range(len(installed_cards())))
    if named is not None:
        cards = tuple(one.strip() for one in named.split(",") if one.strip())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    several = at_once or len(cards) or cores
    said = os.environ.get(THREADS, "")
    own = threads or (int(said) if said.isdecimal() and int(said) else max(1, cores // several))
    return Places(several, cards, own)


class Local:
    """The processes, each with at most one piece at a time."""

    def __init__(self, growth: Path, where: Places, wait_minutes: float) -> None:
        self.growth, self.where, self.wait_minutes = growth, where, wait_minutes
        self.workers: dict[int, _Worker] = {}
        self.room = where.at_once

    def begin(self, piece: Piece) -> None:
        """Have a piece done at a free place; there is one."""
        for number in range(self.room):
            worker = self.workers.get(number)
            if worker is None or not worker.lives:
                worker = self.workers[number] = _Worker(self, number)
            if worker.piece is None:
                worker.ask(piece)
                return
        raise DoituneError("a family has more pieces than places")

    def answers(self, seconds: float) -> list[Answer]:
        """What has been answered by now, waiting at most so long for one."""
        busy = [one for one in self.workers.values() if one.piece is not None]
        if not busy:
            time.sleep(seconds)
            return []
        with selectors.DefaultSelector() as ready:
            for one in busy:
                ready.register(one.process.stdout, selectors.EVENT_READ, one)  # type: ignore[arg-type]
            return [key.data.answer() for key, _ in ready.select(seconds)]

    def stop(self, number: int) -> None:
        """Ask every process to stop, as the signal does; a second time, in haste."""
        for one in self.workers.values():
            if one.lives:
                one.process.send_signal(number)

    def close(self) -> None:
        """Every process ends: those that work save first."""
        for one in self.workers.values():
            if one.piece is None:
                one.process.kill()  # nothing is to be saved, and libraries take seconds to end
            with suppress(OSError):
                one.process.stdin.close()  # type: ignore[union-attr]
        for one in self.workers.values():
            try:
                one.process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
            one.process.stdout.close()  # type: ignore[union-attr]


class _Worker:
    """One process at a place."""

    def __init__(self, local: Local, number: int) -> None:
        self.piece: Piece | None = None
        command = [sys.executable, "-m", "doitune.growth.family.worker"]
        with (local.growth / WORKERS).open("ab") as said:
            self.process = subprocess.Popen(
                [*command, str(local.growth.absolute()), str(local.wait_minutes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=local.where.environment(number),
                start_new_session=True,  # a terminal's Ctrl-C reaches it once, through the family
            )

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def ask(self, piece: Piece) -> None:
        """Have a piece done."""
        self.piece = piece
        line = json.dumps(vars(piece)) + "\n"
        with suppress(OSError):  # a process that is dead says so by the end of its answers
            self.process.stdin.write(line.encode())  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]

    def answer(self) -> Answer:
        """Its next answer; where it died, that."""
        piece, self.piece = self.piece, None
        assert piece is not None
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if line.endswith(b"\n"):
            return Answer.from_json(json.loads(line))
        code = self.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Answer(
            piece,
            DoituneError.exit_code if code < 0 else code,
            "lost",
            f"the process that worked on {piece.title} ended with {how}",
            "a process that is killed without a word was often out of memory: try a smaller --at-once",
            lost=True,
        )


def describe(where: Places) -> str:
    """The places in words."""
    if where.cards:
        return f"{where.at_once} at once on {_some(where.cards)}"
    return f"{where.at_once} at once on the CPU, {where.threads} thread{'s' * (where.threads > 1)} each"


def _some(cards: Sequence[str]) -> str:
    return f"card {cards[0]}" if len(cards) == 1 else f"{len(cards)} cards"
