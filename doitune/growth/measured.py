"""What a family of runs measured: of each run, what it learnt from and how many questions of each ability it
then got right. Nothing here knows how it was run, or what is concluded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Design = Literal["equal", "latin", "leave_one_out", "single_source", "settings", "recipe", "advised"]
"""Why a run is in the family: the same rows of each ability; rows as a Latin square deals them; one ability
without rows; only one ability with rows; other hyper-parameters; the budget of a recipe that the plan names;
a budget that `advise` gave."""
Construction = Literal["curated", "synthetic", "mix"]
Split = Literal["valid", "test"]


@dataclass(frozen=True)
class Score:
    """Of one ability's questions. `right`: the sum of their scores, each 0..1 (a free answer may get a part
    of one); `items`: how many were asked; `chance`: the mean score of guessing, 0..1."""

    right: float
    items: int
    chance: float


@dataclass(frozen=True)
class Member:
    """One run of a family, as planned. `name` is its directory's name and unique in the family; `rows`: by
    ability, the rows to learn from (an ability that is absent has none); `synthetic`: rows of general
    instructions beside them; `settings`: `key=value` as after `--set`."""

    name: str
    design: Design
    model: str
    construction: Construction
    seed: int
    rows: Mapping[str, int]
    synthetic: int = 0
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """A finished member. `rows`: by ability, the rows that it really learnt from (its ledger's), in place of
    the planned ones; `step`: the checkpoint that was best on valid; `scores`: by split, by set (an ability,
    or a set out of the domain, which no rows teach)."""

    member: Member
    rows: Mapping[str, int]
    step: int
    scores: Mapping[Split, Mapping[str, Score]]


@dataclass(frozen=True)
class Growth:
    """All that a family measured.

    `abilities`: those that have rows, in their order; `titles`: what each set is called; `base`: the scores
    of the untrained model, by model, split and set; `stock`: by ability, the rows that the corpus has to
    learn from; `out_of_domain`: sets that no rows teach; `unfinished`: members that are not measured yet.
    """

    name: str
    abilities: tuple[str, ...]
    titles: Mapping[str, str]
    stock: Mapping[str, int]
    members: tuple[Measured, ...]
    base: Mapping[str, Mapping[Split, Mapping[str, Score]]] = field(default_factory=dict)
    out_of_domain: tuple[str, ...] = ()
    unfinished: tuple[Member, ...] = ()
