"""Hidden characters made visible: one function for terminal, HTML, Markdown and SVG.

Texts of models, data and names can hold characters that a reader does not see or that change how others are
seen: escape sequences that drive a terminal, marks that turn the direction of writing, zero-width characters,
tags and variation selectors that carry text of their own. Escaping markup and leaving out secrets is the
caller's part.
"""

from __future__ import annotations

import unicodedata

HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
"""Controls, formats, lone surrogates, private use, line and paragraph separators.

Unassigned characters (Cn) are shown as they are: this year's emoji are unassigned to last year's Python.
"""

_IGNORABLE = (
    *(
        (0x00AD, 0x00AD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
    ),
    *(
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
    ),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""First and last of each range of Default_Ignorable_Code_Point: what a font may leave out without a trace.

Source: https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt
"""

_EMOJI_SELECTORS = "\ufe0e\ufe0f"
_JOINER = "\u200d"
_SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")


def visible(text: str, kept: str = "\n\t") -> str:
    """`text` with every hidden character as its code, `<U+202E>`; those in `kept` stay.

    Emoji stay whole: U+FE0E and U+FE0F after a symbol, digit or stop, and U+200D between two pictures, are
    seen in the picture that they make. The other selectors are marked, those of Chinese characters (U+E0100
    and on) too: most fonts draw the plain character, so that a reader cannot tell two texts apart that a
    model can. Joiners within scripts are marked for the same reason, and so are tags, at the price of three
    flags.
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
    if unicodedata.category(char) in HIDDEN_CATEGORIES or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return True
    return any(first <= code <= last for first, last in _IGNORABLE)


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
