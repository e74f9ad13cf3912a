"""Units behind values: centimetres in Chinese, in letters and in LaTeX, degrees, percents."""

from __future__ import annotations

import re

WORDS = (
    "(?:hour|minute|second|day|week|month|year|inch|mile|meter|metre|unit|degree|dollar|cent|point)(?:s|es)?"
    "|foot|feet|ft|people|mph|mm|cm|dm|km|mg|kg|min|ms|m[Ll]|m|g|t|s|h|[Ll]"
)
"""Units in plain letters behind a number."""

UNIT = re.compile(
    r"(?:(?<=[\d}!)])|(?<=\\pi)|(?<=\\pi ))\s*"
    r"(?:\\(?:text|mathrm|mbox|textrm)\s*\{\s*(?P<latex>[^{}]*)\}(?:\^\{?\d\}?)?"
    r"|(?P<degree>\^\{?\s*\\circ\s*\}?\s*C?)"
    r"|(?P<percent>\\?%)"
    rf"|(?P<word>(?:{WORDS})(?:/(?:{WORDS}))?)(?:\^\{{?\d\}}?)?"
    r"|(?P<han>[\u4e00-\u9fff]{1,6}(?:/[\u4e00-\u9fff]{1,4})?))\s*$"
)
SAME_UNIT = {
    "厘米": "cm",
    "米": "m",
    "千米": "km",
    "公里": "km",
    "毫米": "mm",
    "千克": "kg",
    "公斤": "kg",
    "克": "g",
    "度": "degree",
    "元": "dollar",
}


def split_unit(text: str) -> tuple[str, str]:
    """(value, unit): the unit in one spelling, "" where there is none."""
    found = UNIT.search(text)
    if not found or not found.start():
        return text.strip(), ""
    value = text[: found.start()].strip()
    if found["degree"]:
        return value, "degree"
    if found["percent"]:
        return value, "%"
    unit = next(word for word in (found["latex"], found["word"], found["han"]) if word is not None).strip()
    plural = unit.isalpha() and len(unit) > 2
    return value, SAME_UNIT.get(unit, unit.removesuffix("s") if plural else unit)
