"""The only room that writes to the screen: progress on stderr, results on stdout, errors with their cure,
JSON for scripts.

Everything printed passes through `safe`: text from models, files and names can hold escape sequences that
would drive the terminal, and messages of libraries can hold secrets. JSON is escaped to the same effect.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from doitune.errors import DoituneError
from doitune.system.secrets import redact
from doitune.system.visible import hidden, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from doitune.data.check import CheckReport
    from doitune.prepare.preview import Row as PreviewRow
    from doitune.prepare.stats import Stats
    from doitune.run.folder import Run
    from doitune.selftest.crash import Report
    from doitune.train.session import Plan

PIPED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""


def safe(text: str) -> str:
    """`text` as a screen may have it: secrets as `***`, hidden characters as their codes.

    The consoles here read no markup, so brackets need no escape.
    """
    return visible(redact(text))


def out() -> Console:
    """The console of results."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(
        file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=width is not None, width=width
    )
    console.on_broken_pipe = _unread  # type: ignore[method-assign]  # rich would end the process with 1
    return console


def _unread() -> None:
    raise BrokenPipeError


def err() -> Console:
    """The console of progress, notes and errors."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else PIPED_WIDTH
    return Console(
        file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=width is not None, width=width
    )


def say(text: str) -> None:
    """A line of a result."""
    out().print(safe(text))


def note(text: str) -> None:
    """A line for the reader, on stderr."""
    err().print(safe(text), style="dim")


def show_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout and nothing else there; what `safe` would mark is escaped, so that it
    reads back the same."""
    escaped = (sys.stdout.encoding or "utf-8").lower() not in ("utf-8", "utf8")
    text = redact(json.dumps(document, ensure_ascii=escaped, indent=2, allow_nan=False, default=_plain))
    sys.stdout.write(
        (text if text.isascii() else "".join(_escaped(char) for char in text)).replace("\x7f", "\\u007f")
        + "\n"
    )


def _escaped(char: str) -> str:
    """A character of a JSON text, as an escape where it would hide."""
    return json.dumps(char)[1:-1] if not char.isascii() and hidden(char) else char


def _plain(value: object) -> object:
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def show_error(error: DoituneError, *, as_json: bool) -> None:
    """An error with its cure: JSON on stdout for scripts, else text on stderr."""
    if as_json:
        problems = [{"place": one.place, "problem": one.problem, "hint": one.hint} for one in error.problems]
        show_json(
            {
                "schema": "doitune.error/1",
                "kind": error.kind,
                "problem": error.problem,
                "hint": error.hint,
                "problems": problems,
            }
        )
        return
    screen = err()
    if error.kind == "stopped":  # no error: the last line is the command that goes on, to be copied
        screen.print(_styled(("stopped: ", "bold yellow"), (safe(error.problem), "")))
        screen.print(_styled((safe(error.hint), "")))
        return
    shown: set[str] = set()
    for one in error.problems:
        place = f"{safe(one.place)}: " if one.place else ""
        screen.print(_styled(("error: ", "bold red"), (f"{place}{safe(one.problem)}", "")))
        if one.hint and one.hint not in shown:
            shown.add(one.hint)
            screen.print(_styled(("  hint: ", "bold cyan"), (safe(one.hint), "")))


def show_crash(error: BaseException) -> None:
    """A bug of our own: its traceback on stderr, without secrets and control characters."""
    import traceback

    err().print(_styled((safe("".join(traceback.format_exception(error))).rstrip(), "")))
    err().print(_styled(("this is a bug in doitune: please report it with these lines", "bold red")))


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object
) -> None:
    """What a library warns of, in the place of Python's own writer."""
    note(f"{category.__name__}: {message} ({filename}:{lineno})")


def _styled(*parts: tuple[str, str]) -> Any:
    from rich.text import Text

    return Text.assemble(*((text, style) for text, style in parts))


def grid(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Sequence[int] = ()
) -> Table:
    """A table of plain text; columns whose number is in `right` are set right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(safe(title)) if title else None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    for number, name in enumerate(columns):
        table.add_column(Text(safe(name)), justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(safe(str(cell))) for cell in row))
    return table


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Sequence[int] = ()
) -> None:
    """Print a table on stdout."""
    out().print(grid(columns, rows, title=title, right=right))


def duration(seconds: float) -> str:
    """Seconds in words: 42s, 3m05s, 2h07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return (
        f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    )


