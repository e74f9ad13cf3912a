"""A report as Markdown: scores, notes that must not be missed, and answers to read. Text from models and
data is escaped, never markup."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from doitune.errors import UsageError
from doitune.evals.report import Mean, Report, SetScore, Table
from doitune.evals.saved import Line, read_lines
from doitune.evals.suites.files import missing_sets
from doitune.system.visible import visible

MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|~^$=:@])")


def escape(text: str, at_most: int = 400) -> str:
    """Text that Markdown and HTML show as it is, on one line: markup escaped, line breaks as ⏎, hidden
    characters as their codes; longer ones than `at_most` characters are cut with a count."""
    plain = visible(text[:at_most].replace("\n", " ⏎ "), kept="")
    cut = f" … ({len(text)} characters)" if len(text) > at_most else ""
    return MARKUP.sub(r"\\\1", html.escape(plain, quote=False)) + cut


def report_markdown(report: Report, *, wrong: Sequence[Line] = ()) -> str:
    """The whole page: one table for each protocol, the notes, and wrong answers where they are given."""
    shots = f", {report.shots} shots" if report.shots else ""
    parts = [f"# {escape(report.suite)}{shots}", _who(report.identity)]
    if report.partial:
        parts.append(f"**Partial: {report.n} of {report.total} questions.**")
    if lacking := missing_sets(report.suite, [one.name for one in report.sets]):
        parts.append(
            f"**{len(lacking)} sets of {escape(report.suite)} are not in the data that was given, "
            f"first {escape(lacking[0])}.**"
        )
    if report.batching:
        parts.append(escape(report.batching) + ".")
    for table in report.tables:
        parts += [f"## Protocol `{table.protocol}`", _table(table), _notes(table)]
    if len(report.tables) > 1:
        parts.append(_delta(report.tables[0], report.tables[1]))
    if wrong:
        parts.append(answers_markdown(wrong))
    return "\n\n".join(part for part in parts if part) + "\n"


def _who(identity: Mapping[str, str]) -> str:
    return "\n".join(f"- {escape(key)}: {escape(value)}" for key, value in identity.items())


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _table(table: Table) -> str:
    """Sets, then the named means."""
    head = ["set", "n", "score %", "95 % interval", "chance %", "unread", "too long"]
    rows = [_set_row(one) for one in table.sets]
    rows += [
        *(_mean_row(escape(name), mean) for name, mean in table.groups.items()),
        _mean_row("**mean of the headline sets**", table.mean),
        _mean_row("mean of all sets", table.mean_all),
        _mean_row("all questions (micro)", table.micro),
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _set_row(one: SetScore) -> list[str]:
    mark = " ⚠" if one.within_chance or one.unread_marked else ""
    span = f"{_percent(one.low)} – {_percent(one.high)}"
    return [
        escape(one.name),
        str(one.n),
        _percent(one.score) + mark,
        span,
        _percent(one.chance),
        str(one.unread),
        str(one.too_long),
    ]


def _mean_row(name: str, mean: Mean) -> list[str]:
    span = f"{_percent(mean.low)} – {_percent(mean.high)}"
    return [
        name,
        str(mean.n),
        _percent(mean.score) + (" ⚠" if mean.within_chance else ""),
        span,
        _percent(mean.chance),
        "",
        "",
    ]


def notes(table: Table) -> list[str]:
    """What a reader of these scores must know, in sentences: sets within chance, unread or overlong
    replies, one-sided choices."""
    found = []
    guessed = [one.name for one in table.sets if one.within_chance]
    if guessed:
        found.append(f"Guessing lies inside the interval of {', '.join(guessed)}: these scores show nothing.")
    for one in table.sets:
        if one.unread_marked:
            found.append(f"{one.name}: {one.unread} of {one.n} replies held no answer that could be read.")
        if one.too_long:
            found.append(f"{one.name}: {one.too_long} questions were too long to ask and count as wrong.")
        if one.free:
            found.append(
                f"{one.name}: {one.free} free answers are scored by chrF, the runs of characters that they "
                f"share with the row's own answer{f' ({one.measured})' if one.measures else ''}."
            )
        if one.fewer_shots:
            found.append(
                f"{one.name}: {one.fewer_shots} of {one.n} prompts had no room for all of their examples."
            )
        if one.fallback:
            found.append(
                f"{one.name}: {one.fallback} replies named no option and were read by option scores."
            )
        favourite = _favourite(one)
        if favourite:
            found.append(favourite)
    if table.mean_as_released is not None:
        found.append(
            f"The released scorer prints half of the mean of all sets: {_percent(table.mean_as_released)}."
        )
    return found


def _favourite(one: SetScore) -> str:
    """A letter that is chosen far more often than it is right."""
    total = sum(one.chosen.values())
    for letter, count in one.chosen.items():
        gold = one.gold.get(letter, 0) / max(1, sum(one.gold.values()))
        if total >= 20 and count / total > gold + 0.25:
            chosen = f"{letter} is chosen in {count} of {total} questions"
            return f"{one.name}: {chosen} and right in {_percent(gold)} %."
    return ""


def _notes(table: Table) -> str:
    return "\n".join(f"- {escape(note)}" for note in notes(table))


def _delta(fixed: Table, paper: Table) -> str:
    """What the protocol alone changes."""
    other = {one.name: one.score for one in paper.sets}
    moved = [
        (one.name, other[one.name] - one.score)
        for one in fixed.sets
        if one.name in other and other[one.name] != one.score
    ]
    mean = 100 * (paper.mean.score - fixed.mean.score)
    head = f"## `{paper.protocol}` against `{fixed.protocol}`: the mean moves by {mean:+.1f}"
    return "\n".join([head, *(f"- {escape(name)}: {100 * change:+.1f}" for name, change in moved)])


def wrong_answers(folder: Path, *, protocol: str = "fixed", only: str = "", at_most: int = 20) -> list[Line]:
    """Saved questions that did not earn all of their credit under `protocol`, by id; of one set where `only`
    names it."""
    lines = sorted(read_lines(folder).values(), key=lambda line: line.item.id)
    names = sorted({line.item.set for line in lines})
    if only and only not in names:
        raise UsageError(f"{folder} has no set {only!r}", f"it has {', '.join(names)}")
    wrong = [line for line in lines if line.verdicts[protocol].correct < 1 and only in ("", line.item.set)]
    return wrong[:at_most]


def answers_markdown(lines: Sequence[Line], protocol: str = "fixed") -> str:
    """Questions, replies and verdicts to read."""
    parts = ["## Answers to read"]
    for line in lines:
        verdict, reply = line.verdicts[protocol], line.reply
        said = reply.text if reply.text is not None else "(not written: scores only)"
        parts.append(
            f"### {escape(line.item.id)}\n\n- question: {escape(line.item.to_read)}\n"
            f"- right: {escape(line.item.label)}\n- reply: {escape(said)}\n"
            f"- read as: {escape(str(verdict.parsed))} ({escape(verdict.how) or 'plain'})"
        )
    return "\n\n".join(parts)
