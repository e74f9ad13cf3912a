"""How many logits the loss makes at once and what they take, without torch: the memory plan counts by it."""

from __future__ import annotations

LOGITS_AT_ONCE = 1 << 24
"""Logits that the loss makes at once, in elements (64 MiB in fp32), on both backends: fixes the peak whatever
the vocabulary."""

LOGIT_BYTES = 8
"""Bytes for each logit of a piece where the loss is at its worst: itself in fp32 and its log-probability."""

HIDDEN_BYTES = 8
"""Bytes for each number of the last hidden states at that moment: themselves, the trained ones and their
gradients, in 16 bits."""


def positions_at_once(vocabulary_rows: int) -> int:
    """Positions whose logits over the whole vocabulary make one piece; at least 1."""
    return max(1, LOGITS_AT_ONCE // vocabulary_rows)
