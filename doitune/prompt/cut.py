"""Text cut by sentencepiece itself, for bases that bring the model of it under which they were trained.

sentencepiece joins the neighbours whose piece has the highest score, the leftmost of equals. A fast tokenizer
gives each pair a rank of its own, so where pieces share a score (all that Chinese-LLaMA added have 0) no list
of merges repeats its cuts. Tokens added on top, role and control tokens among them, are found as the fast
tokenizer finds them; what lies between them is sentencepiece's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

TEXT = 0
"""The splitter's number for what is no added token."""

MANY = 64
"""Texts from which on threads save more than they cost to start (0.1 ms)."""


@dataclass(frozen=True)
class Cut:
    """How one base's texts are cut.

    `processors`: sentencepiece's, by whether a blank is set before the text; `first`: whether one is before
    what begins a text; `later`: whether one is before what follows an added token, by its id. `splitter`: a
    tokenizer of the tokenizers library that knows the added tokens alone; `numbers`: their ids by the
    splitter's. `literals`: found in each text that holds one; None where normalising may make one of any
    text. `mark`: tells this cut from the fast tokenizer's, "" where both gave the same on all texts tried.
    """

    processors: Mapping[bool, Any]
    first: bool
    later: Mapping[int, bool]
    splitter: Any
    numbers: Mapping[int, int]
    literals: re.Pattern[str] | None
    mark: str = ""

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text on its own, without any token added around it."""
        mixed = [number for number, text in enumerate(texts) if self._may_hold_tokens(text)]
        found = dict(zip(mixed, self._between([texts[number] for number in mixed])))
        plain = [number for number in range(len(texts)) if number not in found]
        found.update(zip(plain, self.encoded([texts[number] for number in plain], self.first)))
        return [found[number] for number in range(len(texts))]

    def encoded(self, texts: Sequence[str], blank: bool) -> list[list[int]]:
        """Ids of texts by sentencepiece alone, which sees no token in them."""
        processor = self.processors[blank]
        if len(texts) < MANY:
            return [processor.encode(text) for text in texts]
        return list(processor.encode(list(texts), num_threads=len(os.sched_getaffinity(0))))

    def _may_hold_tokens(self, text: str) -> bool:
        return self.literals is None or self.literals.search(text) is not None

    def _between(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts that may hold added tokens."""
        split = self.splitter.encode_batch(texts, add_special_tokens=False)
        parts = [self._parts(text, one) for text, one in zip(texts, split, strict=True)]
        pieces = [one for part in parts for one in part if not isinstance(one, int)]
        known = {
            blank: iter(self.encoded([one.text for one in pieces if one.blank == blank], blank))
            for blank in self.processors
        }
        return [
            [id for one in part for id in ([one] if isinstance(one, int) else next(known[one.blank]))]
            for part in parts
        ]

    def _parts(self, text: str, split: Any) -> list[int | _Part]:
        """The ids of the added tokens in a text, and what stands between them."""
        parts: list[int | _Part] = []
        place, blank = 0, self.first
        for number, (start, end) in zip(split.ids, split.offsets, strict=True):
            if number != TEXT:
                token = self.numbers[number]
                parts += [_Part(text[place:start], blank), token]
                place, blank = end, self.later[token]
        return [*parts, _Part(text[place:], blank)]


class _Part(NamedTuple):
    """Text without added tokens, and whether a blank is set before it."""

    text: str
    blank: bool


def fast_ids(backend: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text on its own by a fast tokenizer's `backend_tokenizer`."""
    # transformers' own call asks for offsets, too, which takes twice as long
    if backend.truncation is not None:  # taking away what is not there would wait for another thread's call
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return [one.ids for one in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
