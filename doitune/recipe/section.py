"""Section: a part of a recipe; and the kinds of value that its fields hold, with their limits."""

from __future__ import annotations

import inspect
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from doitune.recipe.field import Field, FieldInfo, Limits

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Any:
        return lambda kind: kind


@dataclass(frozen=True)
class Contradiction:
    """Two fields of a section that cannot both hold; `field` is the one to change."""

    field: str
    problem: str
    hint: str


@dataclass(frozen=True)
class Broken:
    """A field whose value breaks a limit, in words that follow `it`; "" where it is missing."""

    field: str
    limit: str
    value: Any = None


class Invalid(ValueError):
    """What is wrong with the values of a section. Contradictions are looked for where no value is broken."""

    def __init__(self, broken: list[Broken], contradictions: tuple[Contradiction, ...] = ()) -> None:
        limits = [f"{one.field} {one.limit or 'is missing'}" for one in broken]
        super().__init__("; ".join([*limits, *(one.problem for one in contradictions)]))
        self.broken, self.contradictions = broken, contradictions


class _Values:
    """Values by name that do not change."""

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """The same with other values, which are not checked."""
        made = type(self).__new__(type(self))
        made.__dict__.update({**self.__dict__, **update})
        return made

    def model_dump(self) -> dict[str, Any]:
        """The values by name, sections as mappings."""
        return {name: _dumped(value) for name, value in self.__dict__.items()}

    def model_dump_json(self) -> str:
        """The same as JSON, on which keys of caches are built."""
        return json.dumps(self.model_dump(), ensure_ascii=False, separators=(",", ":"), default=vars)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({said})"


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
class Section(_Values):
    """A part of a recipe: frozen, no unknown field, no conversion behind the reader's back."""

    model_fields: ClassVar[dict[str, FieldInfo]] = {}

    def __init_subclass__(cls, first: Mapping[str, tuple[Any, FieldInfo]] | None = None) -> None:
        """`first`: fields whose names Python does not allow in a class."""
        fields: dict[str, FieldInfo] = {}
        for base in reversed(cls.__mro__[1:]):
            fields |= getattr(base, "model_fields", {})
        own = {
            name: (kind, cls.__dict__[name])
            for name, kind in inspect.get_annotations(cls, eval_str=True).items()
        }
        for name, (kind, field) in {**(first or {}), **own}.items():
            field.annotation = kind
            fields[name] = field
            if name in own:
                delattr(cls, name)
        cls.model_fields = fields

    def __init__(self, **values: Any) -> None:
        """Errors: Invalid; TypeError for a name that is no field."""
        if unknown := values.keys() - self.model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        broken: list[Broken] = []
        for name, field in self.model_fields.items():
            try:
                if name in values:
                    self.__dict__[name] = field.checked(values[name])
                elif field.is_needed:
                    broken.append(Broken(name, ""))
                elif not broken:  # it may follow from a field before it
                    self.__dict__[name] = field.default_value(self.__dict__)
            except ValueError as error:
                broken.append(Broken(name, str(error), values.get(name)))
        if broken:
            raise Invalid(broken)
        if found := tuple(self.contradictions()):
            raise Invalid([], found)

    def contradictions(self) -> Iterator[Contradiction]:
        """What the fields say against each other."""
        return iter(())

    @classmethod
    def stand_in(cls) -> Self:
        """The defaults, in the place of a section that could not be read."""
        made = cls.__new__(cls)
        for name, field in cls.model_fields.items():
            made.__dict__[name] = field.default_value(made.__dict__)
        return made


def _dumped(value: Any) -> Any:
    if isinstance(value, _Values):
        return value.model_dump()
    if isinstance(value, tuple):
        return tuple(_dumped(item) for item in value)
    return {key: _dumped(item) for key, item in value.items()} if isinstance(value, dict) else value


def _printable(text: str) -> str:
    """No control characters, no half of a surrogate pair."""
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text):
        raise ValueError("holds a control character")
    return text


def _one_line(text: str) -> str:
    if "\n" in text or "\t" in text:
        raise ValueError("must be one line")
    return _printable(text)


def _no_address(text: str) -> str:
    """A recipe names things on this machine or on the hub; it fetches from no other place."""
    if "://" in text:
        raise ValueError("is a web address; a hub name or a folder is wanted")
    return _one_line(text)


def _inside(text: str) -> str:
    """A folder inside the corpus, whatever the system's separator; a separator at its end says nothing."""
    text = text.rstrip("/\\")
    parts = re.split(r"[/\\]", text)
    if ".." in parts or parts[0] in ("", "~") or ":" in parts[0]:
        raise ValueError("must be a folder inside the corpus, without `..`")
    return _one_line(text)


def _distinct(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(items)) != len(items):
        raise ValueError("names something twice")
    return items


def _commit(text: str) -> str:
    if not re.fullmatch(r"([0-9a-f]{40})?", text):
        raise ValueError("must be 40 hex digits")
    return text


def _module_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", text):
        raise ValueError("must be a name of letters, digits, `_` and `.`")
    return text


Distinct = _distinct
"""For a list that may not name something twice."""

Text = Annotated[str, _printable]
Token = Annotated[str, _one_line]
Location = Annotated[str, _no_address, Limits(min_length=1)]
InnerFolder = Annotated[str, _inside, Limits(min_length=1)]
Commit = Annotated[str, _commit]
Count = Annotated[int, Limits(ge=0)]
Natural = Annotated[int, Limits(ge=1)]
Seed = Annotated[int, Limits(ge=0, lt=2**32)]
Rate = Annotated[float, Limits(gt=0.0, le=1.0)]
Share01 = Annotated[float, Limits(ge=0.0, lt=1.0)]
ModuleName = Annotated[str, _module_name]
Modules = Annotated[tuple[ModuleName, ...], Limits(min_length=1), Distinct]
