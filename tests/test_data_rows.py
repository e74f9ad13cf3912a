"""Rows on the disk are the examples that were put there, whatever is in them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from doitune.data.example import Example, Message
from doitune.data.message import ToolCall, content_key
from doitune.data.rows import RowsWriter, abilities_of, ids_of, keys_of, taken, together
from doitune.errors import DiskError
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


def test_every_field_comes_back() -> None:
    """Trap: a field that Message or Example gains is lost on the disk."""
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
