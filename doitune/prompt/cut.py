"""Text cut by sentencepiece itself, for bases that bring the model of it under which they were trained.

sentencepiece joins the neighbours whose piece has the highest score, the leftmost of equals. A fast tokenizer
gives each pair a rank of its own, so where pieces share a score (all that Chinese-LLaMA added have 0) no list
of merges repeats its cuts. Tokens added on top, role and control tokens among them, are found as the fast
tokenizer finds them; what lies between them is sentencepiece's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TEXT = 0
"""The splitter's number for what is no added token."""


@dataclass(frozen=True)
class Cut:
    """How one base's texts are cut.

    `first`, `later`: sentencepiece's processors for what begins a text and for what follows an added token;
    they differ where only the first word gets a blank before it. `splitter`: a tokenizer of the tokenizers
    library that knows the added tokens alone; `numbers`: their ids by the splitter's. `literals`: found in
    each text that holds one; None where normalising may make one of any text. `mark`: tells this cut from the
    fast tokenizer's, "" where both gave the same on all texts tried.
    """

    first: Any
    later: Any
    splitter: Any
    numbers: dict[int, int]
    literals: re.Pattern[str] | None
    mark: str = ""

    def text_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text on its own, without any token added around it."""
        mixed = [number for number, text in enumerate(texts) if self._may_hold_tokens(text)]
        found = dict(zip(mixed, self._between([texts[number] for number in mixed])))
        plain = [number for number in range(len(texts)) if number not in found]
        found.update(zip(plain, _encoded(self.first, [texts[number] for number in plain])))
        return [found[number] for number in range(len(texts))]

    def _may_hold_tokens(self, text: str) -> bool:
        return self.literals is None or self.literals.search(text) is not None

    def _between(self, texts: list[str]) -> list[list[int]]:
        """Ids of texts that may hold added tokens."""
        parts: list[list[int | str]] = []
        for text, one in zip(texts, self.splitter.encode_batch(texts, add_special_tokens=False)):
            part: list[int | str] = []
            place = 0
            for number, (start, end) in zip(one.ids, one.offsets):
                if number != TEXT:
                    part += [text[place:start], self.numbers[number]]
                    place = end
            parts.append([*part, text[place:]])
        # the first part of a text is all that stands before its first added token
        heads = iter(_encoded(self.first, [str(part[0]) for part in parts]))
        rest = [one for part in parts for one in part[1:] if isinstance(one, str)]
        tails = iter(_encoded(self.later, rest))
        return [
            [
                *next(heads),
                *(id for one in part[1:] for id in (next(tails) if isinstance(one, str) else [one])),
            ]
            for part in parts
        ]


def _encoded(processor: Any, texts: list[str]) -> list[list[int]]:
    cores = len(os.sched_getaffinity(0))
    return list(processor.encode(texts, num_threads=cores)) if texts else []


def fast_ids(backend: Any, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text on its own by a fast tokenizer's `backend_tokenizer`."""
    # transformers' own call asks for offsets, too, which takes twice as long
    backend.no_truncation()
    backend.no_padding()
    return [one.ids for one in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
