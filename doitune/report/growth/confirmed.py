"""An advised budget held against equal shares: what was foretold of either from the measured family, and what
the runs of the confirming family scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from doitune.errors import DoituneError
from doitune.growth.contrast import Contrast
from doitune.growth.family.confirm import confirmations, confirming, verdict
from doitune.growth.fit.fits import Setting, fit_one
from doitune.growth.fit.interval import Interval
from doitune.growth.folder import read_growth
from doitune.growth.measured import Growth, Measured, Member
from doitune.system.doing import doing
from doitune.system.units import several


@dataclass(frozen=True)
class Foreseen:
    """Of one ability: rows of equal shares and as advised; the scores (0..1) that the measured family's
    curves expect of either, None without a curve; those that came, over all seeds, None where none did."""

    name: str
    equal_rows: int
    advised_rows: int
    equal: Interval | None
    advised: Interval | None
    equal_came: float | None
    advised_came: float | None


@dataclass(frozen=True)
class Confirmed:
    """`family`: the confirming one's name, empty before it is begun; `done`, `planned`: its runs;
    `gain`: points that the curves expect of the advised budget over equal shares; `found`: the paired
    verdict, None until every run is measured (or where the questions cannot be paired, for the reason in
    `lacking`)."""

    family: str
    model: str
    total: int
    done: int
    planned: int
    foreseen: tuple[Foreseen, ...]
    gain: Interval | None
    found: Contrast | None
    lacking: str

    @property
    def expected(self) -> str:
        """The gain that was foretold, in a sentence; empty where nothing was."""
        if not self.gain:
            return ""
        low, high = self.gain.low, self.gain.high
        said = f"{self.gain.value:+.1f} points [{low:+.1f} to {high:+.1f}]"
        return f"Expected of the advice over equal shares: {said}."

    @property
    def came(self) -> str:
        """What came of it, in a sentence."""
        if not self.found:
            begun = f"{self.done} of {self.planned} runs of {self.family} are measured"
            why = self.lacking or (
                begun if self.family else "`doitune grow confirm` runs it against equal shares"
            )
            return f"Not confirmed yet: {why}."
        mean, seeds = self.found.together.mean, several(len(self.found.each), "seed")
        interval = f"[{100 * mean.low:+.1f} to {100 * mean.high:+.1f}] (95 %)"
        text = f"Measured on test: {100 * mean.difference:+.1f} points {interval}, p {mean.mcnemar_p:.2g}"
        return f"{text}, {mean.verdict}; above equal shares in {self.found.better} of {seeds}."


def trying(folder: Path, advice: Path) -> tuple[Member, ...]:
    """The runs that would try an advice (a recipe) for a growth. Errors: RecipeError for what is none."""
    return confirming(folder, str(advice), name="", seeds=1).members


def confirmed(
    folder: Path, growth: Growth, runs: Path, asked: Sequence[Member] = ()
) -> tuple[Confirmed, ...]:
    """What confirms a growth's advice, beside it or in `runs`; of one advice (`asked`, from `trying`) those
    that try its budget, and what is foretold alone where none does."""
    found = []
    for beside in confirmations(folder, runs):
        doing("reading the runs that confirm the advice")
        tried = read_growth(beside)
        planned = [one.member for one in tried.members] + list(tried.unfinished)
        rows = _budgets(planned)
        if len(rows) == 2 and (not asked or rows[True] == _budgets(asked)[True]):
            found.append(_tried(beside, growth, tried, planned))
    if not found and asked:
        found.append(_tried(None, growth, replace(growth, members=(), unfinished=()), asked))
    return tuple(sorted(found, key=lambda one: (one.total, one.family)))


def _budgets(members: Sequence[Member]) -> dict[bool, Mapping[str, int]]:
    """Rows by ability, as advised (True) and of equal shares."""
    return {one.design == "advised": one.rows for one in members}


def _tried(beside: Path | None, growth: Growth, tried: Growth, planned: Sequence[Member]) -> Confirmed:
    """What is foretold of both budgets, and what the members of `tried` scored, all of them or none."""
    rows = _budgets(planned)
    found, lacking = None, ""
    try:
        found = verdict(beside) if beside and not tried.unfinished else None
    except DoituneError as error:
        lacking = str(error)
    foreseen, gain = _foreseen(growth, tried, planned[0].model, (rows[False], rows[True]))
    total, family = sum(rows[True].values()), beside.name if beside else ""
    return Confirmed(
        family, planned[0].model, total, len(tried.members), len(planned), foreseen, gain, found, lacking
    )


def _foreseen(
    growth: Growth, tried: Growth, model: str, rows: tuple[Mapping[str, int], Mapping[str, int]]
) -> tuple[tuple[Foreseen, ...], Interval | None]:
    """From the curves on valid, which advice rests on: what came is scored on test."""
    import numpy as np

    totals = np.array([sum(one.values()) for one in rows], dtype=float)
    found: list[Foreseen] = []
    gains = []
    for name in growth.abilities:
        doing("foretelling the scores of the advised budget", len(found), len(growth.abilities))
        fit = fit_one(growth, Setting(model, "curated"), name, "valid")
        own = np.array([one.get(name, 0) for one in rows], dtype=float)
        drawn = fit.known.draws.scores(own, totals - own) if fit.posterior else None
        spans = [None, None] if drawn is None else [Interval.of(drawn[:, at]) for at in (0, 1)]
        if drawn is not None:
            gains.append(100 * (drawn[:, 1] - drawn[:, 0]))
        came = [_came(tried, name, is_advised=which) for which in (False, True)]
        found.append(Foreseen(name, int(own[0]), int(own[1]), *spans, *came))
    whole = Interval.of(np.mean(gains, axis=0)) if len(gains) == len(growth.abilities) else None
    return tuple(found), whole


def _came(tried: Growth, name: str, *, is_advised: bool) -> float | None:
    """The mean test score of an ability over the seeds of one budget."""

    def is_of(one: Measured) -> bool:
        return (one.member.design == "advised") == is_advised and name in one.scores.get("test", {})

    scores = [one.scores["test"][name] for one in tried.members if is_of(one)]
    return sum(one.right / max(1, one.items) for one in scores) / len(scores) if scores else None
