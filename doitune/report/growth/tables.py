"""What a growth says, in tables and sentences of its page."""

from __future__ import annotations

from collections.abc import Iterator

from doitune.growth.fit.groups import RULES
from doitune.growth.fit.interval import Interval
from doitune.growth.measured import Measured, Member
from doitune.report.growth import papers
from doitune.report.growth.figures import in_rows
from doitune.report.growth.panels import MARKS
from doitune.report.growth.read import GrowthView
from doitune.report.html import Html, percent, table, tag
from doitune.system.units import several

RUNS = "runs"
"""The page's own name for its part about runs."""


def between(one: Interval | None, form: str = ".1f", times: float = 1.0) -> object:
    """A value and its interval."""
    if one is None:
        return ""
    low, high = (format(times * end, form) for end in (one.low, one.high))
    span = tag("span", f" [{low} to {high}]", class_="soft")
    return tag("span", format(times * one.value, form), span)


def groups(view: GrowthView) -> list[Html]:
    """Each ability's group with the intervals behind it, and the thresholds."""
    found = view.found
    if not found.groups:
        return []
    columns = ["ability", "group", "points over the floor", "of the last doubling", "per doubling of weights"]
    rows = [
        [view.title(one.name), one.group, between(one.gained), between(one.last), between(one.larger)]
        for one in found.groups
    ]
    if all(one.larger is None for one in found.groups):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    stated = (piece for name, text in RULES.items() for piece in (tag("dt", name), tag("dd", text)))
    return [
        tag("h2", "Groups"),
        table(columns, rows, left=2),
        tag(
            "p",
            "A group is given where a whole 90 % interval lies on one side of its threshold:",
            class_="small",
        ),
        tag("dl", *stated),
        tag(
            "p",
            "The floor is guessing, or the untrained model where it is beyond doubt above guessing.",
            class_="small soft",
        ),
    ]


def sensitivities(view: GrowthView) -> list[Html]:
    """Points per doubling of rows, a line a curve."""
    curves = (*view.found.curves, *view.found.out_of_domain)
    named = [
        (head, say)
        for head, say in (("model", lambda one: one.model), ("rows of", lambda one: one.construction))
        if len({say(one) for one in curves}) > 1
    ]
    rows = []
    for one in sorted(curves, key=lambda one: view.sets.index(one.name)):
        rows.append(
            [
                one.title,
                *(say(one) for _, say in named),
                f"{len(one.points)}",
                percent(one.chance),
                "" if one.base is None else percent(one.base),
                between(one.slope, "+.1f"),
                between(one.last, "+.1f"),
                f"{one.reach[0]:,.0f} to {one.reach[1]:,.0f}" if one.line else "no curve",
            ]
        )
    columns = ["set", *(head for head, _ in named), "runs", "guessing %", "untrained %"]
    columns += ["points per doubling", "last doubling", "over rows"]
    parts = [tag("h3", "Sensitivity to rows"), table(columns, rows, left=1 + len(named))]
    if falling := ", ".join(dict.fromkeys(one.title for one in curves if one.falls)):
        said = f"Lower at the most rows than at fewer, which no curve here follows: {falling}."
        parts.append(tag("p", said, class_="mark small"))
    if thin := [one for one in curves if one.thin]:
        lines = (f"{one.title}, {one.construction} rows of {one.model}: {one.thin}" for one in thin)
        why = tag("summary", f"why {several(len(thin), 'set')} have no curve")
        parts.append(tag("details", why, tag("ul", *(tag("li", line) for line in lines))))
    return parts


def sizes(view: GrowthView) -> Html:
    """Points per doubling of weights."""
    rows = [
        [view.title(one.name), between(one.slope, "+.1f"), f"{one.reach[0]:,.0f} to {one.reach[1]:,.0f}"]
        for one in view.found.sizes
    ]
    return table(["ability", "points per doubling of weights", "over rows of each"], rows)


def versus(view: GrowthView) -> list[Html]:
    """Curated against synthetic rows."""
    if not view.found.versus:
        return []
    models = len(view.models) > 1
    rows = [
        [
            view.title(one.name) + (f", {one.model}" if models else ""),
            f"{one.rows:,.0f}",
            between(one.difference, "+.1f"),
        ]
        for one in view.found.versus
    ]
    columns = ["set", "at rows of each", "curated less synthetic, points"]
    return [tag("h2", "Curated against synthetic rows"), table(columns, rows)]


def traits(view: GrowthView, model: str) -> Html:
    """Both traits of each ability with one model."""
    rows = []
    for one in view.found.traits:
        if one.model != model:
            continue
        number = view.growth.abilities.index(one.name) + 1
        beyond = [tag("span", " beyond what was measured", class_="mark")] if one.is_beyond else []
        half = one.complexity and tag("span", between(in_rows(one.complexity), ",.0f"), *beyond)
        how = {
            "left out": f"left out at {one.rows:,.0f} rows",
            "zero rows": f"runs without its rows, at {one.rows:,.0f}",
            "none": "not measured",
        }
        share = between(one.transference, ".0f", 100)
        rows.append([f"{number} {view.title(one.name)}", half or "", share, how[one.source]])
    columns = ["ability", "own rows at half of the gain", "% of the gain without own rows", "from"]
    return table(columns, rows)


