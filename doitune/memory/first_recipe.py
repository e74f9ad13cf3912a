"""A first recipe for a person's own file and card: from a few answers to what `doitune train` takes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.errors import RecipeError, UsageError
from doitune.memory.suggest import planned_for
from doitune.prepare.draw import draw
from doitune.prepare.survey import Survey, survey
from doitune.recipe.files import find_model, is_there
from doitune.recipe.resolve import resolve
from doitune.recipe.starter import starter_text
from doitune.recipe.tree import as_tree, flatten
from doitune.system.disk import write_whole
from doitune.system.paths import from_home

if TYPE_CHECKING:
    from doitune.memory.cards import Card
    from doitune.memory.plan import MemoryPlan
    from doitune.recipe.resolve import Resolved

PARENT = "own"
"""The recipe for rows of one's own, which a first recipe extends."""

ALL = "all"

FEW_STEPS = 30
STEP_SIZES = 16, 8, 4
"""Examples of a step: the largest that leaves FEW_STEPS steps, else the smallest."""


@dataclass(frozen=True)
class Answers:
    """`corpus` and `model` as typed; `abilities`: those to learn, empty for every one; `rows`: of each, 0 for
    every one; `sets`: KEY=VALUE."""

    corpus: str
    model: str
    card: Card | None
    abilities: tuple[str, ...] = ()
    rows: int = 0
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class FirstRecipe:
    """`learnt`, `kept_out`: rows by ability. `plan`: on the card that was named; None where there is none, or
    the model's sizes are not known here. `said`: what the recipe writes down, by dotted name."""

    resolved: Resolved
    said: Mapping[str, Any]
    learnt: Mapping[str, int]
    kept_out: Mapping[str, int]
    plan: MemoryPlan | None

    @property
    def steps(self) -> int:
        """Optimiser steps of a training."""
        train = self.resolved.recipe.train
        steps = math.ceil(sum(self.learnt.values()) / train.examples_per_step) * train.epochs
        return steps if train.max_steps is None else train.max_steps


def look_at(corpus: str, sets: Sequence[str] = ()) -> Survey:
    """What a file or folder of rows holds. Errors: those of `survey`."""
    overrides = [*sets, "data.holdout=0"]
    return survey(resolve(PARENT, model="demo", corpus=absolute(corpus), overrides=overrides).recipe.data)


def first_recipe(name: str, answers: Answers) -> FirstRecipe:
    """The recipe called `name`. Errors: RecipeError, UsageError, DataError."""
    corpus, model = absolute(answers.corpus), model_called(answers.model)
    start = resolve(PARENT, model=model, corpus=corpus, overrides=answers.sets)
    picked, rows = draw(start.recipe)
    there = {one: line.found for one, line in picked.ledger.lines.items() if line.found}
    if unknown := [one for one in answers.abilities if one not in there]:
        raise UsageError(f"no row has the ability {unknown[0]!r}", f"the rows have {', '.join(there)}")
    learnt = {
        one: min(answers.rows or count, count)
        for one, count in there.items()
        if one in (answers.abilities or there)
    }
    said: dict[str, Any] = {"model.name": model, "data.corpus": corpus}
    if learnt != there:
        said["data.budget"] = {one: ALL if count == there[one] else count for one, count in learnt.items()}
    said["train.epochs"] = start.recipe.train.epochs
    said["train.examples_per_step"] = _of_a_step(sum(learnt.values()) * start.recipe.train.epochs)
    values = flatten(as_tree(start.recipe))
    said |= {key: values.get(key) for key in (text.partition("=")[0] for text in answers.sets)}
    step = f"train.examples_per_step={said['train.examples_per_step']}"
    resolved = resolve(PARENT, model=model, corpus=corpus, overrides=[step, *answers.sets], name=name)
    plan = planned_for(resolved, answers.card) if answers.card else None
    kept_out = {one: len(kept) for one, kept in rows.parted.kept_out.items()}
    return FirstRecipe(resolved, said, learnt, kept_out, plan)


def write_first(path: Path, made: FirstRecipe, found: Survey, *, force: bool) -> None:
    """Write the recipe's file; one that is there is written over by `force` alone. Errors: RecipeError,
    DiskError."""
    refuse_there(path, force=force)
    quoted = shlex.quote(path.name)
    about = [
        f"Written by doitune init for {Path(str(made.said['data.corpus'])).name}: {in_words(found)}.",
        f"Train it: doitune train {quoted}. What it needs: doitune plan {quoted}. Every field that there is: "
        f"doitune recipes show {quoted}.",
    ]
    beside = {"model.name": needs_in_words(made.plan), "data.budget": BUDGET_WORDS}
    write_whole(path, starter_text(PARENT, made.resolved, made.said, about, beside))
    resolve(str(path))


def refuse_there(path: Path, *, force: bool) -> None:
    """RecipeError for a name that is no recipe's, or is taken."""
    if path.suffix not in (".yaml", ".yml"):
        raise RecipeError("is not the name of a recipe file", "end it in .yaml", place=str(path))
    if is_there(path) and not (force and path.is_file()):
        raise RecipeError("exists already", "name another file, or write over it: --force", place=str(path))


BUDGET_WORDS = f"rows of each ability: a number, or {ALL}; without it every row is learnt from"


def in_words(found: Survey) -> str:
    """What a file holds, in a line."""
    abilities = ", ".join(f"{name} {count:,}" for name, count in found.abilities.items())
    forms = ", ".join(f"{name} {count:,}" for name, count in found.forms.items())
    judged = f"; {found.judged:,} rows of the splits valid and test" if found.judged else ""
    lengths = f"median {found.median_characters:,} characters, longest {found.most_characters:,}"
    return f"{found.rows:,} rows to learn from ({abilities}); forms: {forms}; {lengths}{judged}"


def needs_in_words(plan: MemoryPlan | None) -> str:
    """What a plan says of memory; "" where there is none."""
    if plan is None:
        return ""
    card, verdict = plan.card, "fits" if plan.fits else "does not fit"
    name = card.name or f"a card of {card.gib:g} GiB"
    return f"{verdict}: {plan.gib(2):.1f} GiB at most, {card.usable_gib:.1f} are usable of {name}"


def _of_a_step(passed: int) -> int:
    """Examples of a step for a training that passes `passed` rows."""
    return next((one for one in STEP_SIZES if passed >= one * FEW_STEPS), STEP_SIZES[-1])


def model_called(text: str) -> str:
    """A known model's or hub repository's name as it is; a folder by its whole path."""
    folder = from_home(text)
    return text if find_model(text) or not (is_there(folder) and folder.is_dir()) else str(folder.absolute())


def absolute(corpus: str) -> str:
    """A path that is there by its whole path, as a recipe is read from anywhere; any other name as it is."""
    path = from_home(corpus)
    return str(path.absolute()) if is_there(path) else corpus
