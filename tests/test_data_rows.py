"""Rows on the disk are the examples that were put there, whatever is in them."""

from __future__ import annotations

import mmap
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from doitune.data.example import Example, Message
from doitune.data.message import ToolCall, content_key
from doitune.data.rows import (
    Rows,
    RowsWriter,
    abilities_of,
    id_bytes,
    ids_of,
    keys_of,
    open_rows,
    save_rows,
    taken,
    together,
)
from doitune.errors import DiskError
from doitune.prompt.encoded_rows import EncodedWriter, open_encoded, save_encoded
from doitune.recipe.budget import Budget, pick
from doitune.system import arrays
from doitune.system.scratch import Scratch

FULL = Message(
    "assistant", " 答\n", False, "想", (ToolCall("f", '{"a": 1}', "x"),), "n", "c", '[{"name": "f"}]'
)
PLAIN = (Message("user", "问 \u2028 \U0001f600"), Message("assistant", "答"))


def examples() -> list[Example]:
    return [
        Example("own/客服#7", "客服", (*PLAIN, Message("user", "?"), FULL), "single_choice", "/\udce4:3", "A", ("A", "B"), ("x", "y"), ("k",)),
        Example("own/b#", "b", PLAIN, "open", "f:2"),
        Example("own/b#", "b", PLAIN, "open", "f:3"),
        Example("own/客服#7x", "客服", PLAIN[:2], "open", "f:4"),
    ]  # fmt: skip


