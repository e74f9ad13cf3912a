"""Section: a part of a recipe; and the kinds of value that its fields hold, with their limits."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


@dataclass(frozen=True)
class Contradiction:
    """Two fields of a section that cannot both hold; `field` is the one to change."""

    field: str
    problem: str
    hint: str


class Section(BaseModel):
    """A part of a recipe: frozen, no unknown field, no conversion behind the reader's back."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False, defer_build=True
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """What the fields say against each other."""
        return iter(())

    @model_validator(mode="after")
    def _agree(self) -> "Section":
        found = tuple(self.contradictions())
        if found:
            raise PydanticCustomError(
                "contradiction", "{text}", {"text": "; ".join(c.problem for c in found), "found": found}
            )
        return self


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


Distinct = AfterValidator(_distinct)
"""For a list that may not name something twice."""

Text = Annotated[str, AfterValidator(_printable)]
Token = Annotated[str, AfterValidator(_one_line)]
Location = Annotated[str, AfterValidator(_no_address), Field(min_length=1)]
InnerFolder = Annotated[str, AfterValidator(_inside), Field(min_length=1)]
Commit = Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")]
Count = Annotated[int, Field(ge=0)]
Natural = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, le=1)]
Share01 = Annotated[float, Field(ge=0, lt=1)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
Modules = Annotated[tuple[ModuleName, ...], Field(min_length=1), Distinct]
