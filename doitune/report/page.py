"""One self-contained HTML page about runs: what was asked, what was learnt from, how it went, what was gained
and how surely.

Reads run directories only (`read`), escapes by construction (`html`), draws inline SVG (`plots`), loads
nothing and runs nothing. Its parts: `scores`, then what the run's own records say (`records`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from doitune.report.html import Html, document, join, percent, table, tag
from doitune.report.read import RunView, Suite, view
from doitune.report.records import base_of, provenance, recipe, training
from doitune.report.scores import suite_parts
from doitune.report.style import STYLE
from doitune.run.folder import Run
from doitune.run.layout import BASE, PAGE
from doitune.system.doing import counted

CARD_SUITES = 2
"""Suites whose best score has a card at the head of a run."""


def page(runs: Sequence[Run]) -> str:
    """The page of these runs. Errors: CheckpointError for a damaged run."""
    views = [view(run) for run in counted("reading runs", runs)]
    title = views[0].name if len(views) == 1 else f"{len(views)} runs"
    parts: list[Html] = [tag("h1", title), _contents(views)] if len(views) > 1 else []
    parts += [_run(one, number) for number, one in enumerate(views, 1)]
    return document(f"{title} · doitune", STYLE, tag("main", *parts))


def default_path(runs: Sequence[Run]) -> Path:
    """Where the page goes by default: into the first run."""
    return runs[0].folder / PAGE


def _contents(views: Sequence[RunView]) -> Html:
    """The runs beside each other, each a link to its part."""
    rows = []
    for number, one in enumerate(views, 1):
        best = [_best(suite) for suite in one.suites]
        link = tag("a", one.name, href=f"#run-{number}")
        rows.append([link, one.state, base_of(one), ", ".join(best) or "not evaluated"])
    return tag("div", table(["run", "state", "base", "best mean, %"], rows, left=4), class_="contents")


def _best(suite: Suite) -> str:
    """The best score of the run's own checkpoints; the base's is said to be the base's."""
    own = [one for one in suite.scored if one.checkpoint != BASE]
    best = max(own or suite.scored, key=lambda one: one.table.mean.score)
    score = f"{suite.name} {percent(best.table.mean.score)}"
    asked = f" (partial: {best.report.n:,} of {best.report.total:,})" if best.report.partial else ""
    return score + asked + ("" if own else " (the base; no checkpoint is evaluated)")


def _run(one: RunView, number: int) -> Html:
    parts: list[Html] = [
        tag("h1", one.name, id=f"run-{number}"),
        tag("p", f"{one.state}; base {base_of(one) or 'unknown'}", class_="soft"),
        _cards(one),
    ]
    for suite in one.suites:
        parts += suite_parts(suite)
    if not one.suites:
        parts.append(tag("p", "Not evaluated yet: doitune eval shows what it gained.", class_="soft"))
    parts += [*training(one), *recipe(one), *provenance(one)]
    return tag("section", *parts)


def _cards(one: RunView) -> Html:
    """The run in a few figures."""
    cards = [card for suite in one.suites[:CARD_SUITES] for card in _score_cards(suite)]
    cards.append((f"{one.ledger.total().trained:,}", "examples learnt from"))
    if one.done:
        early = ", stopped early" if one.done.get("stopped_early") else ""
        steps, best = one.done.get("final_step", 0), one.done.get("best_step", 0)
        cards.append((f"{steps:,}", f"steps, best {best:,}{early}"))
    curves = one.curves
    if curves.loss:
        cards.append((f"{curves.loss[-1].value:.3f}", "last training loss, nats a token"))
        cards.append((_duration(curves.seconds), f"of steps, {curves.trained_tokens:,} tokens trained"))
    if curves.peak_memory_gib:
        planned = "" if curves.planned_gib is None else f", planned {curves.planned_gib:.1f} GiB"
        cards.append((f"{curves.peak_memory_gib:.1f} GiB", f"peak memory{planned}"))
    boxes = [tag("div", tag("b", value), tag("span", what), class_="card") for value, what in cards]
    return tag("div", join(boxes), class_="cards")


def _score_cards(suite: Suite) -> Iterator[tuple[str, str]]:
    """The best score, and by how much it is over the base's."""
    tuned = [one for one in suite.scored if one.checkpoint != BASE] or list(suite.scored)
    best = max(tuned, key=lambda one: one.table.mean.score)
    partial = ", partial" if best.report.partial else ""
    yield f"{percent(best.table.mean.score)} %", f"{suite.name}, {best.checkpoint}{partial}"
    base = next((one for one in suite.scored if one.checkpoint == BASE), None)
    if base is not None and base is not best and base.report.asked == best.report.asked:
        gain = 100 * (best.table.mean.score - base.table.mean.score)
        yield f"{gain:+.1f}", f"{suite.name}, points over the base"


def _duration(seconds: float) -> str:
    if (whole := round(seconds)) < 120:
        return f"{whole} s"
    return f"{whole / 60:.0f} min" if whole < 7200 else f"{whole / 3600:.1f} h"
