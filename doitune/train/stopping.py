"""How a training stops before its end: what is saved, and what its user can do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from doitune.errors import DiskError, Stopped
from doitune.run.folder import Run
from doitune.run.layout import RECIPE, resume_command
from doitune.system.signals import StopAsked, stopped
from doitune.train.loop import Training
from doitune.train.team import Team

ECHO_SECONDS = 3.0
"""How long after a signal torchrun may pass the same one on."""


def echo_seconds(team: Team) -> float:
    """For how long the signal that came first may come again without meaning more."""
    return ECHO_SECONDS if team.size > 1 else 0.0


def saved_and_stopped(training: Training, number: int, why: str) -> Stopped:
    """The last boundary is saved, unless there was a second signal or the disk is full; the error that
    says so."""
    run, step = training.setup.run, training.at.step
    run.patience.end()
    try:
        if training.setup.signals.in_haste:
            raise StopAsked(number)
        training.gradients.clear()
        training.retention.save_boundary(training.at)
        what = f"stopped after step {step}, everything is saved"
    except StopAsked as again:
        number = again.number
        what = f"left at once in step {step + 1}; what the last checkpoint holds is kept"
    except DiskError as full:
        what = (
            f"stopped after step {step}, which could not be saved ({full.problem}); "
            "what the last checkpoint holds is kept"
        )
    return Stopped(number, f"{why}: {what}", resume_command(run.folder))


@contextmanager
def stoppable(run: Run) -> Iterator[None]:
    """Around what comes before the loop, where nothing is under way that a resume would not make again: a
    signal is Stopped."""
    try:
        yield
    except (StopAsked, KeyboardInterrupt) as stop:
        begun = (run.folder / RECIPE).is_file()
        hint = resume_command(run.folder) if begun else "run the same command again: nothing was begun"
        raise stopped(stop, "stopped; what is finished is kept", hint) from None
