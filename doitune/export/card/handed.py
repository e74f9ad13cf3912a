"""What a card is of, and how its texts and tables are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.data.corpus import KNOWN
from doitune.data.hub_rows import hub_rows
from doitune.data.hubs import REPOSITORY
from doitune.evals.markdown import escape
from doitune.export.room import room_tokens
from doitune.run.layout import ORIGIN

if TYPE_CHECKING:
    from doitune.export.source import Source

ADAPTER, MERGED, GGUF, GGUF_ADAPTER = "adapter", "merged", "gguf", "gguf-adapter"
"""What export.json says that it is of. An export for Ollama is one to GGUF, with a Modelfile."""


@dataclass(frozen=True)
class NamedBase:
    """How others find the base: a repository and its commit where it is `on_hub`, else what its folder is
    called (or a path, where its user asked for one)."""

    name: str
    revision: str
    on_hub: bool


@dataclass(frozen=True)
class Handed:
    """An export. `called`: the repository or folder in its examples; `document`: what export.json says."""

    source: Source
    base: NamedBase
    called: str
    document: Mapping[str, Any]

    @property
    def to(self) -> str:
        """ADAPTER, MERGED, GGUF or GGUF_ADAPTER."""
        return str(self.document["to"])

    @property
    def title(self) -> str:
        """The last part of what it is called."""
        return self.called.rsplit("/", 1)[-1]

    @property
    def datasets(self) -> list[str]:
        """The data sets of the hub that it learned from."""
        return datasets(self.source)

    @property
    def room_tokens(self) -> int:
        """What a server of it is asked to have room for."""
        return room_tokens(self.source, in_gguf=self.to in (GGUF, GGUF_ADAPTER))


def named_base(source: Source) -> NamedBase:
    """The base as the run found it; a folder by its name alone."""
    return NamedBase(source.base_name, source.base.revision, bool(source.base.revision))


def datasets(source: Source) -> list[str]:
    """Repositories on the Hugging Face hub that a run's rows came from, as far as its names say."""
    places = source.run.read_json(ORIGIN).get("places") or {}
    local = places.get("corpus", "")
    folders = [local] if isinstance(local, str) else list(local)
    found = []
    for number, entry in enumerate(source.recipe.data.corpora):
        if entry.place == "doit":
            found.append(REPOSITORY)
        elif entry.place not in KNOWN and not (number < len(folders) and folders[number]):
            wanted = hub_rows(entry.place)
            found += [wanted.repository] if wanted else []
    return list(dict.fromkeys(found))


def plain(text: str) -> str:
    """Text as Markdown shows it; what has no markup stands as it is."""
    return text if re.fullmatch(r"(?:[\w .,+/'%\-]|:(?= ))*", text) else escape(text)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def percent(value: float) -> str:
    """A share of 1 in %, with one digit."""
    return f"{100 * value:.1f}"
