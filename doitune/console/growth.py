"""A family of runs: what a plan would take, how far it is, and what it measured."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from doitune.console.activity import Activity
from doitune.console.progress import until_unread
from doitune.console.scores import show_comparisons
from doitune.console.screen import duration, safe, say, show_table, styled
from doitune.system.doing import Doing
from doitune.system.paths import as_argument
from doitune.system.units import several, size_of

if TYPE_CHECKING:
    from pathlib import Path

    from doitune.evals.compare import Pair
    from doitune.growth.contrast import Contrast, Tried
    from doitune.growth.family.outlook import Outlook
    from doitune.growth.family.run import Running, Standing
    from doitune.growth.family.worker import Answer
    from doitune.growth.measured import Growth
    from doitune.growth.table import Cell, Table

MOST_SHOWN = 12
"""Runs under way that a terminal shows; the rest is a count."""


class FamilyDisplay(Activity):
    """The runs that are under way, and how long all takes: lines that are written over on a terminal, plain
    lines elsewhere. What has ended stays as a line."""

    def __init__(self) -> None:
        self.screen = until_unread()
        super().__init__(live=self.screen.is_terminal)
        self.status: Any = None

    def __call__(self, standing: Standing) -> None:
        """Show how far it is."""
        with self.lock:
            for answer in standing.ended:
                self.screen.print(safe(_ended(answer, standing)))
                self.pace.said()
            self.pace.hear(Doing("" if self.live else _summary(standing)))
            if self.live:
                shown = standing.running[:MOST_SHOWN]
                more = len(standing.running) - len(shown)
                lines = [_summary(standing), *(f"  {_running(one)}" for one in shown)]
                self._draw([*lines, f"  and {more} more"] if more else lines)

    def show(self, line: str) -> None:
        if self.live:
            self._draw([line])
        else:
            self.screen.print(safe(line))

    def _draw(self, lines: Sequence[str]) -> None:
        from rich.live import Live

        if self.status is None:
            self.status = Live(console=self.screen, transient=True, auto_refresh=False)
            self.status.start()
        width = max(20, self.screen.width - 1)
        self.status.update(styled(("\n".join(safe(line)[:width] for line in lines), "")), refresh=True)

    def close(self) -> None:
        if self.status is not None:
            self.status.stop()
            self.status = None


def _summary(standing: Standing) -> str:
    left = f", about {duration(standing.seconds_left)} left" if standing.seconds_left else ""
    now = f", {len(standing.running)} under way" if standing.running else ""
    return f"{standing.done} of {several(standing.total, 'run')} done{now}{left}"


def _running(one: Running) -> str:
    step = f"step {one.step}/{one.total_steps}  " if one.step else ""
    return f"{one.title}: {step}{one.said}"


def _ended(answer: Answer, standing: Standing) -> str:
    count = f"{standing.done} of {standing.total}"
    if answer.exit_code:
        return f"failed: {answer.piece.title}: {answer.problem}"
    return f"done ({count}): {answer.piece.title}"


def show_outlook(found: Outlook) -> None:
    """What a plan would take."""
    rows = [
        [one.name, one.design, f"{one.rows:,}", f"{one.steps:,}", "done" if one.done else ""]
        for one in found.members
    ]
    show_table(["run", "design", "rows", "steps", ""], rows, title=f"plan {found.name}", right=(2, 3))
    many = several(len(found.members), "run")
    say(f"{many} and {several(found.bases, 'untrained base')}, {found.done} done; {found.places}")
    for line in found.hours_said:
        say(line)
    say(f"disk: {size_of(found.disk_bytes)} for all checkpoints that stay")
    for note in found.notes:
        say(f"note: {note}")


def show_growth(growth: Growth, measured: Sequence[Table], tried: Sequence[Tried], folder: Path) -> None:
    """What was measured, and what to do next."""
    for table in measured:
        _show(table)
    others = [one for one in growth.members if one.member.design != "equal"]
    if others:
        kinds = dict.fromkeys(one.member.design for one in others)
        counts = [f"{sum(one.member.design == kind for one in others)} {_words(kind)}" for kind in kinds]
        say(f"{'beside them' if measured else 'measured'}: {', '.join(counts)}")
    show_tried(tried)
    for one in growth.unfinished:
        say(f"not measured: {one.name}")
    if growth.unfinished:
        return
    if others and {one.member.design for one in growth.members} == {"settings"}:  # nothing grew
        best = next((one for one in tried if one.best), None)
        if best:
            sets = shlex.join(word for setting in best.settings for word in ("--set", setting))
            say(f"next: write it into your recipe, or say it to a training: {sets}")
        return
    show_next(folder)


def show_next(folder: Path, confirms: str = "") -> None:
    """What there is to do with a measured family; `confirms`: whose advice it tries."""
    if confirms:
        say(f"it tries an advice of {confirms}, whose page says what came of it: doitune report {confirms}")
        return
    place = shlex.quote(as_argument(folder))
    say(f"see it: doitune report {place}")
    say(f"next: doitune advise {place} --total ROWS")


def show_confirmed(found: Contrast, page: str) -> None:
    """Advice against equal shares: each seed, each ability, what it comes to, and the command of its page."""
    rows = [
        [str(seed), *_points(one), f"{one.mcnemar_p:.3g}"]
        for seed, one in zip(found.seeds, found.each, strict=True)
    ]
    columns = ["seed", "equal shares", "advised", "difference", "95 % interval", "p"]
    show_table(columns, rows, title=f"mean % right on {found.together.suite}", right=range(6))
    show_comparisons([found.together])
    if found.each[1:]:
        say("n: answers of all seeds; those of one question are one draw")
    mean = found.together.mean
    verdict = {"better": "the advice is better", "worse": "the advice is worse"}.get(
        mean.verdict, mean.verdict
    )
    say(
        f"{verdict}: {100 * mean.difference:+.1f} points [{100 * mean.low:+.1f}, {100 * mean.high:+.1f}], "
        f"p {mean.mcnemar_p:.2g}; above equal shares in {found.better} of {several(len(found.each), 'seed')}"
    )
    say(f"see it: {page}")


def show_tried(tried: Sequence[Tried]) -> None:
    """Settings that were tried, against the recipe's own."""
    if not tried:
        return
    rows = [
        [
            ("* " if one.best else "") + " ".join(one.settings),
            f"{100 * one.own_valid:.1f}",
            f"{100 * one.valid:.1f}",
            *_points(one.contrast.together.mean),
            f"{one.holm_p:.3g}",
            f"{one.contrast.better} of {len(one.contrast.each)}",
        ]
        for one in tried
    ]
    columns = [
        "tried",
        "own, valid",
        "valid",
        "own, test",
        "test",
        "difference",
        "95 % interval",
        "p",
        "seeds up",
    ]
    show_table(columns, rows, title="settings against the recipe's own, mean % right", right=range(1, 9))
    best = next((one for one in tried if one.best), None)
    said = f"* the best on valid, chosen before test was looked at: {' '.join(best.settings)}" if best else ""
    say(f"{said or 'none is above the recipe on valid'}; p: exact paired test, Holm-corrected over all tried")


def _points(one: Pair) -> list[str]:
    return [
        f"{100 * one.score_a:.1f}",
        f"{100 * one.score_b:.1f}",
        f"{100 * one.difference:+.1f}",
        f"[{100 * one.low:+.1f}, {100 * one.high:+.1f}]",
    ]


def _words(design: str) -> str:
    return design.replace("_", "-")


def _show(table: Table) -> None:
    columns = ["ability", "chance", "untrained", *table.budgets]
    rows = [
        [one.title, f"{100 * one.chance:.0f}", _said(one.base), *(_said(found) for found in one.cells)]
        for one in table.lines
    ]
    unit = "all rows" if table.construction == "synthetic" else "rows of each ability"
    seeds = max((found.runs for one in table.lines for found in one.cells if found), default=1)
    more = f", {seeds} seeds together" if seeds > 1 else ""
    title = f"{table.model}, {table.construction}, % right on {table.split} [95 %] by {unit}{more}"
    show_table(columns, rows, title=title, right=range(1, len(columns)))


def _said(one: Cell | None) -> str:
    return "" if one is None else f"{100 * one.score:.1f} [{100 * one.low:.0f}-{100 * one.high:.0f}]"
