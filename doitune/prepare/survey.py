"""What a file of one's own rows holds, before anything is decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from doitune.data.own_rows import OwnRows
from doitune.data.sources import FULL, SMALL, TEST, VALID
from doitune.errors import UsageError
from doitune.prepare.draw import recipe_corpus

if TYPE_CHECKING:
    from doitune.data.example import Example
    from doitune.recipe.fields import DataSection


@dataclass(frozen=True)
class Survey:
    """`abilities`: rows to learn from, by ability; `judged`: rows that name the splits valid and test;
    `forms`: rows by form. Lengths are of whole conversations, in characters."""

    abilities: dict[str, int]
    judged: int
    forms: dict[str, int]
    median_characters: int
    most_characters: int

    @property
    def rows(self) -> int:
        """Rows to learn from."""
        return sum(self.abilities.values())


def survey(section: DataSection) -> Survey:
    """Read every row that `section` names. Errors: those of `Corpus.read`; UsageError for a corpus that is
    not of rows of one's own."""
    corpus = recipe_corpus(section)
    if not isinstance(corpus.kept, OwnRows):
        raise UsageError(
            f"{section.corpus} is no file of rows of one's own: it is in the data set's layout",
            "the built-in recipes are for it: `doitune recipes list`",
        )
    found: dict[str, dict[str, Sequence[Example]]] = {
        source: corpus.read(source) for source in corpus.kept.sources() if source != SMALL
    }
    learnt = {
        name: rows
        for source, by_ability in found.items()
        if source not in (VALID, TEST)
        for name, rows in by_ability.items()
    }
    if not learnt:
        learnt = corpus.read(FULL)  # which says why there is none
    lengths = [sum(len(one.content) for one in row.messages) for rows in learnt.values() for row in rows]
    return Survey(
        {name: len(rows) for name, rows in learnt.items()},
        sum(len(rows) for source in (VALID, TEST) for rows in found.get(source, {}).values()),
        corpus.forms,
        round(median(lengths)),
        max(lengths),
    )
