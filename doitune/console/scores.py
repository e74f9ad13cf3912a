"""Evaluations and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doitune.ability import title_of
from doitune.console.screen import say, show_table
from doitune.evals.report import held_in
from doitune.evals.suites.files import missing_sets

if TYPE_CHECKING:
    from pathlib import Path

    from doitune.evals.compare import Comparison, Pair
    from doitune.evals.evaluation import Evaluation
    from doitune.evals.judge import Judgement
    from doitune.evals.report import Mean, SetScore, Table
    from doitune.run.folder import Run


def show_evaluations(evaluations: Sequence[Evaluation], protocols: Sequence[str] = ("fixed",)) -> None:
    """A table for each suite, number of shots and protocol: a set a line, the base beside the checkpoints,
    intervals and chance. Evaluations that asked other numbers of questions stand in tables of their own."""
    for asked in dict.fromkeys(one.report.asked for one in evaluations):
        same = [one for one in evaluations if one.report.asked == asked]
        for protocol in protocols:
            _show(same, protocol)
        _show_delta(same)
        _show_free(same)
        _notes(same)


def show_next(asked: Sequence[Run | None], runs: Path) -> None:
    """What to do after an evaluation of one run; `runs` is where the command looks for runs."""
    from doitune.run.find import command

    if len(asked) == 1 and asked[0] is not None:
        if asked[0].done() is None:
            say(f"next: {command('resume', asked[0], runs)}")
            return
        say(f"talk to it: {command('chat', asked[0], runs)}")
        say(f"next: {command('report', asked[0], runs)}")


def _show(evaluations: Sequence[Evaluation], protocol: str) -> None:
    tables = [one.report.table(protocol) for one in evaluations]
    report = evaluations[0].report
    columns = ["set", "n", "chance", *(one.checkpoint for one in evaluations)]
    rows = []
    for number, first in enumerate(tables[0].sets):
        cells = [table.sets[number] for table in tables]
        rows.append(
            [first.title, str(first.n), f"{100 * first.chance:.0f}", *(_cell(cell) for cell in cells)]
        )
    rows += _mean_rows(tables)
    shots = f", {report.shots} shots" if report.shots else ""
    partial = f" (partial: {report.n} of {report.total} questions)" if report.partial else ""
    targets = ", ".join(dict.fromkeys(one.target for one in evaluations))
    show_table(
        columns, rows, title=f"{report.suite}{shots}{partial}: {targets}", right=range(1, len(columns))
    )
    marks = "≈ marks a score that guessing could give, ? one with many unread replies"
    say(f"protocol {protocol}; scores in %, with 95 % intervals; {marks}")
    for held in dict.fromkeys(filter(None, (held_in(one.report.identity) for one in evaluations))):
        say(f"asked of {held}")


def _mean_rows(tables: Sequence[Table]) -> list[list[str]]:
    """The headline mean, the mean over all sets where that is another, means of groups, and the mean over
    questions."""
    first = tables[0]
    kind = "abilities" if first.mean.sets < len(first.sets) else "sets"
    rows = [_mean_row(f"mean of {first.mean.sets} {kind} (macro)", [t.mean for t in tables])]
    if first.mean_all.sets != first.mean.sets:
        rows.append(_mean_row(f"mean of all {first.mean_all.sets} sets", [t.mean_all for t in tables]))
    rows += [_mean_row(f"mean of {name}", [t.groups[name] for t in tables]) for name in first.groups]
    if first.mean.sets == len(first.sets):
        rows.append(_mean_row("mean over questions (micro)", [t.micro for t in tables]))
    return rows


def _mean_row(name: str, means: Sequence[Mean]) -> list[str]:
    return [name, str(means[0].n), f"{100 * means[0].chance:.0f}", *(_cell(mean) for mean in means)]


def _cell(score: SetScore | Mean) -> str:
    mark = "≈" if score.within_chance else "?" if getattr(score, "unread_marked", False) else " "
    return f"{100 * score.score:.1f}{mark}[{100 * score.low:2.0f}-{100 * score.high:3.0f}]"


def _show_delta(evaluations: Sequence[Evaluation]) -> None:
    """What the protocol alone changes; nothing where every question is a free answer, which both read."""
    for one in evaluations:
        if all(line.free == line.n for line in one.report.sets):
            continue
        fixed, paper = (one.report.table(protocol).mean.score for protocol in ("fixed", "paper"))
        delta = f"delta {100 * (fixed - paper):+.1f}"
        say(f"{one.checkpoint}: fixed {100 * fixed:.1f}, paper {100 * paper:.1f}, {delta}")


def _show_free(evaluations: Sequence[Evaluation]) -> None:
    """Free answers: what is measured of them, a set a line for each model."""
    rows = []
    for first in (line for line in evaluations[0].report.sets if line.free):
        for one in evaluations:
            line = next(line for line in one.report.sets if line.name == first.name)
            found = line.measures
            shares = [f"{100 * found[name]:.1f}" if name in found else "" for name in ("exact", "rouge_l")]
            loss = f"{found['loss']:.3f}" if "loss" in found else ""
            rows.append(
                [line.own_title or title_of(line.name), one.checkpoint, str(line.free), *shares, loss]
            )
    if rows:
        columns = ["free answers", "model", "n", "exact %", "ROUGE-L %", "loss, nats a token"]
        show_table(columns, rows, right=(2, 3, 4, 5))
        say(
            "chrF, the score of a free answer, is the runs of characters that it shares with the row's own "
            "answer; it does not know what they mean. The loss is of the row's own answer."
        )


def _notes(evaluations: Sequence[Evaluation]) -> None:
    """What a reader of the numbers must know."""
    for one in evaluations:
        report, sets = one.report, one.report.sets
        counts = ("unread", "too_long", "fewer_shots")
        unread, too_long, fewer = (sum(getattr(line, name) for line in sets) for name in counts)
        found = []
        if lacking := missing_sets(report.suite, [line.name for line in sets]):
            sets_of = f"{len(lacking)} sets of {report.suite}"
            found.append(f"{sets_of} are not in the data that was given, first {lacking[0]}")
        if report.batching:
            found.append(report.batching)
        if unread:
            replies = f"{unread} of {report.n} replies have no answer that could be read"
            found.append(f"{replies} (scored wrong)")
        if too_long:
            found.append(f"{too_long} questions are longer than the model's context (scored wrong)")
        if fewer:
            found.append(f"{fewer} questions were asked with fewer shots, to fit the context")
        for text in found:
            say(f"{one.checkpoint}: {text}")
        if one.leaks:
            rows = f"{one.leaks} rows that {one.checkpoint} learnt from leak into judged sets"
            say(f"warning: {rows}; its scores are too high")
        if one.stopped_at is not None:
            so_far = f"it stands at step {one.stopped_at}; `doitune resume` goes on with it"
            say(f"warning: {one.target} is not whole: {so_far}")
        if report.mean.within_chance:
            say(f"warning: the mean of {one.checkpoint} is within what guessing gives")


def show_comparisons(found: Sequence[Comparison]) -> None:
    """Paired differences, a table for each pair."""
    for one in found:
        columns = ["set", "n", "A", "B", "B - A", "95 % interval", "p", "flips", "detectable", "verdict"]
        if one.margin is not None:
            columns.append(f"worse by at most {100 * one.margin:g}")
        rows = [_pair_row(one, pair) for pair in (one.mean, *one.sets)]
        show_table(columns, rows, title=f"{one.suite}: A = {one.a}, B = {one.b}", right=range(1, 9))
        flips = "flips: questions that gained, lost credit"
        say(f"scores in %; {_test(one)}, Holm-corrected over the sets; {flips}")
        if one.other_values:
            say(one.other_values)
        if one.unpaired:
            say(f"{one.unpaired} questions were answered by one side only and are left out")


def _test(found: Comparison) -> str:
    """The test of a comparison by its name: McNemar's is of answers that are right or wrong."""
    if not found.mean.free:
        return "exact paired test (McNemar's; passages as a whole)"
    some = "" if found.mean.free == found.mean.n else f" of {found.mean.free} free answers"
    return f"credit{some} is chrF; exact paired test by sign flips of the changes of credit"


