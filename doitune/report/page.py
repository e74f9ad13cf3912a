"""One self-contained HTML page about runs: what was asked, what was learnt from, how it went, what was gained
and how surely.

Reads run directories only (`read`), escapes by construction (`html`), draws inline SVG (`plots`), loads
nothing and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doitune.ability import BY_NAME
from doitune.evals.compare import Comparison, Pair
from doitune.evals.report import Mean, SetScore
from doitune.evals.saved import Line
from doitune.recipe.nodes import Fields, Items, Node, Scalar
from doitune.recipe.yaml_text import read_bytes
from doitune.report.html import Html, document, join, table, tag
from doitune.report.plots import curves, intervals
from doitune.report.read import BASE, RunView, Scored, Suite, view
from doitune.report.style import STYLE
from doitune.run.folder import Run

SHOWN_CHARACTERS = 1_500
"""Of one question or reply; longer ones are cut with a count."""


def page(runs: Sequence[Run]) -> str:
    """The page of these runs. Errors: CheckpointError for a damaged run."""
    views = [view(run) for run in runs]
    title = views[0].name if len(views) == 1 else f"{len(views)} runs"
    parts: list[object] = [tag("h1", title), _contents(views)] if len(views) > 1 else []
    parts += [_run(one, number) for number, one in enumerate(views, 1)]
    return document(f"{title} · doitune", STYLE, tag("main", *parts))


def default_path(runs: Sequence[Run]) -> Path:
    """Where the page goes unless said otherwise: into the first run."""
    return runs[0].folder / "report.html"


def _contents(views: Sequence[RunView]) -> Html:
    """The runs beside each other, each a link to its part."""
    rows = []
    for number, one in enumerate(views, 1):
        best = [
            f"{suite.name} {_percent(max(line.table.mean.score for line in suite.scored))}"
            for suite in one.suites
        ]
        rows.append(
            [
                tag("a", one.name, href=f"#run-{number}"),
                one.state,
                _of(one.origin, "base", "name"),
                ", ".join(best) or "not evaluated",
            ]
        )
    return table(["run", "state", "base", "best mean, %"], rows, left=4)


def _run(one: RunView, number: int) -> Html:
    parts: list[object] = [
        tag("h1", one.name, id=f"run-{number}"),
        tag("p", f"{one.state}; base {_of(one.origin, 'base', 'name') or 'unknown'}", class_="soft"),
        _cards(one),
    ]
    for suite in one.suites:
        parts += _suite(suite)
    if not one.suites:
        parts.append(tag("p", "Not evaluated yet: doitune eval shows what it gained.", class_="soft"))
    parts += [*_training(one), *_ledger(one), *_recipe(one), *_provenance(one)]
    return tag("section", *parts)


def _cards(one: RunView) -> Html:
    cards = []
    for suite in one.suites[:2]:
        tuned = [line for line in suite.scored if line.checkpoint != BASE] or list(suite.scored)
        best = max(tuned, key=lambda line: line.table.mean.score)
        cards.append((f"{_percent(best.table.mean.score)} %", f"{suite.name}, {best.checkpoint}"))
        base = next((line for line in suite.scored if line.checkpoint == BASE), None)
        if base is not None and base is not best:
            cards.append(
                (
                    f"{100 * (best.table.mean.score - base.table.mean.score):+.1f}",
                    f"{suite.name}, points over the base",
                )
            )
    examples = sum(line.get("trained", 0) for line in one.ledger.values())
    cards.append((f"{examples:,}", "examples learnt from"))
    if one.done:
        early = ", stopped early" if one.done.get("stopped_early") else ""
        cards.append(
            (f"{one.done.get('final_step', 0):,}", f"steps, best {one.done.get('best_step', 0):,}{early}")
        )
    if one.curves.loss:
        cards.append((f"{one.curves.loss[-1].value:.3f}", "last training loss, nats a token"))
        cards.append(
            (_duration(one.curves.seconds), f"of steps, {one.curves.trained_tokens:,} tokens trained")
        )
    if one.curves.peak_memory_gib:
        beside = f", planned {one.curves.planned_gib:.1f} GiB" if one.curves.planned_gib is not None else ""
        cards.append((f"{one.curves.peak_memory_gib:.1f} GiB", f"peak memory{beside}"))
    return tag(
        "div",
        *(tag("div", tag("b", value), tag("span", what), class_="card") for value, what in cards),
        class_="cards",
    )


def _suite(suite: Suite) -> list[Html]:
    """Scores with intervals and chance, the comparison, and answers to read."""
    report, titles = suite.scored[0].report, {name: known.title for name, known in BY_NAME.items()}
    shots = f", {report.shots} shots" if report.shots else ""
    partial = f" (partial: {report.n:,} of {report.total:,} questions)" if report.partial else ""
    parts = [tag("h2", f"Scores: {suite.name}{shots}{partial}")]
    caption = f"Dots: scores in %, with 95 % intervals ({', '.join(one.checkpoint for one in suite.scored)}; the base grey). Dashed: guessing."
    parts.append(tag("figure", intervals(suite.scored, titles), tag("figcaption", caption)))
    parts.append(_scores(suite.scored, titles))
    said = list(
        dict.fromkeys(
            note for one in suite.scored for note in (f"{one.checkpoint}: {found}" for found in one.notes)
        )
    )
    if said:
        parts.append(
            tag(
                "details",
                tag("summary", f"{len(said)} things to know about these scores"),
                tag("ul", *(tag("li", note) for note in said)),
            )
        )
    if suite.comparison is not None:
        parts += [tag("h3", f"{suite.comparison.b} against the base"), _comparison(suite.comparison, titles)]
    if suite.wrong:
        parts += [tag("h3", "Wrong answers to read"), *(_answer(line) for line in suite.wrong)]
    return parts


def _scores(scored: Sequence[Scored], titles: Mapping[str, str]) -> Html:
    rows: list[list[object]] = []
    for number, first in enumerate(scored[0].table.sets):
        cells = [one.table.sets[number] if number < len(one.table.sets) else None for one in scored]
        rows.append(
            [
                titles.get(first.name, first.name),
                f"{first.n:,}",
                _percent(first.chance),
                *(_cell(cell) for cell in cells),
            ]
        )
    means = [one.table.mean for one in scored]
    rows.append(
        [
            tag("b", f"mean of {means[0].sets} sets"),
            f"{means[0].n:,}",
            _percent(means[0].chance),
            *(_cell(mean) for mean in means),
        ]
    )
    return table(["set", "questions", "chance %", *(f"{one.checkpoint}, %" for one in scored)], rows)


def _cell(one: SetScore | Mean | None) -> object:
    if one is None:
        return ""
    span = tag("span", f" [{_percent(one.low)}–{_percent(one.high)}]", class_="soft")
    return join(
        [
            _percent(one.score),
            span,
            *([tag("span", " ≈ guessing", class_="mark")] if one.within_chance else []),
        ]
    )


def _comparison(found: Comparison, titles: Mapping[str, str]) -> Html:
    rows = [_pair(found.mean, found.mean.set, found.mean.mcnemar_p)]
    rows += [_pair(pair, titles.get(pair.set, pair.set), pair.holm_p) for pair in found.sets]
    columns = [
        "set",
        "verdict",
        "n",
        "base %",
        f"{found.b} %",
        "difference",
        "95 % interval",
        "p",
        "flips",
        "detectable",
    ]
    caption = "Exact McNemar, Holm-corrected over the sets; flips: wrong to right, right to wrong; detectable: the least difference to be seen."
    return tag("figure", table(columns, rows, left=2), tag("figcaption", caption))


def _pair(pair: Pair, title: str, p: float) -> list[object]:
    style = "good" if pair.low > 0 else "bad" if pair.high < 0 else "soft"
    scores = [
        _percent(pair.score_a),
        _percent(pair.score_b),
        tag("span", f"{100 * pair.difference:+.1f}", class_=style),
    ]
    interval = f"{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"
    flips = f"+{pair.flips_up} −{pair.flips_down}"
    return [
        title,
        pair.verdict,
        f"{pair.n:,}",
        *scores,
        interval,
        f"{p:.3g}",
        flips,
        _percent(pair.smallest_detectable),
    ]


def _answer(line: Line) -> Html:
    verdict, reply = line.verdicts["fixed"], line.reply
    said = reply.text if reply.text is not None else "(not written: scored by the options' probabilities)"
    read = f"{verdict.parsed}" + (f" ({verdict.note})" if verdict.note else "")
    parts = [("question", line.item.to_read), ("right", line.item.label), ("reply", said), ("read as", read)]
    shown = [
        piece
        for name, value in parts
        for piece in (tag("b", name, class_="small soft"), tag("pre", _cut(value)))
    ]
    return tag("details", tag("summary", f"{line.item.set}: {line.item.id}"), *shown)


def _training(one: RunView) -> list[Html]:
    found = one.curves
    if not found.loss and not found.validation:
        return []
    caption = "Blue: training loss in nats a trained token, faint each step, strong its running mean. Amber: validation loss. Across: steps."
    parts = [
        tag("h2", "Training"),
        tag("figure", curves(found.loss, found.validation), tag("figcaption", caption)),
    ]
    if found.score:
        scores = [type(point)(point.step, 100 * point.value) for point in found.score]
        parts.append(
            tag(
                "figure",
                curves((), scores, height=160),
                tag("figcaption", "Validation score, %, over steps."),
            )
        )
    if len(found.abilities) > 1:
        titles = {name: known.title for name, known in BY_NAME.items()}
        plots = [
            curves((), points, height=130, width=280, title=titles.get(name, name))
            for name, points in found.abilities.items()
            if points
        ]
        parts += [tag("h3", "Validation loss by ability"), tag("div", *plots, class_="small-plots")]
    return parts


def _ledger(one: RunView) -> list[Html]:
    if not one.ledger:
        return []
    names = ("asked", "found", "kept", "truncated", "trained")
    rows = [[name, *(f"{line.get(key, 0):,}" for key in names)] for name, line in one.ledger.items()]
    rows.append(
        ["together", *(f"{sum(line.get(key, 0) for line in one.ledger.values()):,}" for key in names)]
    )
    return [tag("h2", "What it learnt from"), table(["ability", *names], rows)]


def _recipe(one: RunView) -> list[Html]:
    """The resolved recipe, a section a fold; text that is no recipe as it stands."""
    from doitune.errors import RecipeError

    try:
        tree = read_bytes(one.recipe.encode("utf-8", "replace"), "recipe.yaml")
    except RecipeError:
        return [tag("h2", "Recipe"), tag("pre", _cut(one.recipe))]
    sections = [(key, node) for key, node in tree.entries.items() if isinstance(node, Fields)]
    plain = Fields({key: node for key, node in tree.entries.items() if not isinstance(node, Fields)})
    folds = [tag("details", tag("summary", key), _pairs(_flat(node))) for key, node in sections]
    return [tag("h2", "Recipe"), _pairs(_flat(plain)), *folds]


def _flat(tree: Fields, prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, node in tree.entries.items():
        found.update(
            _flat(node, f"{prefix}{key}.") if isinstance(node, Fields) else {prefix + key: _value(node)}
        )
    return found


def _value(node: Node) -> str:
    if isinstance(node, Items):
        return ", ".join(_value(item) for item in node.items)
    return node.text if isinstance(node, Scalar) else ""


def _provenance(one: RunView) -> list[Html]:
    origin = one.origin
    versions = ", ".join(f"{name} {version}" for name, version in _mapping(origin.get("versions")).items())
    pairs: dict[str, object] = {
        "base": f"{_of(origin, 'base', 'name')} {_of(origin, 'base', 'revision')}".strip(),
        "versions": versions,
        "machine": f"{origin.get('platform', '')}; {origin.get('backend', '')} on {origin.get('device', '')}",
        "command": " ".join(map(str, origin.get("command") or []))
        if isinstance(origin.get("command"), list)
        else "",
        "data": _of(origin, "data", "corpus"),
        "rows that leak into judged sets": _of(origin, "data", "leaks"),
        "encoder": _of(origin, "encoder", "fingerprint"),
    }
    files = {
        **_mapping(_mapping(origin.get("base")).get("files")),
        **_mapping(_mapping(origin.get("data")).get("files")),
    }
    digests = tag(
        "details",
        tag("summary", f"sha256 of {len(files)} files"),
        table(["file", "sha256"], files.items(), left=2),
    )
    return [tag("h2", "Where it comes from"), _pairs(pairs), digests]


def _pairs(pairs: Mapping[str, object]) -> Html:
    return tag(
        "dl", *(piece for name, value in pairs.items() for piece in (tag("dt", name), tag("dd", value)))
    )


def _of(document: Mapping[str, Any], part: str, key: str) -> str:
    value = _mapping(document.get(part)).get(key, "")
    return str(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole} s" if whole < 120 else f"{whole / 60:.0f} min" if whole < 7200 else f"{whole / 3600:.1f} h"
    )


def _cut(value: object) -> str:
    said = str(value)
    return (
        said if len(said) <= SHOWN_CHARACTERS else f"{said[:SHOWN_CHARACTERS]} … ({len(said):,} characters)"
    )
