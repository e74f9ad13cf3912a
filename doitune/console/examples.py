"""What a corpus holds and what a recipe draws from it: ledgers, problems, previews, lengths."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from doitune.console.screen import out, say, show_table, styled
from doitune.system.units import several

if TYPE_CHECKING:
    from doitune.data.check import CheckReport
    from doitune.data.convert import Converted
    from doitune.prepare.preview import Piece, Row
    from doitune.prepare.stats import Stats
    from doitune.recipe.budget import Ledger

FIRST_PROBLEMS, FIRST_LEAKS, FIRST_IDS = 5, 10, 5
"""How many of each kind are shown; the rest is counted."""

TRAINED, CONTROL = "green", "bold magenta"
"""Styles of a preview's trained text and control tokens."""


def show_ledger(ledger: Ledger, title: str) -> None:
    """What a budget asked for, and what came of it, in rows."""
    columns, lines = ledger.table()
    rows = [[name, *(f"{count:,}" for count in counts)] for name, *counts in lines]
    show_table(columns, rows, title=title, right=range(1, len(columns)))


def show_draw(found: Mapping[str, Any], written: str | None) -> None:
    """The ledger of a draw, and the first ids. `written`: the file that has them all."""
    from doitune.recipe.budget import Ledger

    show_ledger(Ledger.from_json(found["ledger"]), f"recipe {found['recipe']}")
    ids = found["ids"]
    say(f"{several(len(ids), 'example')}; the first learnt from: {', '.join(ids[:FIRST_IDS])}")
    say(f"wrote the ids to {written}" if written else "--out FILE writes the ids, --json prints them")


def show_check(report: CheckReport) -> None:
    """Rows by source and ability, then what is wrong: the first of each kind, and how many."""
    rows = []
    for source, counts in report.rows.items():
        for name, count in counts.items():
            forms = ", ".join(f"{form} {n:,}" for form, n in count.forms.items())
            tokens = "" if count.tokens is None else f"{count.tokens.median} / {count.tokens.most}"
            rows.append([source, name, f"{count.rows:,}", forms, tokens])
    if rows:
        show_table(["source", "ability", "rows", "forms", "tokens, median / most"], rows, right=(2,))
    shown: Counter[str] = Counter()
    hints: set[str] = set()
    for one in report.problems:
        shown[one.kind] += 1
        if shown[one.kind] <= FIRST_PROBLEMS:
            fresh = one.hint and one.hint not in hints
            hints.add(one.hint)
            say(f"{one.place}: {one.problem}" + (f" ({one.hint})" if fresh else ""))
    for kind, number in shown.items():
        if number > FIRST_PROBLEMS:
            say(f"... and {number - FIRST_PROBLEMS:,} more of kind {kind}")
    for leak in report.leaks[:FIRST_LEAKS]:
        trained, judged = leak.train_place or leak.train_id, leak.other_place or leak.other_id
        say(f"leak: {trained} gives away {judged} ({100 * leak.coverage:.0f} %)")
    for form, number in report.forms.items():
        say(f"rows read as {form}: {number:,}")
    for note in report.notes:
        say(f"note: {note}")
    say(f"{several(len(report.problems), 'problem')}, {several(len(report.leaks), 'leak')}")


def show_converted(found: Converted) -> None:
    """What was written, and what was left out."""
    counts = ", ".join(f"{name} {number:,}" for name, number in found.abilities.items())
    say(f"wrote {found.rows:,} rows to {found.path}: {counts}")
    for form, number in found.forms.items():
        say(f"rows read as {form}: {number:,}")
    for one in found.refused[:FIRST_LEAKS]:
        say(f"left out: {one.place}: {one.problem}" + (f" ({one.hint})" if one.hint else ""))
    if found.refused[FIRST_LEAKS:]:
        say(f"... and {len(found.refused) - FIRST_LEAKS:,} more, which --json lists")


def show_preview(rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Rows in pieces: trained text green, control tokens by name; without colours trained text stands in
    brackets."""
    screen = out()
    coloured = screen.is_terminal and not os.environ.get("NO_COLOR")
    for row in rows:
        long = ", longer than train.max_tokens" if row.overlong else ""
        say(f"{row.ability}: {row.id} ({row.place}), {row.tokens} tokens, {row.trained} trained{long}")
        parts: list[tuple[str, str]] = []
        for trained, group in groupby(row.pieces, key=lambda piece: piece.trained):
            opened, closed = ("", "") if coloured or not trained else ("[[", "]]")
            parts += [(opened, ""), *map(_piece, group), (closed, "")]
        screen.print(styled(*parts))
        screen.print()
    for note in notes:
        say(f"note: {note}")


def _piece(one: Piece) -> tuple[str, str]:
    """A piece's text and its style."""
    if one.control:
        return f"<{one.text}:{one.control}>", CONTROL
    return one.text, TRAINED if one.trained else ""


def show_stats(found: Stats, written: str | None) -> None:
    """Lengths by ability, then the histogram of all. `written`: the file that has the picture."""
    from doitune.prepare.histogram import histogram

    columns = ["ability", "rows", "shortest", "median", "mean", "p90", "p99", "longest", "trained"]
    rows = [
        [
            line.name,
            f"{line.rows:,}",
            str(line.shortest),
            f"{line.median:g}",
            f"{line.mean:.0f}",
            *map(str, (line.p90, line.p99, line.longest)),
            f"{100 * line.trained_share:.0f} %",
            str(line.over_limit),
        ]
        for line in found.lines
    ]
    columns.append("over the limit")
    show_table(columns, rows, title="lengths in tokens", right=range(1, len(columns)))
    for line in histogram(found):
        say(line)
    if written:
        say(f"wrote {written}")