def show_plan(plan: Plan) -> None:
    """What a training would do: the ledger, tokens and steps."""
    material, train = plan.material, plan.recipe.train
    show_ledger(material.ledger.to_json(), f"recipe {plan.resolved.name}")
    tokens = sum(len(one.ids) for one in material.encoded)
    trained = sum(one.trained for one in material.encoded)
    steps = -(-len(material.encoded) // train.examples_per_step) * train.epochs
    steps = steps if train.max_steps is None else min(steps, train.max_steps)
    say(
        f"{len(material.encoded):,} examples, {tokens:,} tokens, {trained:,} of them trained ({100 * trained / tokens:.0f} %)"
    )
    say(
        f"{steps:,} steps of {train.examples_per_step} examples, rate {train.learning_rate:g} to {train.end_rate:g} ({train.schedule})"
    )
    say(f"base {plan.base.name} in {plan.base.folder}")


def show_run(run: Run, *, as_json: bool) -> None:
    """What a training left, and what to do next."""
    from doitune.run.folder import summarise

    summary, done = summarise(run), run.done() or {}
    if as_json:
        show_json({"schema": "doitune.run/1", **summary, "done": done})
        return
    early = " (early: no better validation)" if done.get("stopped_early") else ""
    say(
        f"trained {done['final_step']} steps in {duration(done['seconds'])}{early}; best checkpoint: step {done['best_step']}"
    )
    say(f"run {run.name} in {run.folder}")
    say("next: doitune eval last")


def show_crash_report(report: Report) -> None:
    """What the crash lab counted, and its verdict."""
    during = f"{report.kills} kills, {report.kills_during_save} of them while a checkpoint was being written"
    say(
        f"{during}; {report.runs} runs, {report.processes} processes, {duration(report.seconds)} on {report.filesystem or 'this disk'}"
    )
    say(
        f"steps lost beyond a checkpoint interval: {report.steps_lost_beyond}; differing bytes: {report.differing_bytes}"
    )
    if report.corruptions:
        say(f"damaged checkpoints: {report.corruptions}, found and survived: {report.corruptions_found}")
    for text in report.failures[:5]:
        say(f"failure: {text}")
    say(
        "passed: a run survives being killed here"
        if report.passed
        else f"FAILED: {len(report.failures)} failures"
    )


def scores_text(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Headline means in a line."""
    parts = [
        f"{suite} {checkpoint} {100 * score:.1f}"
        for suite, found in scores.items()
        for checkpoint, score in found.items()
    ]
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
        say(
            f"leak: {leak.train_place or leak.train_id} gives away {leak.other_place or leak.other_id} ({100 * leak.coverage:.0f} %)"
        )
    say(f"{len(report.problems):,} problems, {len(report.leaks):,} leaks")


TRAINED, CONTROL = "green", "bold magenta"
"""Styles of a preview's trained text and control tokens."""


def show_preview(rows: Sequence[PreviewRow]) -> None:
    """Rows in pieces: trained text green, control tokens by name; without colours trained text stands in
    brackets."""
    screen = out()
    coloured = screen.is_terminal and not os.environ.get("NO_COLOR")
    for row in rows:
        long = ", longer than train.max_tokens" if row.overlong else ""
        say(f"{row.ability}: {row.id} ({row.place}), {row.tokens} tokens, {row.trained} trained{long}")
        parts: list[tuple[str, str]] = []
        for trained, group in groupby(row.pieces, key=lambda piece: piece.trained):
            texts = [
                (f"<{safe(one.text)}:{one.control}>" if one.control else safe(one.text), bool(one.control))
                for one in group
            ]
            opened, closed = ("", "") if coloured or not trained else ("[[", "]]")
            parts += [
                (opened, ""),
                *((text, CONTROL if named else TRAINED if trained else "") for text, named in texts),
                (closed, ""),
            ]
        screen.print(_styled(*parts))
        screen.print()


def show_stats(found: Stats, written: str | None) -> None:
    """Lengths by ability, then the histogram of all."""
    from doitune.prepare.stats import histogram

    columns = [
        "ability",
        "rows",
        "shortest",
        "median",
        "mean",
        "p90",
        "p99",
        "longest",
        "trained",
        "over the limit",
    ]
    rows = [
        [
            line.name,
            f"{line.rows:,}",
            *(str(value) for value in (line.shortest, f"{line.median:g}")),
            f"{line.mean:.0f}",
            *(str(value) for value in (line.p90, line.p99, line.longest)),
            f"{100 * line.trained_share:.0f} %",
            str(line.over_limit),
        ]
        for line in found.lines
    ]
    show_table(columns, rows, title="lengths in tokens", right=range(1, 10))
    for line in histogram(found):
        say(line)
    if written:
        say(f"wrote {written}")
