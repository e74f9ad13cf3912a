"""Which members a plan's designs make: pure, and named so that a plan that grows keeps its members' names.

A member's rows are numbers alone: which rows they are follows from data.seed and data.select `nested`, so
that a smaller number's rows of an ability are among a larger one's, whatever the other abilities get.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from doitune.growth.family.plan import PlanSection
from doitune.growth.folder import folder_name
from doitune.growth.measured import Construction, Design, Member


@dataclass(frozen=True)
class Named:
    """What a recipe that a plan names learns from: rows by ability, and synthetic instructions."""

    rows: Mapping[str, int]
    synthetic: int


@dataclass(frozen=True)
class Planned:
    """A member, and the recipe that it is of where a design names one; else the plan's."""

    member: Member
    recipe: str = ""


@dataclass(frozen=True)
class _Kind:
    """A member but for its model and seed; `called`: the middle of its name."""

    called: str
    design: Design
    construction: Construction
    rows: Mapping[str, int]
    synthetic: int = 0
    settings: tuple[str, ...] = ()
    recipe: str = ""


def members_of(
    section: PlanSection,
    models: Sequence[str],
    abilities: Sequence[str],
    named: Mapping[str, Named] | None = None,
) -> tuple[Planned, ...]:
    """Every member of a plan, in the order in which they are run: the first models and seeds first, of each
    the curves before what explains them. `named`: by name, what the recipes of the plan learn from."""
    return tuple(
        Planned(_member(kind, model, seed), kind.recipe)
        for model in models
        for seed in section.seeds
        for kind in _kinds(section, abilities, named or {}, seed)
    )


def _member(kind: _Kind, model: str, seed: int) -> Member:
    return Member(
        name=f"{folder_name(model)}-{kind.called}-s{seed}",
        design=kind.design,
        model=model,
        construction=kind.construction,
        seed=seed,
        rows=kind.rows,
        synthetic=kind.synthetic,
        settings=kind.settings,
    )


def _kinds(
    section: PlanSection, abilities: Sequence[str], named: Mapping[str, Named], seed: int
) -> Iterator[_Kind]:
    designs = section.designs
    for rows in designs.equal:
        yield _Kind(f"equal-{rows}", "equal", "curated", dict.fromkeys(abilities, rows))
    yield from _latin(designs.latin, abilities, seed)
    if (rows := designs.leave_one_out or 0) and len(abilities) > 1:
        for name in abilities:
            left = {one: rows for one in abilities if one != name}
            yield _Kind(f"without-{name}-{rows}", "leave_one_out", "curated", left)
    if rows := designs.single_source or 0:
        for name in abilities:
            yield _Kind(f"only-{name}-{rows}", "single_source", "curated", {name: rows})
    for count in designs.synthetic:
        yield _Kind(f"synthetic-{count}", "equal", "synthetic", {}, count)
    for count in designs.mix.synthetic:
        rows = designs.mix.rows or 0
        yield _Kind(f"mix-{rows}-{count}", "equal", "mix", dict.fromkeys(abilities, rows), count)
    yield from _settings(section, abilities)
    for recipe, learnt in named.items():
        yield _of_recipe(recipe, learnt, abilities)


def _latin(levels: Sequence[int], abilities: Sequence[str], seed: int) -> Iterator[_Kind]:
    """A run for each level. Levels and abilities are put in an order by lot; in run r an ability at place a
    gets the level at place a + r, so that it meets each level once, and with as many abilities as levels each
    run has each level once. A run without any row is none."""
    order = sorted(abilities, key=lambda name: _lot(seed, name))
    places = sorted(range(len(levels)), key=lambda place: _lot(seed, f"level {place}"))
    for run in range(len(levels)):
        rows = {name: levels[places[(at + run) % len(levels)]] for at, name in enumerate(order)}
        kept = {name: rows[name] for name in abilities if rows[name]}
        if kept:
            yield _Kind(f"latin-{run + 1}of{len(levels)}", "latin", "curated", kept)


def _lot(seed: int, text: str) -> bytes:
    return sha256(f"{seed}\x1flatin\x1f{text}".encode()).digest()


def _settings(section: PlanSection, abilities: Sequence[str]) -> Iterator[_Kind]:
    """The recipe's own settings first: what the others are compared with."""
    design = section.designs.settings
    if not design.each or not design.rows:
        return
    rows = dict.fromkeys(abilities, design.rows)
    yield _Kind(f"own-settings-{design.rows}", "settings", "curated", rows)
    for text in design.each:
        short = "-".join(one.rpartition(".")[2] if "=" not in one else _short(one) for one in text.split())
        called = re.sub(r"[^\w.-]+", "-", short).strip("-.")
        yield _Kind(f"{called}-{design.rows}", "settings", "curated", rows, 0, tuple(text.split()))


def _short(text: str) -> str:
    """`train.learning_rate=1e-4` as `learning_rate-1e-4`."""
    key, _, value = text.partition("=")
    return f"{key.rpartition('.')[2]}-{value}"


def _of_recipe(recipe: str, learnt: Named, abilities: Sequence[str]) -> _Kind:
    """A recipe's own budget: equal rows of every ability are a point of a curve."""
    called = folder_name(recipe.removesuffix(".yaml").rpartition("/")[2])
    rows = {name: count for name, count in learnt.rows.items() if count}
    construction: Construction = "curated" if not learnt.synthetic else "mix" if rows else "synthetic"
    equal = not rows or (len(set(rows.values())) == 1 and rows.keys() == set(abilities))
    return _Kind(called, "equal" if equal else "recipe", construction, rows, learnt.synthetic, (), recipe)
