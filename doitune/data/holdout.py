"""Rows of one's own kept out of training, where the corpus has no rows to be validated on or judged by.

Which rows depends on the seed and on what they say, so that more rows in the file or a larger share change as
little as can be: a smaller share's rows are among a larger one's. No row is kept out that another row gives
away (`leaks`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from doitune.ability import INSTRUCTIONS
from doitune.data.compared import Compared
from doitune.data.example import Example
from doitune.data.forms import implied_form
from doitune.data.leaks import leaks_of
from doitune.data.rows import keys_of, taken, together
from doitune.data.sources import SYNTHETIC, TEST, VALID
from doitune.system.arrays import digests
from doitune.system.doing import doing

Rows = Mapping[str, Sequence[Example]]
"""Examples by ability."""

SPARE = 4
"""Candidates for one row that is kept out, as some are given away by other rows."""


@dataclass(frozen=True)
class Holdout:
    """A `share` (0..1) of each ability's rows, rounded up, at most `most` rows of an ability and never more
    than half of them; none where the share is less than half a row."""

    share: float
    most: int
    seed: int

    def rows_of(self, count: int) -> int:
        """How many of `count` rows are kept out."""
        wanted = self.share * count
        return min(math.ceil(wanted), self.most, count // 2) if wanted >= 0.5 else 0


@dataclass(frozen=True)
class Parted:
    """Rows by ability. `kept_out`: in the order in which they are taken; `learnt`: the others, in file order.
    `short`: abilities of which rows were to be kept out and none could be. False where nothing was parted."""

    kept_out: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    learnt: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    short: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.learnt)

    def rows(self, source: str) -> dict[str, Sequence[Example]]:
        """What is learnt from, or every other row kept out: the first to be judged by, the second to validate
        on."""
        if source not in (VALID, TEST):
            general = source == SYNTHETIC
            return {
                name: rows for name, rows in self.learnt.items() if (name == INSTRUCTIONS.name) == general
            }
        first = 0 if source == TEST else 1
        found = {name: rows[first::2] for name, rows in self.kept_out.items()}
        return {name: rows for name, rows in found.items() if rows}

    def sources(self) -> tuple[str, ...]:
        """The sources that rows were kept out for."""
        return tuple(source for source in (VALID, TEST) if self.rows(source))

    def ids(self) -> dict[str, list[str]]:
        """Ids of the rows kept out: `valid`, `test`."""
        names = {VALID: "valid", TEST: "test"}
        return {
            names[source]: [row.id for rows in self.rows(source).values() for row in rows]
            for source in self.sources()
        }


def part(rows: Rows, how: Holdout, beside: Sequence[Example] = ()) -> Parted:
    """The rows with a holdout taken out of them. A row kept out has the form of question that its answer
    implies; an open answer is compared as a text. `beside`: other rows that are learnt from."""
    if not how.share or not how.most:
        return Parted()
    doing("choosing rows to keep out")
    compared = Compared()
    for found in (*rows.values(), beside):
        compared.add(found)
    once, start = compared.asked_once(), 0
    candidates: dict[str, list[tuple[int, Example]]] = {}
    for name, found in rows.items():
        candidates[name] = _candidates(found, how, once[start : start + len(found)])
        start += len(found)
    told = _given_away(together((*rows.values(), beside)), candidates, compared)
    kept_out = {
        name: tuple(_asked(row) for _, row in found if row.id not in told)[: how.rows_of(len(rows[name]))]
        for name, found in candidates.items()
    }
    out = {row.id for found in kept_out.values() for row in found}
    return Parted(
        {name: found for name, found in kept_out.items() if found},
        {name: _without(found, candidates[name], out) for name, found in rows.items()},
        tuple(name for name, found in kept_out.items() if not found and how.rows_of(len(rows[name]))),
    )


def _candidates(rows: Sequence[Example], how: Holdout, alone: Any) -> list[tuple[int, Example]]:
    """Rows (and where they stand) that ask what no other asks (`alone`), in the order of a digest of seed and
    content."""
    import numpy as np

    mixed = digests(f"{how.seed}\x1fholdout\x1f".encode(), keys_of(rows))
    order = np.argsort(mixed, kind="stable")
    some = order[alone[order]][: SPARE * how.rows_of(len(rows))]
    return [(place, rows[place]) for place in some.tolist()]


def _without(
    rows: Sequence[Example], candidates: Sequence[tuple[int, Example]], out: set[str]
) -> Sequence[Example]:
    """The rows less those of the candidates that are kept out, whose ids are `out`."""
    import numpy as np

    left = np.ones(len(rows), dtype=bool)
    left[[number for number, row in candidates if row.id in out]] = False
    return rows if left.all() else taken(rows, np.flatnonzero(left))


def _given_away(
    every: Sequence[Example], candidates: Mapping[str, Sequence[tuple[int, Example]]], compared: Compared
) -> set[str]:
    """Ids of the candidates that another row gives away. No other row has a candidate's id; its place may be
    that of many, on one line."""
    judged = {"holdout": [row for some in candidates.values() for _, row in some]}
    found = leaks_of(every, judged, lambda _: compared.texts())
    return {leak.other_id for leak in found if leak.train_id != leak.other_id}


def _asked(row: Example) -> Example:
    """The row as a question."""
    reading = implied_form(row.question[-1].content, row.answer)
    return replace(
        row, form=reading.form, label=reading.label, options=reading.options, choices=reading.choices
    )
