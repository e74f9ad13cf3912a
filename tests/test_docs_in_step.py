"""The Chinese manual says what the English one says: the same sections, commands and numbers, and beside each
Chinese section the digest of the English one that it was written from."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from manual import Section, blocks, in_chinese, pages, sections, shown, tables

PAIRS = [(page, in_chinese(page)) for page in pages()]


def pairs() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("english, chinese", PAIRS, ids=[shown(page) for page, _ in PAIRS])


@pairs()
def test_each_section_says_the_present_english_one(english: Path, chinese: Path) -> None:
    """Trap: a sentence changes in English, and whoever reads Chinese is told what was true once."""
    before, after = sections(english), sections(chinese)
    assert [bool(one.title) for one in before] == [bool(one.title) for one in after], shown(chinese)
    stale = [
        f"{shown(chinese)}, `{theirs.title or 'its head'}`: bring it in step with `{ours.title or 'the head'}` of "
        f"{shown(english)}, then write <!-- en: {ours.digest} --> in it"
        for ours, theirs in zip(before, after, strict=True)
        if ours.digest != theirs.stamp
    ]
    assert not stale, "\n" + "\n".join(stale)


def test_a_changed_word_changes_the_digest() -> None:
    one = Section("Rows", "\nThey are kept.\n\n")
    assert one.digest == Section("Rows", "They are kept.  ").digest
    assert one.digest != Section("Rows", "They are not kept.").digest
    assert Section("", f"x <!-- en: {one.digest} -->").stamp == one.digest


def spoken(text: str) -> str:
    """A block without its comments, which are translated."""
    return re.sub(r"[ ]*#[ ].*", "", text)


@pairs()
def test_what_is_typed_is_the_same(english: Path, chinese: Path) -> None:
    ours, theirs = blocks(english), blocks(chinese)
    assert [(one.language, spoken(one.text)) for one in ours] == [
        (one.language, spoken(one.text)) for one in theirs
    ]


NUMBER = re.compile(r"\d[\d,.]*\d|\d")


@pairs()
def test_tables_have_the_same_numbers(english: Path, chinese: Path) -> None:
    """Row for row, whatever the order of words within one."""
    ours, theirs = (tables(page.read_text(encoding="utf-8")) for page in (english, chinese))
    assert [[len(row) for row in table] for table in ours] == [
        [len(row) for row in table] for table in theirs
    ]
    for table, other in zip(ours, theirs, strict=True):
        for row, said in zip(table, other, strict=True):
            numbers = [Counter(NUMBER.findall(" ".join(cells))) for cells in (row, said)]
            assert numbers[0] == numbers[1], f"{shown(chinese)}: {said[0]}: {numbers[0] - numbers[1]} missing"


def test_every_page_is_in_chinese_and_no_other() -> None:
    folder = PAIRS[1][1].parent
    assert {path.name for path in folder.glob("*.md")} == {chinese.name for _, chinese in PAIRS[1:]}
