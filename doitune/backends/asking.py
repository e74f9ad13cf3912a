"""What the hf backend needs beyond transformers to be asked: a prefix read once, the first step's scores, replies cut at their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from doitune.backends.loaded import Written


class FirstScores:
    """A logits processor that keeps the first step's log-probabilities of some tokens and changes nothing."""

    def __init__(self, token_ids: Sequence[int]) -> None:
        self.token_ids = list(token_ids)
        self.kept: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.kept is None:
            self.kept = torch.log_softmax(scores.float(), dim=-1)[:, self.token_ids].cpu()
        return scores


class PrefixLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values of a prefix, for every row that goes on from it. It stores nothing, so that it can be used again."""

    def __init__(self, read: DynamicLayer) -> None:
        super().__init__()
        self.lazy_initialization(read.keys, read.values)
        self.keys, self.values = read.keys, read.values

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, heads, prefix + T, d] of the rows' own [rows, heads, T, d]."""
        rows = len(key_states)
        keys = torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=2)
        return keys, torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=2)


def written(row: Sequence[int], stop_ids: set[int], scores: Sequence[float]) -> Written:
    """Cut a generated row at its first stop token."""
    end = next((place for place, token in enumerate(row) if token in stop_ids), None)
    return Written(tuple(row[:end] if end is not None else row), end is not None, tuple(scores))
