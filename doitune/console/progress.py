"""Long work as it goes on, on stderr: a live line or bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.console.activity import Activity
from doitune.console.curve import Curve
from doitune.console.screen import duration, err, safe, styled
from doitune.system.doing import Doing
from doitune.system.units import GIB, MIB, size_of

if TYPE_CHECKING:
    from rich.console import Console

    from doitune.data.bring import Progress as FileProgress
    from doitune.evals.evaluate import Progress as QuestionProgress
    from doitune.selftest.crash_report import Report as CrashReport
    from doitune.train.events import Event, StepLog, ValidationLog

PLAIN_LINE_SECONDS = 10.0
"""Elsewhere than on a terminal, at most one line of the same work in this time."""

WIDE, NARROW = 140, 105
"""Columns of a terminal: at least so many have room for a bar of steps beside the curve of losses; below the
second the step's line is a short one."""

BAR_CELLS, CURVE_CELLS = 24, (8, 32)
"""Width of a training's bar; of the curve of its losses, the least that shows something and the most."""

PLAIN_STEP_SECONDS = 5.0
"""The same for the steps of a training."""


class LiveLine(Activity):
    """One line that is written over on a terminal. Its methods are the callbacks of the rooms that work; what
    they are doing beside is shown, too."""

    def __init__(self) -> None:
        self.screen = until_unread()
        super().__init__(live=self.screen.is_terminal)
        self.label = ""
        self.last_line = -float("inf")
        self.status: Any = None

    def file(self, progress: FileProgress) -> None:
        """A file that is fetched, read or written."""
        done, total = progress.bytes / MIB, progress.total_bytes / MIB
        text = f"{progress.file} ({progress.number} of {progress.files}): {done:,.0f} of {total:,.0f} MiB"
        self._show(text, progress.file, whole=progress.bytes >= progress.total_bytes)

    def questions(self, label: str, progress: QuestionProgress) -> None:
        """The questions of the evaluation called `label`."""
        text = f"{label}: {progress.done} of {progress.total} questions"
        self._show(text, label, whole=progress.done == progress.total)

    def kills(self, report: CrashReport) -> None:
        """The counts of a crash test so far."""
        found = f"{report.corruptions_found} of {report.corruptions} damages found"
        text = f"{report.kills} kills, {report.kills_during_save} during a save"
        text += f", {found}" if report.corruptions else ""
        self._show(f"{text}; {len(report.failures)} failures ({duration(report.seconds)})", "", whole=False)

    def part(self, name: str, number: int, parts: int) -> None:
        """Part `number` of `parts` of the test of a card."""
        self._show(f"part {number} of {parts}: {name}", name, whole=False)

    def note(self, text: str) -> None:
        """What is done next."""
        self._show(text, text, whole=True)

    def _show(self, text: str, label: str, *, whole: bool) -> None:
        """Elsewhere than on a terminal only at a new label, at its end, and now and then."""
        with self.lock:
            self.pace.hear(Doing(text))
            late = time.monotonic() - self.last_line > PLAIN_LINE_SECONDS
            if self.live or label != self.label or whole or late:
                self.show(text)
                self.pace.said()
                self.last_line = time.monotonic()
            self.label = label

    def show(self, line: str) -> None:
        if not self.live:
            self.screen.print(safe(line))
            return
        if self.status is None:
            self.status = self.screen.status(styled((line, "")))
            self.status.start()
        self.status.update(styled((line, "")))  # a plain str would be read as markup

    def close(self) -> None:
        if self.status is not None:
            self.status.stop()


