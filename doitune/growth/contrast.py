"""Two kinds of members held against each other, question by question, over several seeds.

A question is one draw however many seeds answer it: its changes are added up before their signs are flipped,
so that seeds do not make questions more. How far runs differ by their seed shows in the seeds' differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from doitune.errors import UsageError
from doitune.evals.compare import Comparison, Pair, Side, compare, read_side
from doitune.evals.paired import holm
from doitune.growth.folder import best_step
from doitune.growth.measured import Growth, Measured, Member
from doitune.run.layout import evaluation_folder, step_name

SUITE = "doit-test"


@dataclass(frozen=True)
class Contrast:
    """B against A: `together` over all seeds, and the mean's row of each seed."""

    seeds: tuple[int, ...]
    together: Comparison
    each: tuple[Pair, ...]

    @property
    def better(self) -> int:
        """In how many seeds B is above A."""
        return sum(one.difference > 0 for one in self.each)

    def to_json(self, folder: Path) -> dict[str, Any]:
        """The document of `doitune grow confirm --json`: scores and differences in 0..1."""
        return {
            "schema": "doitune.grow-confirm/1",
            "path": str(folder),
            "suite": self.together.suite,
            "seeds": [{"seed": seed, **asdict(one)} for seed, one in zip(self.seeds, self.each, strict=True)],
            "better_seeds": self.better,
            "pairs": self.together.rows(),
        }


def contrast(growth: Path, a: Sequence[Member], b: Sequence[Member], suite: str = SUITE) -> Contrast:
    """The members `b` against the members `a`, paired by seed, by their best checkpoints. Errors: UsageError
    where no seed has both, CheckpointError for one that is not evaluated."""
    pairs = {one.seed: (one, other) for one in a for other in b if one.seed == other.seed}
    if not pairs:
        raise UsageError("no seed was run with both", "run the plan with the same seeds for both")
    sides = {seed: [_side(growth, one, suite) for one in both] for seed, both in sorted(pairs.items())}
    each = tuple(compare(one, other).mean for one, other in sides.values())
    names = [_without_seed(one) for one in next(iter(pairs.values()))]
    left, right = (_together({seed: both[at] for seed, both in sides.items()}, names[at]) for at in (0, 1))
    return Contrast(tuple(sides), compare(left, right), each)


@dataclass(frozen=True)
class Tried:
    """Settings that were tried against the recipe's own. `valid`, `own_valid`: mean scores in 0..1 over
    abilities and seeds; `holm_p`: of the difference on test, over all that were tried; `best`: whether no
    other scored more on valid, the recipe's own included."""

    settings: tuple[str, ...]
    valid: float
    own_valid: float
    contrast: Contrast
    holm_p: float
    best: bool = False

    def to_json(self) -> dict[str, Any]:
        """As `doitune grow --json` has it."""
        return {
            "settings": list(self.settings),
            "valid": self.valid,
            "own_valid": self.own_valid,
            "best": self.best,
            "holm_p": self.holm_p,
            "test": asdict(self.contrast.together.mean),
            "better_seeds": self.contrast.better,
        }


def sweep(growth: Path, found: Growth) -> tuple[Tried, ...]:
    """Each settings of a family's `settings` design, in the plan's order, against the recipe's own; none
    where it has no such design, or it is not measured."""
    models = dict.fromkeys(one.member.model for one in found.members)
    return tuple(one for model in models for one in _of_model(growth, found, model))


def _of_model(growth: Path, found: Growth, model: str) -> list[Tried]:
    measured = [one for one in found.members if (one.member.design, one.member.model) == ("settings", model)]
    by = {
        settings: [one for one in measured if one.member.settings == settings]
        for settings in dict.fromkeys(one.member.settings for one in measured)
    }
    own = by.pop((), [])
    if not own or not by:
        return []
    valid = {settings: _valid(found, members) for settings, members in by.items()}
    own_valid = _valid(found, own)
    contrasts = {
        settings: contrast(growth, [one.member for one in own], [one.member for one in members])
        for settings, members in by.items()
    }
    corrected = holm([one.together.mean.mcnemar_p for one in contrasts.values()])
    top = max(valid.values())
    return [
        Tried(one, valid[one], own_valid, contrasts[one], p, valid[one] == top > own_valid)
        for one, p in zip(by, corrected, strict=True)
    ]


def _valid(found: Growth, members: Sequence[Measured]) -> float:
    """The mean score on valid over abilities and members."""
    scores = [
        one.right / one.items
        for member in members
        for name, one in member.scores.get("valid", {}).items()
        if name in found.abilities
    ]
    return sum(scores) / max(1, len(scores))


def _side(growth: Path, member: Member, suite: str) -> Side:
    step = best_step(growth, member.name)
    place = evaluation_folder(growth / member.name, suite, step_name(step or 0))
    return read_side(place, name=member.name)


def _without_seed(member: Member) -> str:
    return member.name.removesuffix(f"-s{member.seed}")


def _together(sides: dict[int, Side], name: str) -> Side:
    """One side of all seeds: each answer by itself, those of one question (or passage) in one cluster."""
    first = next(iter(sides.values()))
    outcomes, documents = {}, {}
    for seed, side in sides.items():
        for key, one in side.outcomes.items():
            known = f"{key} of seed {seed}"
            outcomes[known] = replace(one, id=known, cluster=one.cluster or one.id) if len(sides) > 1 else one
            documents[known] = side.documents[key]
    if len(sides) == 1:
        return replace(first, name=name)
    return replace(first, name=name, outcomes=outcomes, documents=documents)
