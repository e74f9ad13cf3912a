"""Any number of rows encoded and proved, some at a time: the ids go to the disk, and what comes next is cut
while what came before is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil
from typing import TYPE_CHECKING

from doitune.prompt.encode import encode_all
from doitune.prompt.encoded import Encoded
from doitune.prompt.encoded_rows import EncodedRows, EncodedWriter, runs_of
from doitune.prompt.law import RETOKENISED_ROWS, prove_law
from doitune.prompt.quick import Quick, Row
from doitune.system.doing import doing

if TYPE_CHECKING:
    from doitune.data.example import Example
    from doitune.data.message import Message
    from doitune.prompt.template import Template

ROWS_AT_ONCE = 1024

CHECKED_EVERY = 500
"""Of quick rows, one in so many is encoded the long way, too, the first of each part among them."""

Part = tuple[Sequence["Example"], list[Sequence["Message"] | None], "Future[list[list[int]]]"]
"""Examples, the chats of those that may be quick, and the ids of these."""


def encode_rows(examples: Sequence[Example], template: Template) -> EncodedRows:
    """The rows encoded, and the template's law proved on each. Errors: as `encode_all` and `prove_law`."""
    quick = Quick(template) if template.kind == "model" else None
    try:
        return _encode_rows(examples, template, quick)
    except _NotAlike:
        return _encode_rows(examples, template, None)


class _NotAlike(Exception):
    """A row that is another the long way: nothing is certain of this template."""


def _encode_rows(examples: Sequence[Example], template: Template, quick: Quick | None) -> EncodedRows:
    most_ids = max(len(template.tokenizer), template.rows, max(template.control_ids, default=0) + 1)
    found = EncodedWriter(most_ids)
    share = RETOKENISED_ROWS / max(1, len(examples))
    doing("encoding and proving rows", 0, len(examples))
    for part, rows in _parts(examples, quick):
        slow = [place for place, row in enumerate(rows) if row is None]
        checked = [place for place, row in enumerate(rows) if row is not None][::CHECKED_EVERY]
        long = dict(zip(slow, _the_long_way([part[one] for one in slow], template, share), strict=True))
        again = _the_long_way([part[one] for one in checked], template, share)
        if not all(map(_is_alike, [rows[one] for one in checked], again)):
            raise _NotAlike
        for place, row in enumerate(rows):
            if row is None:
                found.add_encoded(long[place])
            else:
                found.add(row.ids, row.runs)
        doing("encoding and proving rows", len(found), len(examples))
    return found.rows()


def _is_alike(row: Row | None, encoded: Encoded) -> bool:
    return row is None or (tuple(row.ids.tolist()), list(row.runs)) == (encoded.ids, runs_of(encoded))


def _the_long_way(examples: Sequence[Example], template: Template, share: float) -> list[Encoded]:
    """`share`: see `prove_law`, of the rows that are here."""
    if not examples:
        return []
    conversations, places = [one.messages for one in examples], [one.place for one in examples]
    encoded = encode_all(conversations, template, places)
    prove_law(conversations, encoded, template, places, max(1, ceil(share * len(examples))))
    return encoded


def _parts(
    examples: Sequence[Example], quick: Quick | None
) -> Iterator[tuple[Sequence[Example], list[Row | None]]]:
    """Examples, and their rows as far as they are quick."""
    starts = range(0, len(examples), ROWS_AT_ONCE)
    if quick is None:
        for start in starts:
            part = examples[start : start + ROWS_AT_ONCE]
            yield part, [None] * len(part)
        return
    with ThreadPoolExecutor(1) as cutter:
        waiting: list[Part] = []
        for start in starts:
            waiting.append(_begun(examples[start : start + ROWS_AT_ONCE], quick, cutter))
            if len(waiting) > 1:
                yield _done(waiting.pop(0), quick)
        for begun in waiting:
            yield _done(begun, quick)


def _begun(part: Sequence[Example], quick: Quick, cutter: ThreadPoolExecutor) -> Part:
    chats = [quick.chat(one.messages) for one in part]
    texts = [None if chat is None else quick.text(chat) for chat in chats]
    cut = cutter.submit(quick.template.text_ids, [text for text in texts if text is not None])
    return part, [None if text is None else chat for chat, text in zip(chats, texts, strict=True)], cut


def _done(begun: Part, quick: Quick) -> tuple[Sequence[Example], list[Row | None]]:
    part, chats, cut = begun
    found = iter(quick.rows([chat for chat in chats if chat is not None], cut.result()))
    return part, [None if chat is None else next(found) for chat in chats]