class TrainingDisplay(Activity):
    """The events of a training, and what is done between them: a bar and a live line on a terminal, plain
    lines elsewhere."""

    def __init__(self) -> None:
        self.screen = until_unread()
        super().__init__(live=self.screen.is_terminal and not os.environ.get("NO_COLOR"))
        self.left, self.curve = _Left(), Curve()
        self.last_line = -float("inf")
        self.bar: Any = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from doitune.train.events import Note, StepLog, ValidationLog

        if isinstance(event, StepLog):
            self._step(event)
        elif isinstance(event, ValidationLog):
            self._line(_validation_line(event))
        elif isinstance(event, Note):
            self._line(event.text)

    def _step(self, log: StepLog) -> None:
        left = self.left.seconds_left(log)
        if self.live:
            line = _live_line(log, left, self.curve, self.screen)
            with self.lock:
                self._open_bar(log.total_steps)
                self.bar.update(self.bar.task_ids[0], completed=log.step, description=line, visible=True)
        elif time.monotonic() - self.last_line >= PLAIN_STEP_SECONDS or log.step == log.total_steps:
            self.last_line = time.monotonic()
            self._line(_step_line(log, left))

    def _line(self, line: str) -> None:
        """A line that stays."""
        with self.lock:
            self.screen.print(safe(line))
            self.pace.said()

    def show(self, line: str) -> None:
        if not self.live:
            self.screen.print(safe(line))
            return
        self._open_bar()
        self.bar.update(self.bar.task_ids[1], description=safe(line), visible=True)

    def _open_bar(self, total_steps: int | None = None) -> None:
        """The steps, and below them what is done now; each is seen once there is something to say."""
        if self.bar is None:
            self.bar = _bar(self.screen)
            self.bar.start()
        if total_steps is not None:
            self.bar.update(self.bar.task_ids[0], total=total_steps)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


@dataclass
class _Left:
    """How fast the steps of this process come: when its first one began, and which that was."""

    started: float | None = None
    first_step: int = 0

    def seconds_left(self, log: StepLog) -> float:
        """Until the last step, at the mean pace so far; validations and checkpoints count."""
        now = time.monotonic()
        if self.started is None:
            self.started, self.first_step = now - log.seconds, log.step - 1
        return (now - self.started) / max(1, log.step - self.first_step) * (log.total_steps - log.step)


def until_unread() -> Console:
    """stderr of work that does not end because a pager was closed: nothing more is shown."""
    screen = err()

    def unread() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    screen.on_broken_pipe = unread  # type: ignore[method-assign]  # rich would end the process
    return screen


def _bar(screen: Console) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn

    text = TextColumn("{task.description}", markup=False)
    columns = [BarColumn(bar_width=BAR_CELLS), text] if screen.width >= WIDE else [text]
    bar = Progress(*columns, console=screen)
    for _ in range(2):
        bar.add_task("", total=None, visible=False)
    return bar


def _step_line(log: StepLog, seconds_left: float) -> str:
    speed = log.tokens / log.seconds if log.seconds else 0.0
    parts = [
        f"step {log.step}/{log.total_steps}",
        f"epoch {log.epoch:.2f}",
        f"loss {log.loss:.4f}",
        f"rate {log.learning_rate:.2e}",
        f"norm {log.grad_norm:.2f}",
        f"{speed:,.0f} tokens/s",
        size_of(log.peak_memory_gib * GIB),
        f"{duration(seconds_left)} left",
    ]
    return "  ".join(parts)


def _live_line(log: StepLog, seconds_left: float, curve: Curve, screen: Console) -> str:
    """A step as a terminal shows it: the losses so far in front, where that is wide and writes braille."""
    curve.add(log.loss)
    line = safe((_step_line if screen.width >= NARROW else _short_line)(log, seconds_left))
    least, most = CURVE_CELLS
    bar = BAR_CELLS + 1 if screen.width >= WIDE else 0
    room = min(most, screen.width - bar - len(line) - 3)
    drawn = curve.text(room) if room >= least and screen.encoding.startswith("utf") else ""
    return f"{drawn}  {line}" if drawn else line


def _short_line(log: StepLog, seconds_left: float) -> str:
    return f"step {log.step}/{log.total_steps}  loss {log.loss:.4f}  {duration(seconds_left)} left"


def _validation_line(log: ValidationLog) -> str:
    score = "" if log.score is None else f"  score {100 * log.score:.1f}"
    return f"validation after step {log.step}: loss {log.loss:.4f}{score}  ({duration(log.seconds)})"
