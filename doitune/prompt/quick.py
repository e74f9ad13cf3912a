"""Many rows under a base's own chat template, quickly: rendered once for all of a shape, cut once a row.

What `encode_all` and `prove_law` find by rendering and cutting a row several times follows here from one cut
of its whole text, for rows of which that is certain: the template writes the shape alike whatever the
contents (`Parts`), each answer stands between control tokens, at which a tokenizer cuts a text in two, and
the row has the shape's control tokens and no other. A row that is not certain is left to those two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from doitune.data.message import Message
from doitune.errors import DataError
from doitune.prompt.encode import decode_all
from doitune.prompt.parts import Parts
from doitune.prompt.speech import says, spoken
from doitune.prompt.spelling import Spelling
from doitune.prompt.template import Template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.unsignedinteger[Any]]

MOST_SHAPES = 1000
"""Shapes that are kept; rows of further ones are left to `encode_all`."""

SPELT_ROWS = 10_000
"""From so many rows on a table of what each token says is made, which takes as long as to decode these."""

STAND_IN = "好"
"""A content to see a shape's control tokens by."""


class Mark(NamedTuple):
    """A place in a row: behind its first `controls` control tokens, and the tokens `tail` that follow the
    last of these."""

    controls: int
    tail: tuple[int, ...]

    def find(self, ids: Sequence[int], controls: Sequence[int]) -> int:
        """Where it is in a row whose control tokens stand at `controls`; -1 where the tail is another."""
        start = controls[self.controls - 1] + 1
        end = start + len(self.tail)
        return end if tuple(ids[start:end]) == self.tail else -1


@dataclass(frozen=True)
class Shape:
    """Chats of the same roles. `controls`: the control tokens of each. `turns`: where the answer of each
    learnt turn begins, and where the turn is over."""

    whole: Parts
    controls: tuple[int, ...]
    turns: tuple[tuple[Mark, Mark], ...]


class Row(NamedTuple):
    """One conversation's ids, and the runs of them that are trained as (start, end)."""

    ids: Numbers
    runs: tuple[tuple[int, int], ...]


class Quick:
    """Encodes rows of one `model` template. `id_type`: numpy's name for the numbers that ids are. `rows`: how
    many there will be."""

    def __init__(self, template: Template, id_type: str = "u4", rows: int = 0) -> None:
        self.template, self.id_type = template, id_type
        self._spelling = Spelling(template) if rows >= SPELT_ROWS else None
        self.names = _names(template)
        self._literals = re.compile("|".join(map(re.escape, self.names.values())) or "(?!)")
        self._shapes: dict[tuple[tuple[str, bool], ...], Shape | None] = {}
        self._control = _table(template)

    def shape(self, messages: Sequence[Message]) -> Shape | None:
        """The shape of a chat; None where it is not certain."""
        key = tuple((one.role, one.learnt) for one in messages)
        if key not in self._shapes:
            known = bool(self.names) and len(self._shapes) < MOST_SHAPES
            self._shapes[key] = _shape(messages, self.template, self.names) if known else None
        return self._shapes[key]

    def chat(self, messages: Sequence[Message]) -> Sequence[Message] | None:
        """The conversation as the template is given it; None where it says more than texts, or cannot be
        written."""
        try:
            found = spoken(messages, self.template.manner)
        except DataError:
            return None
        return None if any(one.calls or one.tools or one.thinking or one.name for one in found) else found

    def text(self, messages: Sequence[Message]) -> str | None:
        """What the template writes for a `chat`; None where that is not certain."""
        contents = [one.content.strip() for one in messages]
        shape = self.shape(messages)
        if shape is None or not all(contents) or any(map(self._literals.search, contents)):
            return None
        return shape.whole.text(contents)

    def rows(self, chats: Sequence[Sequence[Message]], cut: Sequence[Sequence[int]]) -> list[Row | None]:
        """The rows of chats whose texts (see `text`) are cut as `cut`; None for what is not certain."""
        import numpy as np

        ids = np.fromiter(chain.from_iterable(cut), dtype=np.int64)
        starts = np.cumsum([0, *map(len, cut)])
        at = np.flatnonzero(self._control[ids])
        first = np.searchsorted(at, starts).tolist()
        where = (at - np.repeat(starts[:-1], np.diff(first))).tolist()
        numbers, begins = ids.astype(self.id_type), starts.tolist()
        found = []
        for place, chat in enumerate(chats):
            controls = where[first[place] : first[place + 1]]
            runs = _runs(self.shape(chat), cut[place], controls, self.template)
            begin = begins[place]
            found.append(Row(numbers[begin : begin + runs[-1][1]], runs) if runs else None)
        return _proved(found, chats, cut, self.template, self._spelling)


def _table(template: Template) -> Any:
    """Whether each id is a control token."""
    import numpy as np

    size = max(max(template.control_ids, default=0), len(template.tokenizer), template.rows) + 1
    known = np.zeros(size, dtype=bool)
    known[list(template.control_ids)] = True
    return known


