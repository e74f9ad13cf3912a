"""Plan: what a training would do, without weights: for `--dry-run` and for the start of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from doitune.backends.pick import begin
from doitune.backends.tokenizer import foreign_turns, tokenizer_template
from doitune.base.context import context_of
from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.prepare.account import count_rows
from doitune.prepare.material import Material, prepare
from doitune.recipe.resolve import Resolved
from doitune.train.trackers import refuse_missing

if TYPE_CHECKING:
    from doitune.data.example import Example
    from doitune.recipe.fields import Recipe

Judged = Mapping[str, Sequence["Example"]]
"""Rows, by suite, that a run will be judged on beside its corpus's own; handed in, as training does not
know evaluation."""


@dataclass(frozen=True)
class Plan:
    """A resolved recipe, its base, and all that it learns from."""

    resolved: Resolved
    base: Base
    material: Material

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return self.resolved.recipe


def plan_training(
    resolved: Resolved, judged: Judged | None = None, *, loads: bool = False, moment: str = ""
) -> Plan:
    """Resolve the base, choose and encode the examples, prove the template's law. `judged`, errors: see
    `prepare`; FitError where a tracker is not installed.

    `loads`: this process is going to load the base; its backend is imported first. `moment`: see
    `open_template`.
    """
    recipe = resolved.recipe
    refuse_missing(recipe.train.trackers)
    base = find_base(recipe.model.name, recipe.model.revision)
    if loads:
        begin(recipe.model.backend, base)
    template = tokenizer_template(base, recipe.prompt, moment)
    material = prepare(recipe, template, judged, context_of(base.config))
    notes = (*foreign_turns(base, template), *material.notes)
    return Plan(resolved, base, replace(material, notes=notes))


def describe(plan: Plan) -> dict[str, Any]:
    """A plan as `doitune train --dry-run --json` gives it."""
    material = plan.material
    rows = count_rows(material.ledger, material.encoded)
    return {
        "schema": "doitune.dry-run/1",
        "recipe": plan.resolved.name,
        "base": plan.base.name,
        "examples": rows.trained,
        "tokens": rows.tokens,
        "trained_tokens": rows.trained_tokens,
        "steps": material.course.total_steps,
        "ledger": material.ledger.to_json(),
        "notes": list(material.notes),
    }
