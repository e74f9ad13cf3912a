"""What hides in a text is seen on every way out: terminal, HTML, Markdown and SVG."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from html import unescape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doitune.console import screen
from doitune.evals.markdown import escape
from doitune.prepare.histogram import histogram_svg
from doitune.prepare.stats import Lengths, Stats
from doitune.report.html import tag
from doitune.report.plots import curves
from doitune.report.read import Point
from doitune.system.visible import HIDDEN_CATEGORIES, hidden, visible

CHARACTERS = {
    "NUL": "\x00",
    "escape": "\x1b",
    "delete": "\x7f",
    "C1 control sequence": "\x9b",
    "next line": "\x85",
    "soft hyphen": "\u00ad",
    "combining grapheme joiner": "\u034f",
    "Arabic letter mark": "\u061c",
    "Hangul choseong filler": "\u115f",
    "Hangul jungseong filler": "\u1160",
    "Hangul filler": "\u3164",
    "half-width Hangul filler": "\uffa0",
    "Khmer inherent vowel": "\u17b4",
    "Mongolian selector": "\u180b",
    "Mongolian vowel separator": "\u180e",
    "zero-width space": "\u200b",
    "zero-width joiner between letters": "\u200d",
    "left-to-right mark": "\u200e",
    "right-to-left override": "\u202e",
    "right-to-left isolate": "\u2067",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "invisible times": "\u2062",
    "unassigned and ignorable": "\u2065",
    "byte order mark": "\ufeff",
    "variation selector 1": "\ufe00",
    "emoji selector behind a letter": "\ufe0f",
    "variation selector 17": "\U000e0100",
    "tag A": "\U000e0041",
    "interlinear annotation": "\ufff9",
    "shorthand control": "\U0001bca0",
    "musical control": "\U0001d173",
    "private use": "\ue000",
    "private use of plane 15": "\U000f0000",
    "lone surrogate": "\ud800",
    "no character": "\uffff",
    "no character of plane 16": "\U0010fffe",
    "no character of the BMP": "\ufdd0",
}


def _svg(text: str) -> str:
    line = Lengths(text, 2, 3, 2, 1, 1.5, 1.5, 2, 2, 2, 0, (1, 1))
    return histogram_svg(Stats((line,), line, (1, 2, 3), False, 9))


def _terminal(text: str) -> str:
    console = screen.out()
    with console.capture() as caught:
        console.print(screen.grid(["a"], [[text]]))
    return caught.get()


WAYS: dict[str, Callable[[str], str]] = {
    "terminal": _terminal,
    "HTML": lambda text: unescape(tag("p", text, title=text)),
    "Markdown": lambda text: unescape(re.sub(r"\\(.)", r"\1", escape(text))),
    "SVG": lambda text: unescape(_svg(text)),
    "SVG of the page": lambda text: unescape(curves((), [Point(1, 0.5)], title=text)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CHARACTERS)
def test_a_hidden_character_is_shown_as_its_code(way: str, name: str) -> None:
    """Trap: each way had rules of its own, and five kinds of characters went through HTML as they were."""
    char = CHARACTERS[name]
    shown = WAYS[way](f"甲{char}b")
    assert f"甲<U+{ord(char):04X}>b" in shown and char not in shown


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", ["中文，。 ÄÖ", "❤️ 1️⃣", "👩🏽‍🚀 ❤️‍🔥 👁️‍🗨️", "e\u0301", "𠮷 𪚥", "a\u3000b"])
def test_what_is_seen_stays(way: str, text: str) -> None:
    assert text in WAYS[way](text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200db", "a<U+200D>b"),
        ("👩\u200d", "👩<U+200D>"),
        ("\u200d👩", "<U+200D>👩"),
        ("\ufe0f", "<U+FE0F>"),
        ("❤\ufe0f\ufe0f", "❤\ufe0f<U+FE0F>"),
        ("😀" + "\U000e0101" * 2, "😀<U+E0101><U+E0101>"),
        ("葛\U000e0100", "葛<U+E0100>"),
        ("\u202e\u200d\u202e", "<U+202E><U+200D><U+202E>"),
    ],
)
def test_selectors_and_joiners_stay_only_where_they_make_an_emoji(text: str, shown: str) -> None:
    """Trap: a text can carry another one in its selectors (sixteen of them are half a byte each)."""
    assert visible(text) == shown


def test_line_breaks_and_tabs_stay_where_the_way_out_has_room_for_them() -> None:
    assert visible("a\n\tb") == "a\n\tb" and visible("a\n\tb", kept="") == "a<U+000A><U+0009>b"
    assert "a ⏎ b" in escape("a\nb")


def test_every_hidden_character_of_unicode_is_marked() -> None:
    found = [chr(code) for code in range(sys.maxunicode + 1) if hidden(chr(code))]
    assert len(found) > 140_000
    assert {char for char in visible("".join(found)) if hidden(char)} == {"\n", "\t"}
    shown = [chr(code) for code in range(sys.maxunicode + 1) if not hidden(chr(code))]
    assert not [char for char in shown if unicodedata.category(char) in HIDDEN_CATEGORIES]
    assert all(char in shown for char in "aä中　😀")


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("a1 ☺👩🏽❤中<>\u200d\ufe0f\ufe0e\u202e\ue000\x1b")))
def test_what_is_visible_is_so_already(text: str) -> None:
    """Cutting and marking may be done twice on the way out: the second time changes nothing."""
    once = visible(text)
    assert visible(once) == once and not {char for char in once if hidden(char)} - set("\u200d\ufe0f\ufe0e")
