"""What can go wrong, as a user may read it, and the exit code that goes with each kind.

A room raises one of these; only the console prints it. Anything else that escapes is our own bug and keeps
its traceback. Source of the codes from 64 to 78: BSD's sysexits.h; above 128: the shell's, 128 + the signal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit codes of Ctrl-C (INT), and of output that nobody reads any more (PIPE)."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (`file:line`, or empty), what with its value, and the cure."""

    place: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}" if self.place else self.problem


class DoituneError(Exception):
    """A problem that the user can solve. Several problems of one kind travel together.

    `kind` names the kind in JSON; `exit_code` is what the command ends with. Those of this class are of what
    is doitune's own fault: a bug, a promise that does not hold.
    """

    kind = "internal"
    exit_code = 70

    def __init__(self, problem: str, hint: str = "", *, place: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(place, problem, hint),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> DoituneError:
        """One error that carries all of `problems` (at least one)."""
        found = tuple(problems)
        if not found:
            raise ValueError("an error needs at least one problem")
        error = cls(found[0].problem, found[0].hint, place=found[0].place)
        error.problems = found
        error.args = ("\n".join(str(problem) for problem in found),)
        return error

    @property
    def problem(self) -> str:
        """All problems as text, a line each."""
        return "\n".join(str(problem) for problem in self.problems)

    @property
    def hint(self) -> str:
        """The cure of the first problem that has one."""
        return next((problem.hint for problem in self.problems if problem.hint), "")


class UsageError(DoituneError):
    """The command line cannot be understood."""

    kind, exit_code = "usage", 2


class RecipeError(DoituneError):
    """A recipe says something that it may not say."""

    kind, exit_code = "recipe", 65


class DataError(DoituneError):
    """A corpus, a row, or a budget that the corpus cannot meet."""

    kind, exit_code = "data", 65


class ModelError(DoituneError):
    """A base model's folder, tokenizer or template that cannot be used."""

    kind, exit_code = "model", 65


class CheckpointError(DoituneError):
    """A run or a checkpoint that is missing, damaged, or of another recipe."""

    kind, exit_code = "checkpoint", 65


class DivergedError(DoituneError):
    """Training produced a value that is not finite."""

    kind, exit_code = "diverged", 70


class ParityError(DoituneError):
    """A model that was made of another one and answers otherwise, though nothing that was given was wrong."""

    kind, exit_code = "parity", 70


class DiskError(DoituneError):
    """No room, or no right, to write. `full`: the disk itself said that nothing more fits."""

    kind, exit_code = "disk", 74
    full = False


class LockedError(DoituneError):
    """Another process works on this run."""

    kind, exit_code = "locked", 75


class FitError(DoituneError):
    """What was asked for does not fit this machine, or no backend can serve it."""

    kind, exit_code = "fit", 78


class Stopped(DoituneError):
    """A signal asked for an end; finished work is kept, and `hint` is the command that goes on.

    The exit code is the shell's for INT, TERM and HUP; schedulers' USR1 and USR2 mean what TERM means, and
    share its code.
    """

    kind = "stopped"

    def __init__(self, signal_number: int, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.exit_code = {1: 129, 2: INTERRUPTED}.get(signal_number, 143)