def _runs(
    shape: Shape | None, ids: Sequence[int], controls: Sequence[int], template: Template
) -> tuple[tuple[int, int], ...]:
    """The trained runs of a row of a shape, whose control tokens stand at `controls`; () where it is not
    certain."""
    if shape is None or tuple([ids[at] for at in controls]) != shape.controls:
        return ()
    runs = []
    for begins, over in shape.turns:
        start, end = begins.find(ids, controls), controls[begins.controls] + 1
        if start < 0 or start >= end - 1 or over.find(ids, controls) < 0:
            return ()
        runs.append((start, end))
    if template.rows and max(ids[: runs[-1][1]]) >= template.rows:
        return ()
    if runs[-1][1] > 1 and ids[0] == ids[1] == template.tokenizer.bos_token_id:
        return ()
    return tuple(runs)


def _proved(
    rows: list[Row | None],
    chats: Sequence[Sequence[Message]],
    cut: Sequence[Sequence[int]],
    template: Template,
    spelling: Spelling | None,
) -> list[Row | None]:
    """The rows; None for those whose trained tokens do not read as their learnt turns say."""
    asked: list[Sequence[int]] = []
    unsure: list[int] = []
    for place, row in enumerate(rows):
        runs = [cut[place][start : end - 1] for start, end in row.runs] if row else []
        pairs = zip(runs, _learnt(chats[place]) if runs else (), strict=True)
        if not spelling or not all(spelling.is_said(run, turn.content.strip()) for run, turn in pairs):
            unsure.append(place)
            asked += runs
    said = iter(decode_all(asked, template) if asked else ())
    for place in unsure:
        rows[place] = rows[place] if rows[place] and _reads(said, chats[place]) else None
    return rows


def _reads(said: Iterator[str], chat: Sequence[Message]) -> bool:
    """Whether the next texts are what the learnt turns of a chat say."""
    pairs = [(next(said).strip(), turn) for turn in _learnt(chat)]
    return all(
        text == turn.content.strip() or says(text, turn, may_lose_thoughts=False) for text, turn in pairs
    )


def _learnt(messages: Sequence[Message]) -> list[Message]:
    return [one for one in messages if one.role == "assistant" and one.learnt]


def _names(template: Template) -> dict[int, str]:
    """The control tokens by id and their texts; empty where one of them is not found in a text as it
    stands."""
    added = template.tokenizer.added_tokens_decoder
    plain = template.renderer is not None and all(
        number in added
        and not (added[number].lstrip or added[number].rstrip or added[number].single_word)
        and not added[number].normalized
        for number in template.control_ids
    )
    return {number: str(added[number].content) for number in template.control_ids} if plain else {}


def _shape(messages: Sequence[Message], template: Template, names: dict[int, str]) -> Shape | None:
    """The shape of chats like this one."""
    assert template.renderer is not None
    roles = [{"role": one.role} for one in messages]
    learnt = [turn for turn, one in enumerate(messages) if one.role == "assistant" and one.learnt]
    whole = template.renderer.parts(roles, False)
    if whole is None or not learnt or learnt[-1] != len(messages) - 1:
        return None
    if [one for one in whole.pieces if isinstance(one, int)] != [*range(len(messages))]:
        return None
    controls = _controls(whole, len(messages), template)
    untrue, turns = list(whole.untrue), []
    for turn in learnt:
        before = template.renderer.parts(roles[:turn], True)
        after = template.renderer.parts(roles[: turn + 1], False)
        if before is None or after is None:
            return None
        untrue += [*before.untrue, *after.untrue]
        begins, over = (_mark(one, whole, template, names) for one in (before, after))
        if begins is None or over is None or whole.pieces[len(before.pieces)] != turn:
            return None
        if over.controls <= begins.controls or controls[begins.controls] not in template.stop_ids:
            return None
        turns.append((begins, over))
    return Shape(Parts(whole.pieces, tuple(dict.fromkeys(untrue))), tuple(controls), tuple(turns))


def _controls(parts: Parts, turns: int, template: Template) -> list[int]:
    """The control tokens of what the parts say."""
    ids = template.text_ids([parts.text([STAND_IN] * turns) or ""])[0]
    return [one for one in ids if one in template.control_ids]


def _mark(start: Parts, whole: Parts, template: Template, names: dict[int, str]) -> Mark | None:
    """The place in `whole` where what `start` says is over; None where it is not its start, or does not end
    in a control token and text that no content reaches into."""
    last = start.pieces[-1] if start.pieces else 0
    at = len(start.pieces) - 1
    there = whole.pieces[at] if 0 <= at < len(whole.pieces) else 0
    if not isinstance(last, str) or not isinstance(there, str):
        return None
    if start.pieces[:at] != whole.pieces[:at] or not there.startswith(last):
        return None
    place, name = max((last.rfind(name), name) for name in names.values())
    if place < 0:
        return None
    cut = template.text_ids([last[place:]])[0]
    if not cut or names.get(cut[0]) != name or any(one in template.control_ids for one in cut[1:]):
        return None
    controls = len(_controls(start, sum(isinstance(one, int) for one in whole.pieces), template))
    return Mark(controls, tuple(cut[1:])) if controls else None
