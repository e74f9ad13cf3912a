"""What a family of runs says: curves and traits in numbers, and the budget that they suggest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doitune.console.screen import say, show_table

if TYPE_CHECKING:
    from doitune.growth.fit.advice import Advice
    from doitune.growth.fit.conclude import Conclusions
    from doitune.growth.fit.curves import Curve
    from doitune.growth.fit.interval import Interval


def show_conclusions(found: Conclusions) -> None:
    """A table for each model and construction, and what they come to."""
    for model, construction in dict.fromkeys((one.model, one.construction) for one in found.curves):
        curves = [
            one
            for one in (*found.curves, *found.out_of_domain)
            if (one.model, one.construction) == (model, construction)
        ]
        _show_curves(found, curves)
    _show_sizes(found)
    for pairs in found.partners:
        taught = ", ".join(f"{source} -> {learner}" for source, learner in pairs.pairs) or "none beyond doubt"
        say(f"{pairs.model}: rows that teach another ability: {taught}")
    for one in found.claim.explained:
        say(
            f"{one.model}: complexity and transference explain {100 * max(0, one.r2):.0f} % of how sensitive "
            f"{len(one.abilities)} abilities are to {one.sensitivity} (p {one.p:.2g}: so often traits dealt "
            f"at random explain as much); one left out is missed by {one.error:.1f} points a doubling, by "
            f"the others' mean by {one.error_of_mean:.1f}"
        )
    claim = found.claim
    if claim.foretold and claim.error is not None and claim.covered is not None:
        first = claim.foretold[0]
        say(
            f"budgets up to {first.known_to:,.0f} rows foretell {first.rows:,.0f}: off by {claim.error:.1f} "
            f"points, {claim.error_of_no_growth:.1f} if nothing more grew; {100 * claim.covered:.0f} % lie "
            "in the 90 % intervals"
        )


def _show_curves(found: Conclusions, curves: list[Curve]) -> None:
    first = curves[0]
    traits = {one.name: one for one in found.traits if one.model == first.model}
    groups = {one.name: one.group for one in found.groups}
    curated = first.construction == "curated"
    rows = []
    for one in curves:
        trait = traits.get(one.name) if curated and one.in_domain else None
        end = next((at.score for at in reversed(one.line) if not at.extrapolated), None)
        rows.append(
            [
                one.title,
                _range(end, 100, 0),
                _range(one.slope, 1, 1),
                _rows(trait.complexity) if trait else "",
                _range(trait.transference if trait else None, 100, 0),
                groups.get(one.name, "") if trait else "" if one.in_domain else "out of domain",
            ]
        )
    low, high = first.reach
    title = (
        f"{first.model}, {first.construction}, {found.split}: {low:,.0f} to {high:,.0f} rows of each ability "
        "[90 %]"
    )
    columns = ["ability", f"% at {high:,.0f}", "points a doubling", "rows to half the gain"]
    show_table([*columns, "% without own rows", "group"], rows, title=title, right=range(1, 5))
    for reason in dict.fromkeys(one.thin for one in curves if one.thin):
        say(f"no curve of {', '.join(one.title for one in curves if one.thin == reason)}: {reason}")
    falling = ", ".join(one.title for one in curves if one.falls)
    if falling:
        say(
            f"lower at {high:,.0f} rows than at fewer, which no curve here follows: {falling}; "
            "had these runs steps enough for their rows?"
        )


def _show_sizes(found: Conclusions) -> None:
    if found.sizes:
        rows = [[one.name, _range(one.slope, 1, 1)] for one in found.sizes]
        models = ", ".join(found.sizes[0].models)
        show_table(["ability", "points a doubling of parameters"], rows, title=models, right=(1,))
    if found.versus:
        rows = [
            [one.name, one.model, f"{one.rows:,.0f}", _range(one.difference, 1, 1)] for one in found.versus
        ]
        titles = ["ability", "model", "rows of each", "curated less synthetic, points"]
        show_table(titles, rows, right=(2, 3))


def _range(one: Interval | None, unit: float, digits: int) -> str:
    if one is None:
        return ""
    value, low, high = (f"{unit * number:.{digits}f}" for number in (one.value, one.low, one.high))
    return f"{value} [{low} to {high}]"


def _rows(one: Interval | None) -> str:
    """Complexity, as rows."""
    if one is None:
        return ""
    value, low, high = (f"{float(f'{2**number:.2g}'):,.0f}" for number in (one.value, one.low, one.high))
    return f"{value} [{low} to {high}]"


def show_advice(
    advice: Advice, sentences: tuple[str, ...], written: str, place: str, model: str = ""
) -> None:
    """The budget beside equal shares, and what to do with it. `place`: the growth, `model`: a flag, as a
    command names them."""
    rows = [
        [
            one.name,
            f"{one.equal_rows:,}",
            f"{one.rows:,}",
            _range(one.equal_score, 100, 0),
            _range(one.score, 100, 0),
        ]
        for one in advice.shares
    ]
    columns = ["ability", "equal shares", "advised" if advice.verdict == "advised" else "rows"]
    show_table([*columns, "% with equal shares", "% expected [90 %]"], rows, right=range(1, 5))
    for sentence in sentences:
        say(sentence)
    say(f"wrote {written}")
    if advice.verdict == "advised":
        say(f"confirm it: doitune grow confirm {place} {written}{model}")
    say(f"next: doitune train {written}")
