"""The only room that writes to the screen: progress on stderr, results on stdout, errors with their cure, JSON for scripts.

Everything printed passes through `safe`: text from models, files and names can hold escape sequences that would drive the terminal.
"""

from __future__ import annotations

import json
import os
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from doitune.errors import DoituneError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from doitune.corpus_check import CheckReport
    from doitune.evals.compare import Comparison
    from doitune.evals.report import Mean, SetScore
    from doitune.evals.targets import Evaluation
    from doitune.events import Event, StepLog, ValidationLog
    from doitune.run import Run
    from doitune.session import Plan

PIPED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""

_KEPT = "\n\t"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def safe(text: str) -> str:
    """`text` with control, bidirectional, zero-width and private characters as visible marks; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char in _KEPT or unicodedata.category(char) not in _HIDDEN else f"<U+{ord(char):04X}>" for char in text)


def out() -> Console:
    """The console of results."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=width is not None, width=width)


def err() -> Console:
    """The console of progress, notes and errors."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else PIPED_WIDTH
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=width is not None, width=width)


def say(text: str) -> None:
    """A line of a result."""
    out().print(safe(text))


def note(text: str) -> None:
    """A line for the reader, on stderr."""
    err().print(safe(text), style="dim")


def show_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout and nothing else there."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False, default=_plain) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def show_error(error: DoituneError, *, as_json: bool) -> None:
    """An error with its cure: JSON on stdout for scripts, else text on stderr."""
    if as_json:
        problems = [{"place": one.place, "problem": one.problem, "hint": one.hint} for one in error.problems]
        show_json({"schema": "doitune.error/1", "kind": error.kind, "problem": error.problem, "hint": error.hint, "problems": problems})
        return
    screen = err()
    shown: set[str] = set()
    for one in error.problems:
        place = f"{safe(one.place)}: " if one.place else ""
        screen.print(_styled(("error: ", "bold red"), (f"{place}{safe(one.problem)}", "")))
        if one.hint and one.hint not in shown:
            shown.add(one.hint)
            screen.print(_styled(("  hint: ", "bold cyan"), (safe(one.hint), "")))


def _styled(*parts: tuple[str, str]) -> Any:
    from rich.text import Text

    return Text.assemble(*((text, style) for text, style in parts))


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Sequence[int] = ()) -> Table:
    """A table of plain text; columns whose number is in `right` are set right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(safe(title)) if title else None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe(str(cell))) for cell in row))
    return table


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Sequence[int] = ()) -> None:
    """Print a table on stdout."""
    out().print(grid(columns, rows, title=title, right=right))


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
        from doitune.events import Note, StepLog, ValidationLog

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
            self.progress = Progress(BarColumn(bar_width=24), TextColumn("{task.description}", markup=False), console=self.screen)
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


def duration(seconds: float) -> str:
    """Seconds in words: 42s, 3m05s, 2h07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


class EvaluationDisplay:
    """How far an evaluation is: one live line on a terminal, a plain line for each suite elsewhere."""

    def __init__(self) -> None:
        self.screen = err()
        self.label = ""
        self.last_line = -1e9
        self.status: Any = None

    def __enter__(self) -> EvaluationDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.status is not None:
            self.status.stop()

    def __call__(self, label: str, progress: Any) -> None:
        """Show `progress` (done, total) of the evaluation called `label`."""
        text = safe(f"{label}: {progress.done} of {progress.total} questions")
        if self.screen.is_terminal:
            if self.status is None:
                self.status = self.screen.status(text)
                self.status.start()
            self.status.update(text)
        elif label != self.label or progress.done == progress.total or time.monotonic() - self.last_line > 10:
            self.screen.print(text)
            self.last_line = time.monotonic()
        self.label = label


def show_plan(plan: Plan) -> None:
    """What a training would do: the ledger, tokens and steps."""
    material, train = plan.material, plan.recipe.train
    show_ledger(material.ledger.to_json(), f"recipe {plan.resolved.name}")
    tokens = sum(len(one.ids) for one in material.encoded)
    trained = sum(one.trained for one in material.encoded)
    steps = -(-len(material.encoded) // train.examples_per_step) * train.epochs
    steps = steps if train.max_steps is None else min(steps, train.max_steps)
    say(f"{len(material.encoded):,} examples, {tokens:,} tokens, {trained:,} of them trained ({100 * trained / tokens:.0f} %)")
    say(f"{steps:,} steps of {train.examples_per_step} examples, rate {train.learning_rate:g} to {train.end_rate:g} ({train.schedule})")
    say(f"base {plan.base.name} in {plan.base.folder}")


def show_run(run: Run, *, as_json: bool) -> None:
    """What a training left, and what to do next."""
    from doitune.run import summarise

    summary, done = summarise(run), run.done() or {}
    if as_json:
        show_json({"schema": "doitune.run/1", **summary, "done": done})
        return
    early = " (early: no better validation)" if done.get("stopped_early") else ""
    say(f"trained {done['final_step']} steps in {duration(done['seconds'])}{early}; best checkpoint: step {done['best_step']}")
    say(f"run {run.name} in {run.folder}")
    say("next: doitune eval last")


def scores_text(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Headline means in a line."""
    parts = [f"{suite} {checkpoint} {100 * score:.1f}" for suite, found in scores.items() for checkpoint, score in found.items()]
    return "; ".join(parts)


def show_draw(found: Mapping[str, Any], written: str | None) -> None:
    """The ledger of a draw, and the first ids."""
    show_ledger(found["ledger"], f"recipe {found['recipe']}")
    ids = found["ids"]
    say(f"{len(ids):,} examples; the first learnt from: {', '.join(ids[:5])}")
    say(f"wrote the ids to {written}" if written else "--out FILE writes the ids, --json prints them")


