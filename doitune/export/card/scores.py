"""The scores of a checkpoint in its card: each suite under each protocol, with intervals, beside its base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.data.corpus import KNOWN
from doitune.data.suites import CORPUS_SUITES
from doitune.errors import DoituneError
from doitune.evals.compare import MEAN, Pair, compare, read_side
from doitune.evals.markdown import escape, notes
from doitune.evals.report import Mean, Report, SetScore, Table
from doitune.export.card.handed import percent, plain, table
from doitune.run.layout import BASE, OF_CORPUS, reports
from doitune.run.log import VALIDATION
from doitune.system.json_records import read_object

if TYPE_CHECKING:
    from doitune.export.source import Source

PROTOCOLS = {
    "fixed": "replies read by doitune's own rules",
    "paper": "replies read as the paper's released code reads them, faults included",
}


@dataclass(frozen=True)
class Scored:
    """One suite that the checkpoint was asked. `name`: of its folder; `base`: the same questions asked of the
    bare base, or None."""

    name: str
    own: Report
    folder: Path
    base: Report | None
    base_folder: Path


def read_scores(source: Source) -> list[Scored]:
    """Every suite that the checkpoint was asked, by name; a report that cannot be read is left out."""
    checkpoint = source.checkpoint.folder.name
    found: dict[str, dict[str, tuple[Report, Path]]] = {}
    for path in reports(source.run.folder):
        if path.parent.name in (checkpoint, BASE):
            suite = found.setdefault(path.parent.parent.name, {})
            try:
                suite[path.parent.name] = Report.from_json(read_object(path)), path.parent
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                continue
    scored = []
    for name, both in found.items():
        if checkpoint in both:
            own, folder = both[checkpoint]
            base, base_folder = both.get(BASE, (None, folder))
            same = base is not None and base.asked == own.asked
            scored.append(Scored(name, own, folder, base if same else None, base_folder))
    return scored


def scores(source: Source, found: Sequence[Scored]) -> list[str]:
    """A part for each suite, then the validation."""
    parts = [part for one in found for part in _suite(source, one)]
    if parts:
        parts.insert(
            0,
            "In %, with 95 % intervals in brackets; asked of the adapter on its base as it was trained. "
            "`difference`: to the bare base, question by question; p by paired tests, Holm-corrected over "
            "the sets.",
        )
    else:
        parts.append("This checkpoint was asked no suite of questions (`doitune eval`).")
    step = source.checkpoint.step
    for line in [one for one in source.run.log.lines(VALIDATION) if one["step"] == step][-1:]:
        score = "" if line["score"] is None else f", score {percent(line['score'])} %"
        parts.append(f"Validation: loss {line['loss']:.4f} nats a token{score}.")
    return parts


def questions_of(source: Source, scored: Scored) -> str:
    """The corpus whose rows a suite asks; "" for a benchmark, which has its own."""
    if scored.own.suite not in CORPUS_SUITES:
        return ""
    _, _, named = scored.name.partition(OF_CORPUS)
    places = [one.place for one in source.recipe.data.corpora]
    return named or (" and ".join(places) if {*places} <= {*KNOWN} else "its author's rows")


def _suite(source: Source, scored: Scored) -> list[str]:
    own = scored.own
    shots = f", {own.shots} shots" if own.shots else ""
    parts = [f"### {plain(scored.name)}{shots}"]
    if corpus := questions_of(source, scored):
        parts.append(f"The questions are of {plain(corpus)}: every corpus has a `{own.suite}` of its own.")
    if own.partial:
        parts.append(f"Partial: {own.n} of {own.total} questions.")
    for one in own.tables:
        parts.append(f"Protocol `{one.protocol}`: {PROTOCOLS.get(one.protocol, 'as recorded')}.")
        parts.append(_table(one, _before(scored, one.protocol), _pairs(scored, one.protocol)))
        if said := notes(one):
            parts.append("\n".join(f"- {escape(note)}" for note in said))
    return parts


def _before(scored: Scored, protocol: str) -> Table | None:
    """The base's table of a protocol."""
    return next(
        (one for one in (scored.base.tables if scored.base else ()) if one.protocol == protocol), None
    )


def _pairs(scored: Scored, protocol: str) -> Mapping[str, Pair]:
    """The paired comparison with the base, by set; empty where there is none."""
    if scored.base is None:
        return {}
    try:
        sides = [read_side(folder, protocol=protocol) for folder in (scored.base_folder, scored.folder)]
        found = compare(sides[0], sides[1], protocol=protocol)
    except (DoituneError, KeyError):
        return {}
    return {pair.set: pair for pair in (found.mean, *found.sets)}


def _table(own: Table, before: Table | None, pairs: Mapping[str, Pair]) -> str:
    """The sets of one protocol."""
    base = {one.name: one for one in before.sets} if before else {}
    columns = (
        "set",
        "n",
        "chance",
        *(("base",) if base else ()),
        "trained",
        *(("difference",) if pairs else ()),
    )
    rows = [_row(plain(one.title), one, base.get(one.name), pairs.get(one.name), columns) for one in own.sets]
    rows.append(_row("**mean**", own.mean, before.mean if before else None, pairs.get(MEAN), columns))
    return table(columns, rows)


def _row(
    name: str,
    own: SetScore | Mean,
    before: SetScore | Mean | None,
    pair: Pair | None,
    columns: Sequence[str],
) -> list[str]:
    return [
        name,
        str(own.n),
        f"{100 * own.chance:.0f}",
        *([_cell(before) if before else ""] if "base" in columns else []),
        _cell(own),
        *([_difference(pair) if pair else ""] if "difference" in columns else []),
    ]


def _cell(score: SetScore | Mean) -> str:
    guessing = ", within chance" if score.within_chance else ""
    return f"{percent(score.score)} [{100 * score.low:.0f}-{100 * score.high:.0f}{guessing}]"


def _difference(pair: Pair) -> str:
    p = "p < 0.001" if pair.holm_p < 0.001 else f"p = {pair.holm_p:.3f}"
    span = f"[{100 * pair.low:+.0f} to {100 * pair.high:+.0f}]"
    return f"{100 * pair.difference:+.1f} {span}, {p}: {pair.verdict}"
