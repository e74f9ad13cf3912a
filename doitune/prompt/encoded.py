"""Encoded: one conversation as token ids, and which of them are trained."""

from __future__ import annotations

from dataclasses import dataclass

IGNORED = -100
"""Label of a position that is not trained (the value that torch's cross-entropy leaves out)."""


@dataclass(frozen=True)
class Encoded:
    """One conversation as token ids; `labels` equal the ids where trained, IGNORED elsewhere (not
    shifted)."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def trained(self) -> int:
        """How many tokens are trained."""
        return len(self.labels) - self.labels.count(IGNORED)

    def end(self, most_tokens: int) -> Encoded:
        """Its last tokens, all of them trained but the first, which nothing predicts: for proofs, where what
        a token sees shows in each loss, and a loss of two tokens rounds otherwise than one of many."""
        ids = self.ids[-most_tokens:]
        return Encoded(ids, (IGNORED, *ids[1:]))
