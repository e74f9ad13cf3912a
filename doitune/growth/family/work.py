"""One piece of a family's work in this process: a member trained to its end and asked, or an untrained base
asked. Whatever was begun goes on, and what is done is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.data.suites import BENCHMARKS
from doitune.errors import CheckpointError
from doitune.growth.family.expand import recipe_of
from doitune.growth.folder import SAID, Record, base_folder, best_step, lacking, run_of
from doitune.run.layout import BASE, RECIPE, step_name
from doitune.system.disk import make_folder
from doitune.system.doing import Doing, heard_by
from doitune.system.units import several

if TYPE_CHECKING:
    from doitune.evals.evaluate import Progress
    from doitune.train.events import Event

SAY_SECONDS = 2.0
"""A count of questions is said again after this time."""


@dataclass(frozen=True)
class Piece:
    """A member by its name, or (`is_base`) the untrained model that is called so."""

    name: str
    is_base: bool = False

    @property
    def title(self) -> str:
        """What a reader is told."""
        return f"{self.name} untrained" if self.is_base else self.name

    def folder(self, growth: Path) -> Path:
        """Where it is kept."""
        return base_folder(growth, self.name) if self.is_base else growth / self.name


def is_done(growth: Path, record: Record, piece: Piece) -> bool:
    """Whether nothing is left to do for it. CheckpointError where its records are damaged."""
    if piece.is_base:
        return not lacking(piece.folder(growth), record.suites, BASE)
    step = best_step(growth, piece.name)
    return step is not None and not lacking(piece.folder(growth), record.suites, step_name(step))


def pieces_of(record: Record) -> tuple[Piece, ...]:
    """All of a family's work: of each model its untrained base, then its members."""
    return tuple(
        piece
        for model in record.bases
        for piece in (
            Piece(model, is_base=True),
            *(Piece(one.name) for one in record.members if one.model == model),
        )
    )


def do(growth: Path, record: Record, piece: Piece, wait_minutes: float = 0.0) -> None:
    """Do one piece, in the folder of its family; it says what it does in its SAID. Errors: those of a
    training and of an evaluation."""
    make_folder(piece.folder(growth))
    with _said(piece.folder(growth) / SAID) as said:
        if piece.is_base:
            _ask_base(growth, record, piece, said)
            return
        if best_step(growth, piece.name) is None:
            _train(growth, record, piece, said, wait_minutes)
        _ask(growth, record, piece, said)


def _train(growth: Path, record: Record, piece: Piece, said: _Said, wait_minutes: float) -> None:
    from doitune.evals.suites.doit import validation_score
    from doitune.evals.suites.files import judged_rows
    from doitune.run.changes import Wishes
    from doitune.train.session import resume, start

    judged = judged_rows([one for one in record.suites if one in BENCHMARKS], only_present=True)
    run = run_of(growth, piece.name)
    if (run.folder / RECIPE).is_file():
        resume(
            run,
            scorer=validation_score,
            on_event=said.event,
            judged=judged,
            wishes=Wishes(wait_minutes=wait_minutes),
        )
        return
    resolved = replace(recipe_of(record.recipes[piece.name], piece.name), name=growth.name)
    start(
        resolved,
        runs=growth.parent,
        scorer=validation_score,
        on_event=said.event,
        judged=judged,
        wait_minutes=wait_minutes,
        called=piece.name,
    )


def _ask(growth: Path, record: Record, piece: Piece, said: _Said) -> None:
    """The best checkpoint, on every suite that it has not answered."""
    from doitune.evals.request import Request
    from doitune.evals.targets import evaluate_target

    step = best_step(growth, piece.name)
    if step is None:
        raise CheckpointError(f"{piece.name} has no end", "run the plan again")
    suites = lacking(piece.folder(growth), record.suites, step_name(step))
    if suites:
        request = Request(suites=suites, checkpoints=(str(step),), with_base=False)
        run = run_of(growth, piece.name)
        evaluate_target(str(run.folder), request, runs=growth.parent, on_progress=said.questions)


def _ask_base(growth: Path, record: Record, piece: Piece, said: _Said) -> None:
    from doitune.evals.request import Request
    from doitune.evals.targets import evaluate_untrained

    place = piece.folder(growth)
    suites = lacking(place, record.suites, BASE)
    if suites:
        recipe = recipe_of(record.bases[piece.name], piece.name).recipe
        request = Request(suites=suites)
        evaluate_untrained(recipe, request, lambda _: place, target=piece.name, on_progress=said.questions)


class _Said:
    """What this process says of its work, in a file that whoever waits for it reads the end of."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.write, self.last, self.at = write, "", -float("inf")

    def event(self, event: Event) -> None:
        """A training's notes and validations; its steps are in its own log."""
        from doitune.train.events import Note, ValidationLog

        if isinstance(event, Note):
            self.write(event.text)
        elif isinstance(event, ValidationLog):
            score = "" if event.score is None else f", score {100 * event.score:.1f}"
            self.write(f"validation after step {event.step}: loss {event.loss:.4f}{score}")

    def questions(self, label: str, progress: Progress) -> None:
        """The questions of an evaluation."""
        if progress.done == progress.total or time.monotonic() - self.at > SAY_SECONDS:
            self.at = time.monotonic()
            self.write(f"{label}: {progress.done} of {several(progress.total, 'question')}")

    def hear(self, now: Doing) -> None:
        """Work that begins; its counts are left out."""
        if now.text != self.last and not now.text.startswith("step "):
            self.last = now.text
            self.write(now.text)


@contextmanager
def _said(path: Path) -> Iterator[_Said]:
    with path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as stream:
        said = _Said(lambda text: _line(stream.write, text))
        said.write("begun" if stream.tell() == 0 else "taken up again")
        with heard_by(said.hear):
            yield said


def _line(write: Callable[[str], int], text: str) -> None:
    write(f"{time.strftime('%H:%M:%S')} {' '.join(text.split())}\n")
