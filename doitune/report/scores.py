"""The scores of a suite on the page: a plot, tables, the comparison with the base, wrong answers to read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from doitune.ability import title_of
from doitune.evals.compare import Comparison, Pair
from doitune.evals.report import Mean, SetScore
from doitune.evals.saved import Line
from doitune.report.drawing import both_widths
from doitune.report.html import Html, cut, join, percent, table, tag
from doitune.report.plots import intervals
from doitune.report.read import Scored, Suite


def suite_parts(suite: Suite) -> list[Html]:
    """Scores with intervals and chance, the comparison, and answers to read."""
    parts: list[Html] = []
    for asked in dict.fromkeys(one.report.asked for one in suite.scored):
        parts += _table_of(suite.name, [one for one in suite.scored if one.report.asked == asked])
    parts += _notes(suite)
    if suite.comparison is not None:
        parts += [tag("h3", f"{suite.comparison.b} against the base"), _comparison(suite.comparison)]
    if suite.wrong:
        parts += [tag("h3", "Wrong answers to read"), *(_answer(line) for line in suite.wrong)]
    return parts


def _table_of(name: str, scored: Sequence[Scored]) -> list[Html]:
    """Evaluations that asked the same questions, beside each other."""
    report = scored[0].report
    shots = f", {report.shots} shots" if report.shots else ""
    some = f" (partial: {report.n:,} of {report.total:,} questions)" if report.partial else ""
    checkpoints = ", ".join(one.checkpoint for one in scored)
    caption = f"Dots: scores in %, with 95 % intervals ({checkpoints}; the base grey). Dashed: guessing."
    return [
        tag("h2", f"Scores: {name}{shots}{some}"),
        tag("figure", both_widths(partial(intervals, scored)), tag("figcaption", caption)),
        _scores(scored),
    ]


def _notes(suite: Suite) -> list[Html]:
    """What a reader of the scores must know, folded."""
    found = list(dict.fromkeys(f"{one.checkpoint}: {note}" for one in suite.scored for note in one.notes))
    if not found:
        return []
    summary = tag("summary", f"{len(found)} things to know about these scores")
    return [tag("details", summary, tag("ul", *(tag("li", note) for note in found)))]


def _scores(scored: Sequence[Scored]) -> Html:
    rows: list[list[object]] = []
    for number, first in enumerate(scored[0].table.sets):
        cells = [one.table.sets[number] for one in scored]
        rows.append([first.title, f"{first.n:,}", percent(first.chance), *map(_cell, cells)])
    mean, *others = (one.table.mean for one in scored)
    name = tag("b", f"mean of {mean.sets} sets")
    rows.append([name, f"{mean.n:,}", percent(mean.chance), *map(_cell, (mean, *others))])
    return table(["set", "questions", "chance %", *(f"{one.checkpoint}, %" for one in scored)], rows)


def _cell(one: SetScore | Mean | None) -> object:
    if one is None:
        return ""
    span = tag("span", f" [{percent(one.low)}–{percent(one.high)}]", class_="soft")
    guessing = [tag("span", " ≈ guessing", class_="mark")] if one.within_chance else []
    return join([percent(one.score), span, *guessing])


def _comparison(found: Comparison) -> Html:
    rows = [_pair(found.mean, found.mean.set, found.mean.mcnemar_p)]
    rows += [_pair(pair, title_of(pair.set), pair.holm_p) for pair in found.sets]
    columns = ["set", "verdict", "n", "base %", f"{found.b} %", "difference", "95 % interval", "p"]
    table_ = table([*columns, "flips", "detectable"], rows, left=2)
    flips = "flips: questions that gained, lost credit; detectable: the least difference to be seen"
    caption = tag(
        "figcaption", f"Exact paired tests of whole passages, Holm-corrected over the sets; {flips}."
    )
    return tag("figure", table_, caption)


def _pair(pair: Pair, title: str, p: float) -> list[object]:
    style = "good" if pair.low > 0 else "bad" if pair.high < 0 else "soft"
    return [
        title,
        pair.verdict,
        f"{pair.n:,}",
        percent(pair.score_a),
        percent(pair.score_b),
        tag("span", f"{100 * pair.difference:+.1f}", class_=style),
        f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}",
        f"{p:.3g}",
        f"+{pair.flips_up} −{pair.flips_down}",
        percent(pair.smallest_detectable),
    ]


def _answer(line: Line) -> Html:
    verdict, reply = line.verdicts["fixed"], line.reply
    parts = {
        "question": line.item.to_read,
        "right": line.item.label,
        "reply": "(not written: scored by the options' probabilities)" if reply.text is None else reply.text,
        "read as": f"{verdict.parsed}" + (f" ({verdict.how})" if verdict.how else ""),
    }
    shown = [
        piece
        for name, value in parts.items()
        for piece in (tag("b", name, class_="small soft"), tag("pre", cut(value)))
    ]
    return tag("details", tag("summary", f"{line.item.set}: {line.item.id}"), *shown)
