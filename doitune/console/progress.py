"""Long work as it goes on, on stderr: a live line on a terminal, plain lines elsewhere. A part of the
console."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from doitune.console.screen import duration, err, safe

if TYPE_CHECKING:
    from typing_extensions import Self

    from doitune.data.fetch import Progress
    from doitune.train.events import Event, StepLog, ValidationLog


class TrainingDisplay:
    """A training as it goes: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        """`every_seconds`: how often a plain line is written."""
        self.screen = err()
        self.screen.on_broken_pipe = self._unread  # type: ignore[method-assign]  # rich would end the process
        self.every_seconds = every_seconds
        self.started: float | None = None
        self.first_step = 0
        self.last_line = -1e9
        self.closed = False
        self.progress: Any = None
        self.task: Any = None

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from doitune.train.events import Note, StepLog, ValidationLog

        if isinstance(event, StepLog):
            self._step(event)
        elif isinstance(event, ValidationLog):
            self._line(_validation_line(event))
        elif isinstance(event, Note):
            self._line(event.text)

    def _line(self, text: str) -> None:
        """A line, unless nobody reads any more: a run of hours does not end because a pager was closed."""
        if self.closed:
            return
        self.screen.print(safe(text))

    def _unread(self) -> None:
        self.closed = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def _step(self, log: StepLog) -> None:
        now = time.monotonic()
        if self.started is None:
            self.started, self.first_step = now - log.seconds, log.step - 1
        left = (now - self.started) / max(1, log.step - self.first_step) * (log.total_steps - log.step)
        if self.screen.is_terminal and not os.environ.get("NO_COLOR"):
            self._bar(log, left)
        elif now - self.last_line >= self.every_seconds or log.step == log.total_steps:
            self.last_line = now
            self._line(_step_line(log, left))

    def _bar(self, log: StepLog, left: float) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        if self.progress is None:
            self.progress = Progress(
                BarColumn(bar_width=24), TextColumn("{task.description}", markup=False), console=self.screen
            )
            self.progress.start()
            self.task = self.progress.add_task("", total=log.total_steps)
        self.progress.update(self.task, completed=log.step, description=_step_line(log, left))


def _step_line(log: StepLog, left_seconds: float) -> str:
    speed = log.tokens / log.seconds if log.seconds else 0.0
    return (
        f"step {log.step}/{log.total_steps}  epoch {log.epoch:.2f}  loss {log.loss:.4f}  rate {log.learning_rate:.2e}  "
        f"norm {log.grad_norm:.2f}  {speed:,.0f} tokens/s  {log.peak_memory_gib:.1f} GiB  {duration(left_seconds)} left"
    )


def _validation_line(log: ValidationLog) -> str:
    score = "" if log.score is None else f"  score {100 * log.score:.1f}"
    return f"validation after step {log.step}: loss {log.loss:.4f}{score}  ({duration(log.seconds)})"


class _LineDisplay:
    """One live line on a terminal; elsewhere a plain line now and then."""

    def __init__(self) -> None:
        self.screen = err()
        self.label = ""
        self.last_line = -1e9
        self.status: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.status is not None:
            self.status.stop()

    def show(self, text: str, label: str, *, whole: bool) -> None:
        """A line of progress; elsewhere than on a terminal only at a new label, at its end, and every ten
        seconds."""
        if self.screen.is_terminal:
            from rich.text import Text  # a plain str would be read as markup

            if self.status is None:
                self.status = self.screen.status(Text(safe(text)))
                self.status.start()
            self.status.update(Text(safe(text)))
        elif label != self.label or whole or time.monotonic() - self.last_line > 10:
            self.screen.print(safe(text))
            self.last_line = time.monotonic()
        self.label = label


class EvaluationDisplay(_LineDisplay):
    """How far an evaluation is."""

    def __call__(self, label: str, progress: Any) -> None:
        """Show `progress` (done, total) of the evaluation called `label`."""
        self.show(
            f"{label}: {progress.done} of {progress.total} questions",
            label,
            whole=progress.done == progress.total,
        )


class SelftestDisplay(_LineDisplay):
    """How far the crash lab is."""

    def __call__(self, report: Any) -> None:
        """Show what is counted so far."""
        found = (
            f", {report.corruptions_found} of {report.corruptions} damages found"
            if report.corruptions
            else ""
        )
        self.show(
            f"{report.kills} kills, {report.kills_during_save} during a save{found}; {len(report.failures)} failures ({duration(report.seconds)})",
            "",
            whole=False,
        )


class FetchDisplay(_LineDisplay):
    """How far a download is."""

    def __call__(self, progress: Progress) -> None:
        """Show one file's progress."""
        self.show(
            f"{progress.file} ({progress.number} of {progress.files}): {progress.bytes / 2**20:,.0f} of {progress.total_bytes / 2**20:,.0f} MiB",
            progress.file,
            whole=progress.bytes >= progress.total_bytes,
        )


class ExportDisplay(_LineDisplay):
    """How far an export is: its shards, then the questions asked before and after."""

    def shard(self, progress: Progress) -> None:
        """Show the progress of the merge."""
        done, total = progress.bytes / 2**20, progress.total_bytes / 2**20
        self.show(
            f"{progress.file} ({progress.number} of {progress.files}): {done:,.0f} of {total:,.0f} MiB",
            progress.file,
            whole=False,
        )

    def question(self, label: str, progress: Any) -> None:
        """Show `progress` (done, total) of the questions asked of one side."""
        self.show(
            f"{label}: {progress.done} of {progress.total} questions",
            label,
            whole=progress.done == progress.total,
        )

    def note(self, text: str) -> None:
        """What is done next."""
        self.show(text, text, whole=True)


class GpuDisplay(_LineDisplay):
    """Which part of the test of a card is at work."""

    def __call__(self, name: str, number: int, parts: int) -> None:
        """Show part `number` of `parts`."""
        self.show(f"part {number} of {parts}: {name}", name, whole=False)
