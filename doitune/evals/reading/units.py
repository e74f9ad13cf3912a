"""Units behind values: centimetres in Chinese, in letters and in LaTeX, degrees, percents."""

from __future__ import annotations

import re

WORDS = (
    "(?:hour|minute|second|day|week|month|year|inch|mile|meter|metre|unit|degree|dollar|cent|point)(?:s|es)?"
    "|foot|feet|ft|people|mph|mm|cm|dm|km|mg|kg|min|ms|m[Ll]|m|g|t|s|h|[Ll]"
)
"""Units in plain letters behind a number."""

NO_UNIT = (
    r"[\u4e00-\u9fff]{0,3}(?:以[上下内外前后]|不|多|余|几|至少|半)"
    r"|[十百千万亿](?!分|克|米|瓦|卡|帕|赫|伏|安|焦|牛|字|里|升)|[和与及或]|[加减乘除比的]"
)
"""Chinese characters behind a number that say something else than its unit: 5以上, 5多个, 3百, 5不."""

UNIT = re.compile(
    r"(?:(?<=[\d}!)])|(?<=\\pi)|(?<=\\pi ))\s*"
    r"(?:\\(?:text|mathrm|mbox|textrm)\s*\{\s*(?P<latex>[^{}]*)\}(?:\^\{?\d\}?)?"
    r"|(?P<degree>\^\{?\s*\\circ\s*\}?\s*C?)"
    r"|(?P<percent>\\?%)"
    rf"|(?P<word>(?:{WORDS})(?:/(?:{WORDS}))?)(?:\^\{{?\d\}}?)?"
    rf"|(?P<han>(?!{NO_UNIT})[\u4e00-\u9fff]{{1,6}}(?:/[\u4e00-\u9fff]{{1,4}})?))\s*$"
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
