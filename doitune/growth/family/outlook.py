"""What a plan would take, before anything is begun: runs, hours on the card that is here, room on the
disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from doitune.errors import DoituneError
from doitune.growth.family.expand import recipe_of
from doitune.growth.family.work import is_done, pieces_of
from doitune.growth.folder import Record, is_growth, read_record
from doitune.growth.measured import Member
from doitune.memory.cards import choose_card, find_card
from doitune.memory.hours import flops_per_token
from doitune.memory.plan import MemoryPlan, outlook, plan_memory
from doitune.prepare.schedule import total_steps
from doitune.recipe.fields import Recipe
from doitune.system.doing import doing
from doitune.system.units import GIB

FLOPS_A_THREAD = 3e10
"""Products a second of one core in fp32, as the demo's trainings reach them: assumed for other bases."""

CPU = "this CPU"
SCHEMA = "doitune.grow-outlook/1"


@dataclass(frozen=True)
class MemberOutlook:
    """One run: the rows that it learns from and its optimiser steps."""

    name: str
    design: str
    rows: int
    steps: int
    done: bool


@dataclass(frozen=True)
class Outlook:
    """`hours`: of all runs that are left, one after another, by the card (or the CPU) that they were worked
    out for; `is_here`: whether that is in this machine; `places`: how many are made at once, in words."""

    name: str
    members: tuple[MemberOutlook, ...]
    bases: int
    places: str
    at_once: int
    hours: Mapping[str, float]
    disk_bytes: float
    notes: tuple[str, ...]
    is_here: bool = True

    @property
    def done(self) -> int:
        """Members that are trained and asked."""
        return sum(one.done for one in self.members)

    @property
    def hours_said(self) -> list[str]:
        """The hours in words."""
        many = self.at_once
        return [
            f"about {_time(hours)} of training on {card}"
            + (f", {_time(hours / many)} with {many} at once" if many > 1 and self.is_here else "")
            + "; questions are not counted"
            for card, hours in self.hours.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """The document of `doitune grow --dry-run --json`."""
        return {
            "schema": SCHEMA,
            "growth": self.name,
            "members": [asdict(one) for one in self.members],
            "runs": len(self.members),
            "done": self.done,
            "bases": self.bases,
            "at_once": self.at_once,
            "hours": {card: round(hours, 3) for card, hours in self.hours.items()},
            "disk_gib": round(self.disk_bytes / GIB, 3),
            "notes": list(self.notes),
        }


def look_ahead(growth: Path, record: Record, places: str, at_once: int) -> Outlook:
    """What is left to do of a family in its folder, begun or not."""
    doing("working out what the runs take")
    recipes = {one.name: recipe_of(record.recipes[one.name], one.name).recipe for one in record.members}
    begun = read_record(growth) if is_growth(growth) else None
    done = {
        piece.name
        for piece in (pieces_of(begun) if begun else ())
        if begun and not piece.is_base and is_done(growth, begun, piece)
    }
    members = tuple(
        MemberOutlook(one.name, one.design, _rows(one), _steps(one, recipes[one.name]), one.name in done)
        for one in record.members
    )
    hours: dict[str, float] = {}
    notes: list[str] = []
    disk = 0.0
    for model in record.bases:
        own = [one for one in record.members if one.model == model]
        if own:
            more, room, said = _of_model(own, recipes, done, record.threads)
            disk += room
            notes += [one for one in said if one not in notes]
            for card, some in more.items():
                hours[card] = hours.get(card, 0.0) + some
    is_here = find_card() is not None or CPU in hours
    return Outlook(
        record.name, members, len(record.bases), places, at_once, hours, disk, tuple(notes), is_here
    )


def _rows(member: Member) -> int:
    return sum(member.rows.values()) + member.synthetic


def _steps(member: Member, recipe: Recipe) -> int:
    return total_steps(recipe.train, _rows(member))


def _of_model(
    members: Sequence[Member], recipes: Mapping[str, Recipe], done: set[str], threads: int
) -> tuple[dict[str, float], float, list[str]]:
    """Hours by card, bytes on the disk, and notes, of one model's members."""
    largest = max(members, key=_rows)
    recipe = recipes[largest.name]
    try:
        plan = plan_memory(recipe_of_name(largest.name, recipe), choose_card(None))
    except DoituneError as error:
        return {}, 0.0, [f"hours and room are not known: {error.problem}"]
    disk = len(members) * plan.host.checkpoints_gib * GIB
    seen = outlook(recipe, plan)
    a_row = seen.work.tokens / max(1, seen.work.rows * recipe.train.epochs)
    if recipe.train.max_steps is not None:
        a_row = seen.work.tokens / max(1, seen.work.steps * recipe.train.examples_per_step)
    learnt = sum(
        _steps(one, recipes[one.name]) * recipes[one.name].train.examples_per_step
        for one in members
        if one.name not in done
    )
    paces = {one.card: one.tokens_per_second for one in seen.paces}
    notes = [f"{seen.work.how}; {a_row:,.0f} tokens a row"]
    if find_card() is None:
        paces = paces or {CPU: _on_cores(plan, a_row, threads)}
        if seen.paces:
            notes.append("no card is here: the hours are those of the card named")
    elif not paces:
        notes.append(seen.not_known or f"{plan.card.name}: the base is too small for an estimate of hours")
    return {card: learnt * a_row / pace / 3600 for card, pace in paces.items()}, disk, notes


def recipe_of_name(name: str, recipe: Recipe) -> Any:
    """A recipe as a plan of memory takes it."""
    from doitune.recipe.resolve import Resolved

    return Resolved(name, recipe, {})


def _on_cores(plan: MemoryPlan, row_tokens: float, threads: int) -> float:
    """Tokens a second on the cores of one process."""
    setting = replace(plan.setting, checkpointing=False)
    return FLOPS_A_THREAD * threads / flops_per_token(setting, max(1, round(row_tokens)))


def _time(hours: float) -> str:
    if hours < 1.5 / 60:
        return "a minute"
    return f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:,.{0 if hours > 10 else 1}f} hours"
