"""How alike two texts are: chrF over characters, and the longest common subsequence (ROUGE-L) of characters.

Neither knows what a text means. Both need no words, so that Chinese is measured as English is.
"""

from __future__ import annotations

from collections import Counter

ORDER = 6
"""The longest character n-grams that chrF counts. Source: Popović 2015, as sacreBLEU has it by default."""

BETA = 2.0
"""How much more recall counts than precision in chrF."""


def chrf(text: str, reference: str) -> float:
    """chrF2 in 0..1: the mean over n-grams of 1 to ORDER characters of precision and of recall, joined with
    BETA; blanks do not count. An order that either text is too short for is left out.

    Source: sacreBLEU 2, CHRF(char_order=6, word_order=0, beta=2), sentence score with effective order.
    """
    one, other = ("".join(each.split()) for each in (text, reference))
    precision = recall = 0.0
    orders = 0
    for length in range(1, ORDER + 1):
        found, wanted = _grams(one, length), _grams(other, length)
        if not found or not wanted:
            continue
        shared = sum((found & wanted).values())
        precision += shared / found.total()
        recall += shared / wanted.total()
        orders += 1
    if not orders or not precision + recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def rouge_l(text: str, reference: str) -> float:
    """ROUGE-L's F1 in 0..1 over characters, blanks left out: twice the longest common subsequence over both
    lengths."""
    one, other = ("".join(each.split()) for each in (text, reference))
    if not one or not other:
        return 0.0
    # one bit a character of `other`; Hyyrö's bit-parallel recurrence counts the zeros at the end
    places: dict[str, int] = {}
    for place, char in enumerate(other):
        places[char] = places.get(char, 0) | 1 << place
    whole = (1 << len(other)) - 1
    row = whole
    for char in one:
        hit = row & places.get(char, 0)
        row = (row + hit) | (row - hit)
    common = len(other) - (row & whole).bit_count()
    return 2 * common / (len(one) + len(other))


def _grams(text: str, length: int) -> Counter[str]:
    return Counter(text[start : start + length] for start in range(len(text) - length + 1))
