"""Chinese numerals as digits: 五 is 5, 一百二十 is 120, 四分之三 is 3/4, 百分之五十 is 50%, 一又二分之一
is 1 1/2, 负三点五 is -3.5."""

from __future__ import annotations

import re

DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
UNITS = {"十": 10, "百": 100, "千": 1000}
LARGE = {"万": 10**4, "亿": 10**8}
NUMBER = r"[零〇一二两三四五六七八九十百千万亿]+(?:点[零〇一二三四五六七八九]+)?|\d+(?:\.\d+)?[万亿]?"
WHOLE = re.compile(
    rf"(?P<sign>负?)(?:(?P<whole>{NUMBER})又)?(?:(?P<below>百|千|{NUMBER})分之)?(?P<above>{NUMBER})(?P<unit>[个种只人次元块米岁度天年名条本张份件]?)"
)
MOST = 40
"""Characters of a numeral that is read."""


def arabic(text: str) -> str:
    """The text with digits where the whole of it is a numeral that holds Chinese characters (one counting
    word behind it kept); else as it is."""
    found = WHOLE.fullmatch(text.strip()) if len(text) <= MOST else None
    if not found or not re.search(r"[零〇一二两三四五六七八九十百千万亿负]", text):
        return text
    whole, below, above = (_value(found[name]) for name in ("whole", "below", "above"))
    if above is None or (found["below"] and below is None) or (found["whole"] and whole is None):
        return text
    if found["below"] == "百":
        number = f"{above}%"
    elif below is not None:
        number = f"{above}/{below}" if whole is None else f"{whole} {above}/{below}"
    else:
        number = above
    return f"{'-' if found['sign'] else ''}{number}{found['unit']}"


SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WORDS = {word: value for value, word in enumerate(SMALL)} | {
    word: 10 * value for value, word in enumerate(TENS, start=2)
}
LARGE_WORDS = {"thousand": 10**3, "million": 10**6}


def english(text: str) -> str:
    """A number in English words in digits: twenty-four, one hundred and five."""
    total = section = 0
    for word in re.findall("[a-z]+", text.lower()):
        if word == "hundred":
            section = (section or 1) * 100
        elif word in LARGE_WORDS:
            total, section = total + (section or 1) * LARGE_WORDS[word], 0
        else:
            section += WORDS.get(word, 0)
    return str(total + section)


def _value(text: str | None) -> str | None:
    """One numeral in digits; None where it is none: 十百, 百一."""
    if text is None:
        return None
    if text[:1].isdigit() and text[:1].isascii():
        large = LARGE.get(text[-1])
        if large is None:
            return text
        whole, _, part = text[:-1].partition(".")
        zeros = len(str(large)) - 1
        return str(int(whole + part) * 10 ** (zeros - len(part))) if len(part) <= zeros else None
    whole, _, part = text.partition("点")
    value = _whole(whole)
    return (
        None
        if value is None
        else str(value) + ("." + "".join(str(DIGITS[one]) for one in part) if part else "")
    )


def _whole(text: str) -> int | None:
    """A whole number: 三百零五, 一二三 digit by digit, 百 and 千 alone as one of them."""
    if all(one in DIGITS for one in text):
        return int("".join(str(DIGITS[one]) for one in text))
    total = section = digit = 0
    for one in text:
        if one in DIGITS:
            digit = DIGITS[one]
        elif one in UNITS:
            section += (digit or 1) * UNITS[one]
            digit = 0
        else:
            below = total % LARGE["亿"] if one == "万" else total
            total += (below + section + digit) * LARGE[one] - below
            section = digit = 0
    return total + section + digit
