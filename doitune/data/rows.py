"""Rows: any number of examples on the disk, a few bytes of each in memory, read one at a time."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from doitune.data.example import Example
from doitune.data.message import Message, ToolCall, content_key
from doitune.system.arrays import open_arrays, save_arrays
from doitune.system.scratch import Scratch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.integer[Any]]

KEY_BYTES = 32
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Example]):
    """Examples as a Sequence. Row i lies in `stores[store[i]]` at `starts[i]`, `sizes[i]` bytes long; its
    ability is `names[abilities[i]]`. `ids` are bytes of UTF-8, `keys` what `content_key` gives."""

    stores: tuple[Scratch, ...]
    store: Numbers
    starts: Numbers
    sizes: Numbers
    names: tuple[str, ...]
    abilities: Numbers
    ids: Any
    keys: Any

    def at(self, places: Any) -> Rows:
        """The rows at these places, in this order."""
        import numpy as np

        chosen = np.asarray(places)
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.int64)
        names = ("store", "starts", "sizes", "abilities", "ids", "keys")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def by_ability(self) -> dict[str, Rows]:
        """The rows of each ability that has some, in the order in which these first come."""
        import numpy as np

        numbers, first = np.unique(self.abilities, return_index=True)
        return {
            self.names[number]: self.at(self.abilities == number) for number in numbers[np.argsort(first)]
        }

    def names_of(self) -> list[str]:
        """The ability of each row."""
        return [self.names[number] for number in self.abilities.tolist()]

    def __len__(self) -> int:
        return len(self.starts)

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
        number = range(len(self))[place]
        data = self.stores[self.store[number]].read(int(self.starts[number]), int(self.sizes[number]))
        ability, name = self.names[self.abilities[number]], self.ids[number].decode()
        return _unpacked(data, name, ability)


def _block(rows: Rows, some: slice) -> Iterator[Example]:
    """Some of the rows; what lies end to end is read at once."""
    starts, sizes, store = rows.starts[some], rows.sizes[some], rows.store[some]
    if (store == store[0]).all() and (starts[1:] == starts[:-1] + sizes[:-1]).all():
        first = int(starts[0])
        whole = rows.stores[store[0]].read(first, int(sizes.sum()))
        spans = zip((starts - first).tolist(), (starts - first + sizes).tolist(), strict=True)
        texts = (whole[start:end] for start, end in spans)
    else:
        places = zip(store.tolist(), starts.tolist(), sizes.tolist(), strict=True)
        texts = (rows.stores[number].read(start, size) for number, start, size in places)
    names = zip(rows.ids[some].tolist(), rows.abilities[some].tolist(), strict=True)
    for text, (name, ability) in zip(texts, names, strict=True):
        yield _unpacked(text, name.decode(), rows.names[ability])


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

    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    stores = tuple(dict.fromkeys(store for part in parts for store in part.stores))
    places = [np.array([stores.index(one) for one in part.stores], dtype=np.int32) for part in parts]
    numbers = [np.array([names.index(one) for one in part.names], dtype=np.int32) for part in parts]
    return Rows(
        stores,
        np.concatenate([known[part.store] for part, known in zip(parts, places, strict=True)]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.sizes for part in parts]),
        names,
        np.concatenate([known[part.abilities] for part, known in zip(parts, numbers, strict=True)]),
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.keys for part in parts]),
    )


def taken(rows: Sequence[Example], places: Sequence[int]) -> Sequence[Example]:
    """The rows at these places, in this order."""
    return rows.at(places) if isinstance(rows, Rows) else [rows[place] for place in places]


def ids_of(rows: Sequence[Example]) -> list[str]:
    """The id of each row."""
    return [one.decode() for one in rows.ids.tolist()] if isinstance(rows, Rows) else [one.id for one in rows]


def keys_of(rows: Sequence[Example]) -> list[bytes]:
    """What `content_key` gives of each row."""
    if not isinstance(rows, Rows):
        return [content_key(one.messages) for one in rows]
    return [one.ljust(KEY_BYTES, b"\0") for one in rows.keys.tolist()]


def abilities_of(rows: Sequence[Example]) -> list[str]:
    """The ability of each row."""
    return rows.names_of() if isinstance(rows, Rows) else [one.ability for one in rows]


class RowsWriter:
    """Rows on their way to the disk, one after another."""

    def __init__(self, store: Scratch) -> None:
        self._store = store
        self._starts, self._sizes, self._abilities = array("q"), array("i"), array("i")
        self._ids: list[str] = []
        self._keys = bytearray()
        self._names: dict[str, int] = {}

    def add(self, example: Example) -> None:
        """One more row; its id may be a draft, see `rows`."""
        data = _packed(example)
        self._starts.append(self._store.size)
        self._sizes.append(len(data))
        self._store.add(data)
        self._ids.append(example.id)
        self._keys += content_key(example.messages)
        self._abilities.append(self._names.setdefault(example.ability, len(self._names)))

    def rows(self) -> Rows:
        """All that was added, with unique ids: those without an `idx` of their own get 16 hex digits of their
        content, repeated rows `-2`, `-3`."""
        import numpy as np

        starts = np.array(self._starts, dtype=np.int64)
        sizes, abilities = (np.array(one, dtype=np.int32) for one in (self._sizes, self._abilities))
        ids = np.array([name.encode() for name in self._named()] or [], dtype=np.bytes_)
        keys = np.frombuffer(bytes(self._keys), dtype=f"S{KEY_BYTES}")
        names = tuple(self._names)
        return Rows((self._store,), np.zeros_like(sizes), starts, sizes, names, abilities, ids, keys)

    def _named(self) -> list[str]:
        count = Counter(self._ids)
        found = {name for name, times in count.items() if times == 1 and not name.endswith("#")}
        for place, draft in enumerate(self._ids):
            if draft in found:
                continue
            key = self._keys[KEY_BYTES * place : KEY_BYTES * (place + 1)].hex()[:16]
            stem = f"{draft.partition('#')[0]}#{key}"
            name, repeat = stem, 1
            while name in found:
                repeat += 1
                name = f"{stem}-{repeat}"
            found.add(name)
            self._ids[place] = name
        return self._ids


_ARRAYS = ("starts", "sizes", "abilities", "ids", "keys")


def save_rows(rows: Rows, folder: Path, name: str) -> None:
    """Write rows into files of a folder that are called after `name`. Errors: OSError."""
    import numpy as np

    with (folder / f"{name}.rows.data").open("wb") as file:
        for store, start, size in zip(
            rows.store.tolist(), rows.starts.tolist(), rows.sizes.tolist(), strict=True
        ):
            file.write(rows.stores[store].read(start, size))
    packed = replace(rows, starts=np.cumsum(rows.sizes) - rows.sizes)
    save_arrays(folder, f"{name}.rows", {one: getattr(packed, one) for one in _ARRAYS})
    (folder / f"{name}.rows.names.json").write_text(json.dumps(rows.names), encoding="utf-8")


def open_rows(folder: Path, name: str) -> Rows:
    """The rows that `save_rows` wrote. Errors: OSError, ValueError."""
    import numpy as np

    store = Scratch.of(folder / f"{name}.rows.data")
    names = tuple(json.loads((folder / f"{name}.rows.names.json").read_text(encoding="utf-8")))
    arrays = open_arrays(folder, f"{name}.rows")
    return Rows((store,), np.zeros_like(arrays["sizes"]), names=names, **arrays)


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