def claim(view: GrowthView) -> list[Html]:
    """How much of the sensitivities the traits explain."""
    rows = []
    for one in view.found.claim.explained:
        what = (
            "points per doubling of rows" if one.sensitivity == "data" else "points per doubling of weights"
        )
        rows.append(
            [
                f"{what}, {one.model}", f"{len(one.abilities)}", f"{one.r2:.2f}", f"{one.p:.3f}",
                f"{one.error:.1f}", f"{one.error_of_mean:.1f}",
                f"{one.weights[0]:+.1f}", f"{one.weights[1]:+.1f}",
            ]
        )  # fmt: skip
    if not rows:
        return [
            tag(
                "p",
                "Too few abilities have both traits and a sensitivity for a regression (it needs 6).",
                class_="soft",
            )
        ]
    columns = [
        "what is explained", "abilities", "R²", "p", "error left out", "error of the mean",
        "per doubling of Complexity", "per whole Transference",
    ]  # fmt: skip
    note = (
        "Least squares on both traits. p: how often traits dealt to abilities at random explain as much "
        "(permutations). Errors in points, of an ability that was left out: by the regression, and by the "
        "others' mean. "
        "Explained is a sensitivity only where p is small and the first error is below the second."
    )
    return [table(columns, rows), tag("p", note, class_="small soft")]


def members(view: GrowthView) -> list[Html]:
    """Every run of the family; what is not finished is named first."""
    growth, parts = view.growth, [tag("h2", "Runs", id=RUNS)]
    if growth.unfinished:
        names = ", ".join(one.name for one in growth.unfinished)
        parts.append(tag("p", f"Not measured yet, {len(growth.unfinished)}: {names}.", class_="mark"))
    every = [(one.member, one) for one in growth.members] + [(one, None) for one in growth.unfinished]
    named = [
        (head, say)
        for head, say in (("model", lambda one: one.model), ("rows of", lambda one: one.construction))
        if len({say(one) for one, _ in every}) > 1
    ]
    rows = [
        [one.name, *(say(one) for _, say in named), *_member(view, one, measured)] for one, measured in every
    ]
    columns = ["run", *(head for head, _ in named), "design", "rows by ability"]
    columns += ["seed", "rows", "best step", "mean %"]
    summary = tag("summary", f"{several(len(rows), 'run')}, {len(growth.unfinished)} not measured yet")
    return [*parts, tag("details", summary, table(columns, rows, left=3 + len(named)))]


def _member(view: GrowthView, one: Member, measured: Measured | None) -> Iterator[object]:
    rows = measured.rows if measured else one.rows
    settings = f" ({', '.join(one.settings)})" if one.settings else ""
    yield MARKS[one.design][1] + settings
    yield _dealt(view, one, {name: rows.get(name, 0) for name in view.growth.abilities})
    yield from (str(one.seed), f"{sum(rows.values()) + one.synthetic:,}")
    scores = measured.scores.get(view.found.split, {}) if measured else {}
    known = [scores[name] for name in view.growth.abilities if name in scores]
    yield "not measured" if measured is None else f"{measured.step:,}"
    yield percent(sum(one.right / max(1, one.items) for one in known) / len(known)) if known else ""


def _dealt(view: GrowthView, one: Member, rows: dict[str, int]) -> str:
    """Rows by ability in short: one number where all have it."""
    beside = f", {one.synthetic:,} synthetic" if one.synthetic else ""
    if len(set(rows.values())) == 1:
        return f"{next(iter(rows.values())):,} each{beside}"
    most = max(rows.values())
    lacking = [view.title(name) for name, count in rows.items() if not count]
    if len(lacking) == 1 and all(count == most for count in rows.values() if count):
        return f"{most:,} each, none of {lacking[0]}{beside}"
    if len(lacking) == len(rows) - 1:
        return f"{most:,} of {next(view.title(name) for name, count in rows.items() if count)} alone{beside}"
    return " ".join(f"{count:,}" for count in rows.values()) + beside


def paper() -> list[Html]:
    """The paper's own numbers, marked as such."""
    columns = ["learnt from", *papers.COLUMNS]
    parts = [
        tag("h2", "The paper's own numbers, for reference"),
        tag("p", "None of the following was measured here. " + papers.UNKNOWN, class_="small"),
    ]
    for rows, name in (
        (papers.BUDGETS, "its Table 2: budgets"),
        (papers.MIXED, "its Table 3: synthetic rows beside them"),
    ):
        lines = [
            [what, *(" / ".join(f"{one:.2f}" for one in cell) for cell in cells)] for what, cells in rows
        ]
        parts += [tag("h3", f"The paper, {name}"), table(columns, lines)]
    caption = f"{papers.MODEL}, accuracy in % after epochs 5 / 10 / 15 (arXiv 2310.19651, version 1)."
    parts.append(tag("p", caption, class_="small soft"))
    parts += [
        tag("h3", "The paper, version 1's groups (by eye, from smoothed curves)"),
        table(["group", "abilities"], papers.GROUPS, left=2),
    ]
    return [tag("section", *parts, class_="papers")]
