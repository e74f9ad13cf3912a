"""What may change between a run's start and its resume: nothing, but for a short list that is reported
and recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.errors import CheckpointError, Problem, UsageError
from doitune.recipe.field_help import default_of
from doitune.recipe.tree import as_tree, flatten

if TYPE_CHECKING:
    from doitune.recipe.fields import Recipe

LONGER = ("train.epochs", "train.max_steps")
"""Fields that leave every step as it was only where the rate does not depend on how many steps there are."""

ALLOWED = (
    *("summary", "alias_of", "model.family", "model.note"),  # words for a reader
    *("train.checkpoint_minutes", "train.keep_checkpoints", "train.trackers", "train.patience"),
    *LONGER,
    *("eval.suite", "eval.shots", "eval.max_new_tokens", "eval.tokens_per_batch"),  # asked after the training
    "device",
)
"""What a resume may change: no step that is still to come learns another thing for it, but on another
`device`, by rounding."""

BEFORE = {"train.end_rate_at": "last_step"}
"""What was done before there was a field, where its default is another thing."""


@dataclass(frozen=True)
class Wishes:
    """What the user of a resume asks for beyond going on.

    `allow`: keys whose difference is accepted; `sets`: `key=value` for keys of the list, which are accepted
    with it; `from_scratch`: train from the beginning where no checkpoint can be used; `wait_minutes`: how
    long to wait for room on a full disk.
    """

    allow: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    from_scratch: bool = False
    wait_minutes: float = 0.0

    @property
    def keys(self) -> frozenset[str]:
        """Every key whose difference is accepted. UsageError for one that is not on the list."""
        asked = [*self.allow, *(text.partition("=")[0].strip() for text in self.sets)]
        for key in asked:
            if key not in ALLOWED:
                raise UsageError(
                    f"a resume cannot change {key!r}: the result would be of no recipe",
                    f"it may change {', '.join(ALLOWED)}",
                )
        return frozenset(asked)


@dataclass(frozen=True)
class Change:
    """A field that a resume changes."""

    key: str
    was: Any
    now: Any


def recorded(recipe: Recipe) -> dict[str, Any]:
    """Every field of a recipe by its dotted name, as origin.json keeps it."""
    return dict(flatten(as_tree(recipe)))


def recipe_changes(
    before: Mapping[str, Any] | None, recipe: Recipe, keys: frozenset[str], run_name: str
) -> tuple[Change, ...]:
    """The fields that differ from the record of the run's start, all of them allowed; CheckpointError with
    a diff of the others. A field that the record does not know is a later doitune's where it is at what was
    done before there was one: its default, or what BEFORE says."""
    if not isinstance(before, Mapping):
        raise CheckpointError(
            f"{run_name} has no record of its recipe in origin.json", "start a new run from its recipe.yaml"
        )
    now = recorded(recipe)
    changes = [
        Change(key, before.get(key), now.get(key))
        for key in sorted({*before, *now})
        if _plain(before.get(key)) != _plain(now.get(key)) and not _is_later(key, before, now)
    ]
    _refuse([one for one in changes if one.key not in keys], run_name)
    if any(one.key in LONGER for one in changes) and recipe.train.schedule != "constant":
        raise CheckpointError(
            f"{run_name}: the rate of schedule {recipe.train.schedule} depends on how many steps there are; "
            "a longer run is another run",
            "start a new run; only train.schedule: constant can be made longer",
        )
    return tuple(changes)


def _is_later(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return key not in before and now[key] == BEFORE.get(key, default_of(key))


def _refuse(changes: Sequence[Change], run_name: str) -> None:
    if not changes:
        return
    cures = [f"--allow {one.key}" for one in changes if one.key in ALLOWED]
    cure = "write the old value back into its recipe.yaml, or start a new run from it" + (
        f"; {' '.join(cures)} goes on with it" if cures else ""
    )
    problems = [
        Problem(run_name, f"recipe {one.key}: was {_shown(one.was)}, is {_shown(one.now)}") for one in changes
    ]
    raise CheckpointError.of([Problem(problems[0].place, problems[0].problem, cure), *problems[1:]])


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)


def with_changes(
    origin: Mapping[str, Any], recipe: Recipe, changes: Sequence[Change], step: int
) -> dict[str, Any]:
    """origin.json with the recipe as it is from now on, and every change that was allowed, from the step
    on which it counts."""
    allowed = [
        *origin.get("allowed", []),
        *(
            {"key": one.key, "was": _plain(one.was), "is": _plain(one.now), "after_step": step}
            for one in changes
        ),
    ]
    return {**origin, "recipe": recorded(recipe), "allowed": allowed}
