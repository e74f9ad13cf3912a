"""Rows: any number of examples on the disk, a few bytes of each in memory, read one at a time."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from doitune.data.example import Example
from doitune.data.message import Message, ToolCall, content_key
from doitune.system.arrays import each, open_arrays, save_arrays
from doitune.system.scratch import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.integer[Any]]

KEY_BYTES = 32
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Table:
    """What is known in memory of rows on the disk.

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
    """Examples as a Sequence: those of a table at these places, in this order. A choice among many rows costs
    four bytes for each that is chosen."""

    table: Table
    places: Numbers

    def column(self, name: str) -> Any:
        """One column of the table, for these rows; made anew."""
        return getattr(self.table, name)[self.places]

    def at(self, places: Any) -> Rows:
        """The rows at these places, in this order."""
        import numpy as np

        chosen = np.asarray(places)
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.int64)
        return Rows(self.table, self.places[chosen])

    def by_ability(self) -> dict[str, Rows]:
        """The rows of each ability that has some, in the order in which these first come."""
        import numpy as np

        found = self.column("abilities")
        numbers, first = np.unique(found, return_index=True)
        names = self.table.names
        return {names[number]: self.at(found == number) for number in numbers[np.argsort(first)]}

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
        return Rows(parts[0].table, np.concatenate([part.places for part in parts]))
    names = tuple(dict.fromkeys(name for part in parts for name in part.table.names))
    stores = tuple(dict.fromkeys(store for part in parts for store in part.table.stores))
    places = [np.array([stores.index(one) for one in part.table.stores], dtype=np.int32) for part in parts]
    numbers = [np.array([names.index(one) for one in part.table.names], dtype=np.int32) for part in parts]

    def column(name: str) -> Any:
        return np.concatenate([part.column(name) for part in parts])

    return whole(
        Table(
            stores,
            np.concatenate([known[part.column("store")] for part, known in zip(parts, places, strict=True)]),
            column("starts"),
            column("sizes"),
            names,
            np.concatenate(
                [known[part.column("abilities")] for part, known in zip(parts, numbers, strict=True)]
            ),
            column("ids"),
            column("keys"),
        )
    )


def whole(table: Table) -> Rows:
    """All rows of a table."""
    import numpy as np

    return Rows(table, np.arange(len(table.starts), dtype=np.int32))


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
        self._starts, self._sizes, self._abilities = array("q"), array("i"), array("i")
        self._ids = Texts()
        self._keys = bytearray()
        self._names: dict[str, int] = {}

    def add(self, example: Example) -> None:
        """One more row; its id may be a draft, see `rows`."""
        data = _packed(example)
        self._starts.append(self._store.size)
        self._sizes.append(len(data))
        self._store.add(data)
        self._ids.add(example.id.encode())
        self._keys += content_key(example.messages)
        self._abilities.append(self._names.setdefault(example.ability, len(self._names)))

    def rows(self) -> Rows:
        """All that was added, with unique ids: those without an `idx` of their own get 16 hex digits of their
        content, repeated rows `-2`, `-3`."""
        import numpy as np

        starts = np.array(self._starts, dtype=np.int64)
        sizes, abilities = (np.array(one, dtype=np.int32) for one in (self._sizes, self._abilities))
        keys = np.frombuffer(bytes(self._keys), dtype=f"S{KEY_BYTES}")
        ids = _named(self._ids.as_array(), keys)
        names = tuple(self._names)
        return whole(Table((self._store,), np.zeros_like(sizes), starts, sizes, names, abilities, ids, keys))


class Texts:
    """Short texts, each a few bytes more than it has."""

    def __init__(self) -> None:
        self._all, self._sizes = bytearray(), array("i")

    def add(self, text: bytes) -> None:
        """One more text."""
        self._all += text
        self._sizes.append(len(text))

    def as_array(self) -> Any:
        """All of them, padded to the longest."""
        import numpy as np

        found = np.zeros(len(self._sizes), dtype=f"S{max(self._sizes, default=1)}")
        start = 0
        for place, size in enumerate(self._sizes):
            found[place] = bytes(self._all[start : start + size])
            start += size
        return found


def _named(drafts: Any, keys: Any) -> Any:
    """Unique ids for drafts; a draft that no other row has stays, unless it ends in `#`."""
    import numpy as np

    kept = ~np.char.endswith(drafts, b"#")
    if kept.any():
        _, which, times = np.unique(drafts, return_inverse=True, return_counts=True)
        kept &= times[which] == 1
    if kept.all():
        return drafts
    starts = np.frombuffer(keys.tobytes(), dtype=np.dtype((np.void, KEY_BYTES))).astype("V8")
    _, which, times = np.unique(starts, return_inverse=True, return_counts=True)
    repeated = times[which] > 1
    taken_names = set(drafts[kept].tolist())
    found = Texts()
    for draft, key, stays, again in zip(each(drafts), each(starts), each(kept), each(repeated), strict=True):
        stem = b"%s#%s" % (draft.partition(b"#")[0], key.hex().encode())
        name, repeat = draft if stays else stem, 1
        while not stays and name in taken_names:
            repeat += 1
            name = b"%s-%d" % (stem, repeat)
        if again:
            taken_names.add(name)
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
    columns["starts"] = np.cumsum(columns["sizes"]) - columns["sizes"]
    save_arrays(folder, f"{name}.rows", columns)
    (folder / f"{name}.rows.names.json").write_text(json.dumps(rows.table.names), encoding="utf-8")


def open_rows(folder: Path, name: str) -> Rows:
    """The rows that `save_rows` wrote. Errors: OSError, ValueError."""
    import numpy as np

    store = Scratch.of(folder / f"{name}.rows.data")
    names = tuple(json.loads((folder / f"{name}.rows.names.json").read_text(encoding="utf-8")))
    arrays = open_arrays(folder, f"{name}.rows")
    return whole(Table((store,), np.zeros_like(arrays["sizes"]), names=names, **arrays))


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
