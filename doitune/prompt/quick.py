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
from doitune.prompt.template import Template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]

MOST_SHAPES = 1000
"""Shapes that are kept; rows of further ones are left to `encode_all`."""

STAND_IN = "好"
"""A content to see a shape's control tokens by."""


class Mark(NamedTuple):
    """A place in a row: behind its first `controls` control tokens, and the tokens `tail` that follow the
    last of these."""

    controls: int
    tail: tuple[int, ...]

    def find(self, ids: Numbers, controls: Numbers) -> int:
        """Where it is in a row whose control tokens stand at `controls`; -1 where the tail is another."""
        start = int(controls[self.controls - 1]) + 1
        end = start + len(self.tail)
        return end if tuple(ids[start:end].tolist()) == self.tail else -1


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
    """Encodes rows of one `model` template."""

    def __init__(self, template: Template) -> None:
        self.template = template
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

        ids = np.array(list(chain.from_iterable(cut)), dtype=np.int64)
        starts = np.concatenate(([0], np.cumsum([len(one) for one in cut])))
        at = np.flatnonzero(self._control[ids])
        first = np.searchsorted(at, starts)
        found = [
            _row(self.shape(chat), ids[start:end], at[begin:stop] - start, self.template)
            for chat, start, end, begin, stop in zip(
                chats, starts[:-1], starts[1:], first[:-1], first[1:], strict=True
            )
        ]
        runs = [one.ids[start : end - 1].tolist() for one in found if one for start, end in one.runs]
        said = iter(decode_all(runs, self.template))
        return [one if one and _reads(said, chat) else None for one, chat in zip(found, chats, strict=True)]


def _table(template: Template) -> Any:
    """Whether each id is a control token."""
    import numpy as np

    size = max(max(template.control_ids, default=0), len(template.tokenizer), template.rows) + 1
    known = np.zeros(size, dtype=bool)
    known[list(template.control_ids)] = True
    return known


def _row(shape: Shape | None, ids: Numbers, controls: Numbers, template: Template) -> Row | None:
    """A row of a shape whose control tokens stand at `controls`."""
    if shape is None or tuple(ids[controls].tolist()) != shape.controls:
        return None
    runs = []
    for begins, over in shape.turns:
        start, end = begins.find(ids, controls), int(controls[begins.controls]) + 1
        if start < 0 or start >= end - 1 or over.find(ids, controls) < 0:
            return None
        runs.append((start, end))
    whole = ids[: runs[-1][1]]
    if template.rows and int(whole.max()) >= template.rows:
        return None
    if len(whole) > 1 and whole[0] == whole[1] == template.tokenizer.bos_token_id:
        return None
    return Row(whole, tuple(runs))


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
