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

SLOW_ROWS = 1000
"""So many rows take seconds one by one: then it is said."""

Part = tuple[Sequence["Example"], list[Sequence["Message"] | None], "Future[list[list[int]]]"]
"""Examples, the chats of those that may be quick, and the ids of these."""


def encode_rows(
    examples: Sequence[Example], template: Template, notes: list[str] | None = None
) -> EncodedRows:
    """The rows encoded, and the template's law proved on each; a sentence is added to `notes` where many are
    not quick. Errors: as `encode_all` and `prove_law`."""
    most_ids = max(len(template.tokenizer), template.rows, max(template.control_ids, default=0) + 1)
    id_type = EncodedWriter(most_ids).id_type
    quick = Quick(template, id_type, len(examples)) if template.kind == "model" else None
    try:
        found, slow = _encode_rows(examples, template, quick, EncodedWriter(most_ids))
    except _NotAlike:
        found, slow = _encode_rows(examples, template, None, EncodedWriter(most_ids))
    if notes is not None and template.kind == "model" and slow >= SLOW_ROWS:
        notes.append(
            f"{slow:,} of {len(examples):,} rows are rendered one by one, which takes several times as long: "
            "the base's chat template is not known to write them as it writes others of their roles"
        )
    return found


class _NotAlike(Exception):
    """A row that is another the long way: nothing is certain of this template."""


def _encode_rows(
    examples: Sequence[Example], template: Template, quick: Quick | None, found: EncodedWriter
) -> tuple[EncodedRows, int]:
    """The rows, and how many of them are not quick."""
    share, slow_rows = RETOKENISED_ROWS / max(1, len(examples)), 0
    doing("encoding and proving rows", 0, len(examples))
    for part, rows in _parts(examples, quick):
        slow = [place for place, row in enumerate(rows) if row is None]
        slow_rows += len(slow)
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
    return found.rows(), slow_rows


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
            part = list(examples[start : start + ROWS_AT_ONCE])
            yield part, [None] * len(part)
        return
    with ThreadPoolExecutor(1) as cutter:
        waiting: list[Part] = []
        for start in starts:
            waiting.append(_begun(list(examples[start : start + ROWS_AT_ONCE]), quick, cutter))
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