def _pair_row(found: Comparison, pair: Pair) -> list[str]:
    p = pair.mcnemar_p if pair.set == found.mean.set else pair.holm_p
    return [
        f"{pair.set} (chrF)" if pair.free and pair.set != found.mean.set else pair.set,
        str(pair.n),
        f"{100 * pair.score_a:.1f}",
        f"{100 * pair.score_b:.1f}",
        f"{100 * pair.difference:+.1f}",
        f"[{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]",
        f"{p:.3g}",
        f"+{pair.flips_up} -{pair.flips_down}",
        f"{100 * pair.smallest_detectable:.1f}",
        pair.verdict,
        *([] if found.margin is None else [found.against_margin(pair)]),
    ]


def show_judgements(found: Sequence[Judgement]) -> None:
    """What a judge preferred, a table for each pair."""
    for a, b, judge in dict.fromkeys((one.a, one.b, one.judge) for one in found):
        lines = [one for one in found if (one.a, one.b) == (a, b)]
        columns = ["set", "n", "A wins", "B wins", "ties", "B's share", "95 % interval", "p"]
        rows = [
            [
                one.set,
                str(one.n),
                str(one.wins_a),
                str(one.wins_b),
                str(one.ties),
                f"{100 * one.share_b:.1f}",
                f"[{100 * one.low:.0f}-{100 * one.high:.0f}]",
                f"{one.p:.3g}",
            ]
            for one in lines
        ]
        show_table(columns, rows, title=f"judged by {judge}: A = {a}, B = {b}", right=range(1, len(columns)))
        turned, unread = (sum(getattr(one, name) for one in lines[:1]) for name in ("turned", "unread"))
        say(
            "a win holds in both orders; B's share counts ties as half; exact sign test; of the ties "
            f"{turned} changed with the order and {unread} could not be read"
        )