def show_ledger(ledger: Mapping[str, Mapping[str, int]], title: str) -> None:
    """What a budget asked for, and what came of it, in rows."""
    names = ("asked", "found", "kept", "truncated", "trained")
    rows = [[name, *(f"{line[key]:,}" for key in names)] for name, line in ledger.items()]
    rows.append(["together", *(f"{sum(line[key] for line in ledger.values()):,}" for key in names)])
    show_table(["ability", *names], rows, title=title, right=range(1, 6))


def show_check(report: CheckReport) -> None:
    """Rows by source and ability, then what is wrong: the first of each kind, and how many."""
    rows = []
    for source, counts in report.rows.items():
        for name, count in counts.items():
            forms = ", ".join(f"{form} {n:,}" for form, n in count.forms.items())
            tokens = "" if count.tokens is None else f"{count.tokens.median} / {count.tokens.most}"
            rows.append([source, name, f"{count.rows:,}", forms, tokens])
    show_table(["source", "ability", "rows", "forms", "tokens, median / most"], rows, right=(2,))
    shown: dict[str, int] = {}
    for one in report.problems:
        shown[one.kind] = shown.get(one.kind, 0) + 1
        if shown[one.kind] <= 5:
            say(f"{one.place}: {one.problem}" + (f" ({one.hint})" if one.hint else ""))
    for kind, number in shown.items():
        if number > 5:
            say(f"... and {number - 5:,} more of kind {kind}")
    for leak in report.leaks[:10]:
        say(f"leak: {leak.train_place or leak.train_id} gives away {leak.other_place or leak.other_id} ({100 * leak.coverage:.0f} %)")
    say(f"{len(report.problems):,} problems, {len(report.leaks):,} leaks")


def show_comparisons(found: Sequence[Comparison]) -> None:
    """Paired differences, a table for each pair."""
    for one in found:
        rows = []
        for pair in (one.mean, *one.sets):
            p = f"{pair.mcnemar_p:.3g}" if pair.set == one.mean.set else f"{pair.holm_p:.3g}"
            flips = f"+{pair.flips_up} -{pair.flips_down}"
            scores = (f"{100 * pair.score_a:.1f}", f"{100 * pair.score_b:.1f}", f"{100 * pair.difference:+.1f}")
            interval = f"[{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"
            rows.append([pair.set, str(pair.n), *scores, interval, p, flips, f"{100 * pair.smallest_detectable:.1f}", pair.verdict])
        columns = ["set", "n", "A", "B", "B - A", "95 % interval", "p", "flips", "detectable", "verdict"]
        show_table(columns, rows, title=f"{one.suite}: A = {one.a}, B = {one.b}", right=range(1, 9))
        say("scores in %; exact McNemar, Holm-corrected over the sets; flips: wrong to right, right to wrong")
        if one.unpaired:
            say(f"{one.unpaired} questions were answered by one side only and are left out")


def show_evaluations(evaluations: Sequence[Evaluation]) -> None:
    """One table for each suite: an ability a line, the base beside the checkpoints, intervals and chance."""
    for suite in dict.fromkeys(one.report.suite for one in evaluations):
        _show_suite(suite, [one for one in evaluations if one.report.suite == suite])


def _show_suite(suite: str, evaluations: Sequence[Evaluation]) -> None:
    from doitune.ability import BY_NAME

    columns = ["ability", "n", "chance", *(one.checkpoint for one in evaluations)]
    rows = []
    for number, first in enumerate(evaluations[0].report.sets):
        cells = [one.report.sets[number] for one in evaluations]
        title = BY_NAME[first.name].title if first.name in BY_NAME else first.name
        rows.append([title, str(first.n), f"{100 * first.chance:.0f}", *(_cell(cell) for cell in cells)])
    report = evaluations[0].report
    rows.append(_mean_row("abilities", [one.report.mean for one in evaluations]))
    if len(report.sets) != report.mean.sets:
        rows.append(_mean_row("sets, all", [one.report.table("fixed").mean_all for one in evaluations]))
    partial = " (a part of the questions)" if report.partial else ""
    targets = ", ".join(dict.fromkeys(one.target for one in evaluations))
    show_table(columns, rows, title=f"{suite}{partial}: {targets}", right=range(1, len(columns)))
    say("scores in %, with 95 % intervals; protocol fixed; ≈ marks a score that guessing could give")
    _notes(evaluations)


def _mean_row(what: str, means: Sequence[Mean]) -> list[str]:
    return [f"mean of {means[0].sets} {what}", str(means[0].n), f"{100 * means[0].chance:.0f}", *(_cell(mean) for mean in means)]


def _notes(evaluations: Sequence[Evaluation]) -> None:
    for one in evaluations:
        unread = sum(line.unread for line in one.report.sets)
        if unread:
            say(f"{one.checkpoint}: {unread} of {one.report.n} replies held no answer that could be read (scored wrong)")
        if one.leaks:
            say(f"warning: {one.leaks} rows that {one.checkpoint} learnt from leak into judged sets; its scores are too high")
        if one.report.mean.within_chance:
            say(f"warning: the mean of {one.checkpoint} is within what guessing gives")


def _cell(score: SetScore | Mean) -> str:
    mark = "≈" if score.within_chance else " "
    return f"{100 * score.score:.1f}{mark}[{100 * score.low:2.0f}-{100 * score.high:3.0f}]"
