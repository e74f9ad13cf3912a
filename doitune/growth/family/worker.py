"""`python -m doitune.growth.family.worker GROWTH MINUTES`: a process that does pieces of a family one after
another, as whoever started it asks on stdin, and answers each on stdout.

All pieces share the base that is loaded. It ends with the process that it works for: where stdin closes, it
stops as on SIGTERM, with everything saved.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.errors import DoituneError, LockedError, Stopped
from doitune.growth.family.work import Piece, do
from doitune.growth.folder import Record, read_record
from doitune.system import faults, signals, streams

LOCKED_SECONDS = 60.0
"""How long a run that another process still saves is waited for."""


@dataclass(frozen=True)
class Answer:
    """What became of a piece; an `exit_code` of 0: it is done. `lost`: its process ended without a word."""

    piece: Piece
    exit_code: int = 0
    kind: str = ""
    problem: str = ""
    hint: str = ""
    lost: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a line holds it."""
        return {**vars(self), "piece": vars(self.piece)}

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Answer:
        """What `to_json` made."""
        return cls(**{**read, "piece": Piece(**read["piece"])})


def attempt(growth: Path, record: Record, piece: Piece, wait_minutes: float) -> Answer:
    """Do a piece; a user's error is an answer, and so is a bug. Errors: Stopped."""
    end = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            do(growth, record, piece, wait_minutes)
            return Answer(piece)
        except LockedError as error:
            if time.monotonic() > end:
                return _refused(piece, error)
            time.sleep(0.2)
        except Stopped:
            raise
        except DoituneError as error:
            return _refused(piece, error)
        except Exception as error:
            traceback.print_exc()
            where = f"a bug in doitune; its traceback is in {growth / WORKERS}"
            return Answer(
                piece, DoituneError.exit_code, "internal", f"{type(error).__name__}: {error}", where
            )


WORKERS = "workers.txt"
"""What libraries and bugs print, of all processes of a family."""


def _refused(piece: Piece, error: DoituneError) -> Answer:
    return Answer(piece, error.exit_code, error.kind, error.problem, error.hint)


def main() -> None:
    """Work until stdin ends."""
    signals.obey()
    streams.fit()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    growth, minutes = Path(sys.argv[1]), float(sys.argv[2])
    faults.arm(os.environ.get(faults.VARIABLE, ""))
    try:
        from doitune.run.model import one_base

        record = read_record(growth)
        with one_base():
            for piece in _asked():
                answers.write(json.dumps(attempt(growth, record, piece, minutes).to_json()) + "\n")
    except Stopped as stop:
        sys.exit(stop.exit_code)
    except (signals.StopAsked, KeyboardInterrupt) as stop:
        sys.exit(signals.stopped(stop, "", "").exit_code)


def _asked() -> Iterator[Piece]:
    """The pieces that are asked for; the end of stdin is a signal to this process."""
    wanted: queue.Queue[Piece] = queue.Queue()

    def listen() -> None:
        rest = b""
        while more := os.read(0, 1 << 16):  # a thread inside sys.stdin would hold it as Python ends
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                wanted.put(Piece(**json.loads(line)))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=listen, daemon=True, name="asked").start()
    while True:
        yield wanted.get()


if __name__ == "__main__":
    main()
