"""Hidden characters made visible: one function for terminal, HTML, Markdown and SVG.

Texts of models, data and names can hold characters that a reader does not see or that change how others are
seen: escape sequences that drive a terminal, marks that turn the direction of writing, zero-width characters,
tags and variation selectors that carry text of their own. Escaping markup and leaving out secrets is the
caller's part.
"""

from __future__ import annotations

import re
import unicodedata

HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Controls, formats, lone surrogates, private use, line and paragraph separators.

Unassigned characters (Cn) are shown as they are: this year's emoji are unassigned to last year's Python.
"""

_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point: what a font may leave out without a trace.

Source: https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt
"""

_EMOJI_SELECTORS = "\ufe0e\ufe0f"
_JOINER = "\u200d"
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")


def visible(text: str, kept: str = "\n\t") -> str:
    """`text` with every hidden character as its code, `<U+202E>`; those in `kept` stay.

    Emoji stay whole: U+FE0E and U+FE0F after a symbol, digit or stop, and U+200D between two pictures, are
    seen in the picture that they make. The other selectors are marked, those of Chinese characters (U+E0100
    and on) too: most fonts draw the plain character, and a reader could not tell two texts apart that a model
    can. Joiners within scripts are marked for the same reason, and so are tags, at the price of three flags.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if char in kept or not hidden(char) or _makes_emoji(text, at) else f"<U+{ord(char):04X}>"
        for at, char in enumerate(text)
    )


def hidden(char: str) -> bool:
    """Whether a character by itself is not seen, changes how others are, or is none (U+FFFE and its like)."""
    code = ord(char)
    none = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return none or unicodedata.category(char) in HIDDEN_CATEGORIES or _IGNORABLE.match(char) is not None


def _makes_emoji(text: str, at: int) -> bool:
    """Whether the character there is a part of an emoji and not alone."""
    before = text[at - 1 : at] if at else ""
    if text[at] in _EMOJI_SELECTORS:
        return before != "" and unicodedata.category(before) in ("So", "Sm", "Po", "Pd", "Nd")
    if text[at] != _JOINER:
        return False
    if before == _EMOJI_SELECTORS[1]:
        before = text[at - 2 : at - 1]
    return _is_picture(before) and _is_picture(text[at + 1 : at + 2])


def _is_picture(char: str) -> bool:
    return char != "" and (unicodedata.category(char) == "So" or _SKIN_TONES[0] <= char <= _SKIN_TONES[1])
