"""What rows ask and say, normalised once for all that compares them: on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

from doitune.data.example import Example
from doitune.data.leaks import normalised_all, said_by
from doitune.data.rows import ROWS_AT_ONCE
from doitune.system.arrays import Column, each, repeated
from doitune.system.scratch import Scratch

DIGEST_BYTES = 16


class Compared:
    """Rows in the order in which they were added."""

    def __init__(self) -> None:
        self._questions = Column(f"S{DIGEST_BYTES}")
        self._texts, self._blocks, self._lengths = Scratch(), Column("i8"), Column("i4")

    def add(self, rows: Sequence[Example]) -> None:
        """More rows."""
        for start in range(0, len(rows), ROWS_AT_ONCE):
            self._add(rows[start : start + ROWS_AT_ONCE])

    def _add(self, rows: Sequence[Example]) -> None:
        both = list(rows)
        asked = normalised_all([said_by(row.question) for row in both])
        answered = normalised_all([row.messages[-1].said for row in both])
        for text in asked:
            data = text.encode("utf-8", "surrogatepass")
            self._questions.add(blake2b(data, digest_size=DIGEST_BYTES).digest())
        # nothing is changed across the line end between two turns, which is left out
        texts = [question + answer for question, answer in zip(asked, answered, strict=True)]
        block = "".join(texts).encode("utf-8", "surrogatepass")
        self._texts.add(block)
        self._blocks.append(len(block))
        self._lengths.extend(map(len, texts))

    def asked_once(self) -> Any:
        """Whether each row asks what no other asks."""
        return ~repeated(self._questions.as_array())

    def texts(self) -> Iterator[str]:
        """What `whole_text` gives of each row."""
        lengths = each(self._lengths.as_array())
        start = 0
        for size in each(self._blocks.as_array()):
            block = self._texts.read(start, size).decode("utf-8", "surrogatepass")
            start += size
            at = 0
            while at < len(block):
                length = next(lengths)
                yield block[at : at + length]
                at += length
