"""Rows: any number of examples on the disk, a few bytes of each in memory, read one at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from doitune.data.example import Example
from doitune.data.message import Message, ToolCall, content_key
from doitune.system.arrays import (
    Column,
    each,
    gathered,
    joined,
    open_arrays,
    repeated,
    save_arrays,
    settled,
)
from doitune.system.scratch import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.integer[Any]]

KEY_BYTES = 32
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Table:
    """What is known of rows on the disk, in arrays that lie there too where there are many.

    Row i lies in `stores[store[i]]` at `starts[i]`, `sizes[i]` bytes long; its ability is
    `names[abilities[i]]`. `ids` are bytes of UTF-8, `keys` what `content_key` gives.
    """

    stores: tuple[Scratch, ...]
    store: Numbers
    starts: Numbers
    sizes: Numbers
    names: tuple[str, ...]
    abilities: Numbers
    ids: Any
    keys: Any


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Example]):
    """Examples as a Sequence: those of a table at these places, in this order."""

    table: Table
    places: Numbers

    def column(self, name: str) -> Any:
        """One column of the table, for these rows; made anew."""
        return gathered(getattr(self.table, name), self.places)

    def at(self, places: Any) -> Rows:
        """The rows at these places, in this order."""
        import numpy as np

        chosen = np.asarray(places)
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.int64, copy=False)
        return Rows(self.table, settled(self.places[chosen]))

    def by_ability(self) -> dict[str, Rows]:
        """The rows of each ability that has some, in the order in which these first come."""
        import numpy as np

        found = self.column("abilities")
        places = ((np.flatnonzero(found == number), name) for number, name in enumerate(self.table.names))
        rows = sorted(
            ((some[0], name, self.at(some)) for some, name in places if len(some)), key=itemgetter(0)
        )
        return {name: some for _, name, some in rows}

    def names_of(self) -> list[str]:
        """The ability of each row."""
        names = self.table.names
        return [names[number] for number in self.column("abilities").tolist()]

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), ROWS_AT_ONCE):
            yield from _block(self, slice(start, start + ROWS_AT_ONCE))

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Rows: ...
    def __getitem__(self, place: int | slice) -> Example | Rows:
        if isinstance(place, slice):
            return self.at(range(len(self))[place])
        table, row = self.table, self.places[range(len(self))[place]]
        data = table.stores[table.store[row]].read(int(table.starts[row]), int(table.sizes[row]))
        return _unpacked(data, table.ids[row].decode(), table.names[table.abilities[row]])


def _block(rows: Rows, some: slice) -> Iterator[Example]:
    """Some of the rows; what lies end to end is read at once."""
    rows, table = rows[some], rows.table
    starts, sizes, store = (rows.column(name) for name in ("starts", "sizes", "store"))
    if (store == store[0]).all() and (starts[1:] == starts[:-1] + sizes[:-1]).all():
        first = int(starts[0])
        whole = table.stores[store[0]].read(first, int(sizes.sum()))
        spans = zip((starts - first).tolist(), (starts - first + sizes).tolist(), strict=True)
        texts = (whole[start:end] for start, end in spans)
    else:
        places = zip(store.tolist(), starts.tolist(), sizes.tolist(), strict=True)
        texts = (table.stores[number].read(start, size) for number, start, size in places)
    names = zip(rows.column("ids").tolist(), rows.column("abilities").tolist(), strict=True)
    for text, (name, ability) in zip(texts, names, strict=True):
        yield _unpacked(text, name.decode(), table.names[ability])


def together(parts: Iterable[Sequence[Example]]) -> Sequence[Example]:
    """All rows, one part after another."""
    found = [part for part in parts if len(part)]
    if not all(isinstance(part, Rows) for part in found) or not found:
        return [example for part in found for example in part]
    if len(found) == 1:
        return found[0]
    return _joined(cast("list[Rows]", found))


def _joined(parts: list[Rows]) -> Rows:
    import numpy as np

    if all(part.table is parts[0].table for part in parts):
        return Rows(parts[0].table, joined(part.places for part in parts))
    names = tuple(dict.fromkeys(name for part in parts for name in part.table.names))
    stores = tuple(dict.fromkeys(store for part in parts for store in part.table.stores))
    places = [np.array([stores.index(one) for one in part.table.stores], dtype=np.int32) for part in parts]
    numbers = [np.array([names.index(one) for one in part.table.names], dtype=np.int32) for part in parts]

    def column(name: str) -> Any:
        return joined(part.column(name) for part in parts)

    return whole(
        Table(
            stores,
            joined(gathered(known, part.column("store")) for part, known in zip(parts, places, strict=True)),
            column("starts"),
            column("sizes"),
            names,
            joined(
                gathered(known, part.column("abilities")) for part, known in zip(parts, numbers, strict=True)
            ),
            column("ids"),
            column("keys"),
        )
    )


def whole(table: Table) -> Rows:
    """All rows of a table."""
    import numpy as np

    return Rows(table, settled(np.arange(len(table.starts), dtype=np.int32)))


def taken(rows: Sequence[Example], places: Sequence[int] | Numbers) -> Sequence[Example]:
    """The rows at these places, in this order."""
    return rows.at(places) if isinstance(rows, Rows) else [rows[place] for place in places]


def ids_of(rows: Sequence[Example]) -> list[str]:
    """The id of each row."""
    return (
        [one.decode() for one in id_bytes(rows).tolist()]
        if isinstance(rows, Rows)
        else [one.id for one in rows]
    )


def id_bytes(rows: Sequence[Example]) -> Any:
    """The id of each row as bytes of UTF-8, in an array."""
    import numpy as np

    return (
        rows.column("ids")
        if isinstance(rows, Rows)
        else np.array([one.id.encode() for one in rows] or [], "S")
    )


def keys_of(rows: Sequence[Example]) -> Iterator[bytes]:
    """What `content_key` gives of each row."""
    if not isinstance(rows, Rows):
        return (content_key(one.messages) for one in rows)
    return (one.ljust(KEY_BYTES, b"\0") for one in each(rows.column("keys")))


def abilities_of(rows: Sequence[Example]) -> list[str]:
    """The ability of each row."""
    return rows.names_of() if isinstance(rows, Rows) else [one.ability for one in rows]


class RowsWriter:
    """Rows on their way to the disk, one after another."""

    def __init__(self, store: Scratch) -> None:
        self._store = store
        self._starts, self._sizes, self._abilities = Column("i8"), Column("i4"), Column("i4")
        self._keys = Column(f"S{KEY_BYTES}")
        self._ids = Texts()
        self._names: dict[str, int] = {}

    def add(self, example: Example) -> None:
        """One more row; its id may be a draft, see `rows`."""
        data = _packed(example)
        self._starts.append(self._store.size)
        self._sizes.append(len(data))
        self._store.add(data)
        self._ids.add(example.id.encode())
        self._keys.add(content_key(example.messages))
        self._abilities.append(self._names.setdefault(example.ability, len(self._names)))

    def rows(self) -> Rows:
        """All that was added, with unique ids: those without an `idx` of their own get 16 hex digits of their
        content, repeated rows `-2`, `-3`."""
        starts, sizes, abilities, keys = (
            one.as_array() for one in (self._starts, self._sizes, self._abilities, self._keys)
        )
        ids = _named(self._ids.as_array(), keys)
        names, first = tuple(self._names), _first_store(sizes)
        return whole(Table((self._store,), first, starts, sizes, names, abilities, ids, keys))


def _first_store(sizes: Any) -> Any:
    """The column of rows that all lie in the first store."""
    import numpy as np

    return np.broadcast_to(np.int32(0), len(sizes))


class Texts:
    """Short texts, each a few bytes more than it has."""

    def __init__(self) -> None:
        self._all, self._sizes, self._longest = Scratch(), Column("i4"), 1

    def add(self, text: bytes) -> None:
        """One more text."""
        self._all.add(text)
        self._sizes.append(len(text))
        self._longest = max(self._longest, len(text))

    def as_array(self) -> Any:
        """All of them, padded to the longest."""
        found, sizes = Column(f"S{self._longest}"), self._sizes.as_array()
        start = 0
        for at in range(0, len(sizes), ROWS_AT_ONCE):
            some = sizes[at : at + ROWS_AT_ONCE].tolist()
            texts = self._all.read(start, sum(some))
            ends = list(accumulate(some, initial=0))
            found.add(
                b"".join(texts[a:b].ljust(self._longest, b"\0") for a, b in zip(ends, ends[1:], strict=False))
            )
            start += len(texts)
        return found.as_array()


_LIKE_NAMED = re.compile(rb"#[0-9a-f]{16}(-[0-9]+)?$")
"""An `idx` that may be what `_named` gives a row that has none."""


def _named(drafts: Any, keys: Any) -> Any:
    """Unique ids for drafts; a draft that no other row has stays, unless it ends in `#`."""
    import numpy as np

    kept = ~np.char.endswith(drafts, b"#")
    if kept.any():
        kept &= ~repeated(drafts)
    if kept.all():
        return drafts
    stays_with = zip(each(drafts), each(kept), strict=True)
    taken_names = {draft for draft, stays in stays_with if stays and _LIKE_NAMED.search(draft)}
    again = repeated(keys.view(np.uint64)[:: KEY_BYTES // 8])
    repeats: dict[bytes, int] = {}
    found = Texts()
    for draft, key, stays, is_again in zip(each(drafts), each(keys), each(kept), each(again), strict=True):
        if stays:
            found.add(draft)
            continue
        stem = b"%s#%s" % (draft.partition(b"#")[0], key.ljust(8, b"\0")[:8].hex().encode())
        repeat = repeats.get(stem, 0) + 1
        while (name := stem if repeat == 1 else b"%s-%d" % (stem, repeat)) in taken_names:
            repeat += 1
        if is_again:
            repeats[stem] = repeat
        found.add(name)
    return found.as_array()


_ARRAYS = ("starts", "sizes", "abilities", "ids", "keys")


def save_rows(rows: Rows, folder: Path, name: str) -> None:
    """Write rows into files of a folder that are called after `name`. Errors: OSError."""
    import numpy as np

    columns = {one: rows.column(one) for one in _ARRAYS}
    spans = [each(column) for column in (rows.column("store"), columns["starts"], columns["sizes"])]
    with (folder / f"{name}.rows.data").open("wb") as file:
        for store, start, size in zip(*spans, strict=True):
            file.write(rows.table.stores[store].read(start, size))
    columns["starts"] = np.cumsum(columns["sizes"], dtype=np.int64) - columns["sizes"]
    save_arrays(folder, f"{name}.rows", columns)
    (folder / f"{name}.rows.names.json").write_text(json.dumps(rows.table.names), encoding="utf-8")


def open_rows(folder: Path, name: str) -> Rows:
    """The rows that `save_rows` wrote. Errors: OSError, ValueError."""
    store = Scratch.of(folder / f"{name}.rows.data")
    names = tuple(json.loads((folder / f"{name}.rows.names.json").read_text(encoding="utf-8")))
    arrays = open_arrays(folder, f"{name}.rows")
    return whole(Table((store,), _first_store(arrays["sizes"]), names=names, **arrays))


_write = json.JSONEncoder(ensure_ascii=False).encode
_read = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # what `decode` calls


def _packed(example: Example) -> bytes:
    """All of an example but its id and ability."""
    turns = [_turn(one) for one in example.messages]
    rest = [example.form, example.place, example.label, example.options, example.choices, example.unread]
    return _write([turns, *rest]).encode("utf-8", "surrogatepass")


def _turn(one: Message) -> list[Any]:
    if not (one.thinking or one.calls or one.name or one.call_id or one.tools):
        return [one.role, one.content, one.learnt]
    calls = [[call.name, call.arguments, call.id] for call in one.calls]
    return [one.role, one.content, one.learnt, one.thinking, calls, one.name, one.call_id, one.tools]


def _unpacked(data: bytes, name: str, ability: str) -> Example:
    (turns, form, place, label, options, choices, unread), _ = _read(data.decode("utf-8", "surrogatepass"), 0)
    messages = tuple(_message(*turn) for turn in turns)
    return Example(name, ability, messages, form, place, label, tuple(options), tuple(choices), tuple(unread))


def _message(
    role: Any, content: str, learnt: bool, thinking: str = "", calls: Any = (), *rest: str
) -> Message:
    if not (thinking or calls or rest):
        return Message(role, content, learnt)
    return Message(role, content, learnt, thinking, tuple(ToolCall(*call) for call in calls), *rest)
