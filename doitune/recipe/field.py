"""Field: what a key of a section may hold: its type, default, limits and meaning.

Written out here because a library for it was a third of the start of each command that reads a recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

UNIONS = (Union, UnionType)


class _Nothing:
    """That no default is given."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING: Any = _Nothing()


class WrongType(ValueError):
    """A value of another type than its field's."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a number, or the least length of a text or list."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    min_length: int = 0

    def __call__(self, value: Any) -> Any:
        """The value. ValueError, in words that follow `it`."""
        if self.gt is not None and value <= self.gt:
            raise ValueError(f"must be above {self.gt}")
        if self.ge is not None and value < self.ge:
            raise ValueError(f"must be at least {self.ge}")
        if self.lt is not None and value >= self.lt:
            raise ValueError(f"must be below {self.lt}")
        if self.le is not None and value > self.le:
            raise ValueError(f"must be at most {self.le}")
        if self.min_length and len(value) < self.min_length:
            raise ValueError("must not be empty")
        return value


@dataclass
class FieldInfo:
    """A field. `factory`: a class that is called, or a function of the fields before this one."""

    description: str
    default: Any
    factory: Callable[..., Any] | None
    limits: Limits | None
    annotation: Any = None

    @property
    def is_needed(self) -> bool:
        """Whether a value is to be given."""
        return self.default is NOTHING and self.factory is None

    def checked(self, value: Any) -> Any:
        """The value as the field holds it. ValueError, in words that follow `it`."""
        value = checked(self.annotation, value)
        return self.limits(value) if self.limits and value is not None else value

    def default_value(self, before: Mapping[str, Any]) -> Any:
        """What the field holds where nothing is said, from the fields `before`; NOTHING where needed."""
        if self.factory is None:
            return self.default
        return self.factory() if isinstance(self.factory, type) else self.checked(self.factory(before))


def Field(
    *,
    description: str,
    default: Any = NOTHING,
    default_factory: Callable[..., Any] | None = None,
    **limits: float,
) -> Any:
    """A field, as a section's class states it."""
    return FieldInfo(
        description,
        default,
        default_factory,
        Limits(**limits) if limits else None,  # type: ignore[arg-type]
    )


def checked(kind: Any, value: Any) -> Any:
    """The value, where it is of the type `kind` and keeps the limits in it; nothing is converted but a whole
    number where a float is wanted. WrongType; ValueError for a limit, in words that follow `it`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        value = checked(inner[0], value)
        for check in kind.__metadata__:
            value = check(value)
        return value
    if origin in UNIONS:
        return _one_of(inner, value)
    if origin is tuple and isinstance(value, tuple):
        return tuple(checked(inner[0], item) for item in value)
    if origin is dict and isinstance(value, dict):
        return {checked(inner[0], key): checked(inner[1], item) for key, item in value.items()}
    if origin is Literal and any(value == one and type(value) is type(one) for one in inner):
        return value
    if kind is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return float(value)
    if kind is type(value) or (kind is None and value is None):
        return value
    if isinstance(kind, type) and origin is None and kind not in (int, float) and isinstance(value, kind):
        return value
    raise WrongType(f"is not of the type {kind}")


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return checked(kind, value)
        except WrongType:
            continue
    raise WrongType(f"is of none of the types {kinds}")
