"""Texts made of a vocabulary's own pieces, the same everywhere: what a tokenizer is tried with where its
texts are not known."""

from __future__ import annotations

import re
from collections.abc import Sequence

from doitune.demo.dice import Dice

SPACE = "▁"
_HAN = re.compile(r"[\u4e00-\u9fff]")
_MARKS = ("，", "。", "；", "？", "、", "：", ", ", ". ", "\n", " ")
HAN_SHARE, MARK_SHARE = 0.8, 0.15


def sample_texts(pieces: Sequence[str], count: int, seed: str = "texts") -> list[str]:
    """`count` texts of 8 to 40 pieces, most of them Chinese where the vocabulary has such; stripped, none
    empty, as the contents of turns are."""
    plain = [piece for piece in pieces if piece.strip(SPACE + " \n") and not piece.startswith("<")]
    han = [piece for piece in plain if _HAN.search(piece)]
    dice = Dice(seed)
    texts: list[str] = []
    while plain and len(texts) < count:
        parts = []
        for _ in range(dice.between(8, 40)):
            parts.append(dice.pick(han if han and dice.happens(HAN_SHARE) else plain))
            if dice.happens(MARK_SHARE):
                parts.append(dice.pick(_MARKS))
        text = "".join(parts).replace(SPACE, " ").strip()
        texts += [text] if text else []
    return texts