@pytest.mark.parametrize("in_memory", [1, 2, arrays.AT_ONCE])
def test_every_field_comes_back(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps: a field that Message or Example gains is lost on the disk; long arrays, which lie there too, are
    other arrays."""
    monkeypatch.setattr(arrays, "AT_ONCE", in_memory)
    first = examples()[0]
    for one in (first, first.messages[-1]):
        plain = Example("", "", (), "open", "") if one is first else Message("user", "")
        same = [field.name for field in fields(one) if getattr(one, field.name) == getattr(plain, field.name)]
        assert not same, "each field has a value of its own here"
    writer = RowsWriter(Scratch())
    for example in examples():
        writer.add(example)
    rows = writer.rows()
    found = list(rows)
    key = content_key(PLAIN).hex()[:16]
    assert ids_of(rows) == ["own/客服#7", f"own/b#{key}", f"own/b#{key}-2", "own/客服#7x"]
    assert [one.id for one in found] == ids_of(rows)
    assert [(one.messages, one.form, one.place, one.label, one.options, one.choices, one.unread) for one in found] == [
        (one.messages, one.form, one.place, one.label, one.options, one.choices, one.unread) for one in examples()
    ]  # fmt: skip
    keys = [content_key(one.messages) for one in found]
    assert list(keys_of(rows)) == keys == list(keys_of(found))
    assert abilities_of(rows) == [one.ability for one in found] == abilities_of(found)
    assert {name: list(some) for name, some in rows.by_ability().items()} == {
        "客服": [found[0], found[3]],
        "b": found[1:3],
    }
    assert (
        list(rows[1:3]) == list(taken(found, [1, 2])) == list(taken(rows, [1, 2])) and rows[-1] == found[-1]
    )


def test_rows_of_several_files_are_one_sequence() -> None:
    parts = []
    for example in examples():
        writer = RowsWriter(Scratch())
        writer.add(example)
        parts.append(writer.rows())
    assert list(together(parts)) == [part[0] for part in parts]
    assert list(together([*parts, [examples()[1]]])) == [*(part[0] for part in parts), examples()[1]]
    assert len(together([])) == 0 and len(RowsWriter(Scratch()).rows()) == 0


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DiskError, match="cannot write in") as caught:
        Scratch().add(b"x")
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_equal_rows_are_numbered_in_the_order_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traps: an `idx` that somebody wrote is given to another row; thousands of equal rows take hours (each
    looked for a free number from the first on)."""
    monkeypatch.setattr(arrays, "AT_ONCE", 1000)
    key, writer = content_key(PLAIN).hex()[:16], RowsWriter(Scratch())
    for name in (f"own/b#{key}-2", *["own/b#"] * 20_000, f"own/b#{key}", "own/b#1", "own/b#1"):
        writer.add(Example(name, "b", PLAIN, "open", "f:1"))
    names = ids_of(writer.rows())
    assert len(set(names)) == len(names) == 20_004
    assert names[0] == f"own/b#{key}-2" and names[20_001] == f"own/b#{key}"
    assert names[1:3] == [f"own/b#{key}-3", f"own/b#{key}-4"] and names[-1] == f"own/b#{key}-20004"


@pytest.mark.parametrize("in_memory", [1, 3, arrays.AT_ONCE])
def test_arrays_are_the_same_on_the_disk(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: an entry at the end of what is worked on at a time is lost, or counted twice."""
    monkeypatch.setattr(arrays, "AT_ONCE", in_memory)
    values = np.array([5, 3, 5, 1, 3, 3, 9], dtype=np.int32)
    texts = np.array([b"b", b"aa", b"b", b"", b"aa", b"aa", b"z"])
    for one in (values, texts):
        unique, first, times = np.unique(one, return_index=True, return_counts=True)
        order, is_first = arrays.in_order(one)
        assert (order == np.argsort(one, kind="stable")).all() and (order[is_first] == first).all()
        assert (arrays.repeated(one) == np.isin(one, unique[times > 1])).all()
        assert (arrays.gathered(one, order) == np.sort(one)).all()
        assert (arrays.settled(one) == one).all() and list(arrays.each(one)) == one.tolist()
    assert arrays.joined([texts, np.array([b"longer"])]).tolist() == [*texts.tolist(), b"longer"]
    assert arrays.joined([values, values[:0], values]).tolist() == values.tolist() * 2
    column = arrays.Column("i4")
    column.append(5)
    column.extend(values[1:].tolist())
    assert column.as_array().tolist() == values.tolist()
    assert not len(arrays.in_order(values[:0])[0]) and not len(arrays.repeated(values[:0]))


def is_mapped(values: object) -> bool:
    """Whether an array is a view of a file."""
    return isinstance(values, mmap.mmap) or (values is not None and is_mapped(getattr(values, "base", None)))


def test_many_rows_lie_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trap: something of each row stays in memory, which millions of rows fill."""
    monkeypatch.setattr(arrays, "AT_ONCE", 2)
    rows, encoded = RowsWriter(Scratch()), EncodedWriter()
    for number in range(9):
        turns = (Message("user", str(number)), Message("assistant", "b"))
        rows.add(Example("own/a#", "ab"[number % 2], turns, "open", "f:1"))
        encoded.add(np.array([number], dtype="u4"), ((0, 1),))
    save_rows(rows.rows(), tmp_path, "rows")
    save_encoded(encoded.rows(), tmp_path, "rows")
    budget = Budget({}).of_corpus({"a", "b"}, own=True)
    for found, ids in (
        (rows.rows(), encoded.rows()),
        (open_rows(tmp_path, "rows"), open_encoded(tmp_path, "rows")),
    ):
        chosen = pick(found.by_ability(), budget, seed=1).examples
        assert isinstance(chosen, Rows) and len(chosen) == 9
        kept = {name: getattr(chosen.table, name) for name in ("starts", "sizes", "abilities", "ids", "keys")}
        kept |= {"places": chosen.places, "the ids of a course": id_bytes(chosen)}
        kept |= {field.name: getattr(ids.ranked(), field.name) for field in fields(ids)[1:-1]}
        kept |= {f"all {field.name}": getattr(ids, field.name) for field in fields(ids)[1:-1]}
        assert not [name for name, values in kept.items() if not is_mapped(values)]
