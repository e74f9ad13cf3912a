"""What the hf backend needs beyond transformers to be asked: a prefix read once, scores of some steps,
replies cut at their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from doitune.backends.loaded import LoadedModel, Written
from doitune.backends.out_of_memory import OutOfMemory, once_more
from doitune.prompt.batch import pad
from doitune.prompt.encoded import IGNORED, Encoded


class WatchedScores:
    """A logits processor that keeps some tokens' log-probabilities at each row's first and last step and
    changes nothing.

    A row's last step is the one that writes its stop token; what the batch generates after that for longer
    rows is no step of it.
    """

    def __init__(self, token_ids: Sequence[int], stop_ids: Sequence[int]) -> None:
        self.token_ids, self.stop_ids = list(token_ids), torch.tensor(list(stop_ids))
        self.first: torch.Tensor | None = None
        self.last: torch.Tensor | None = None
        self.ended: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if not self.token_ids:
            return scores
        here = torch.log_softmax(scores.float(), dim=-1)[:, self.token_ids].cpu()
        if self.first is None or self.last is None or self.ended is None:
            self.first, self.last, self.ended = here, here, torch.zeros(len(here), dtype=torch.bool)
        else:
            self.ended = self.ended | torch.isin(input_ids[:, -1].cpu(), self.stop_ids)
            self.last = torch.where(self.ended[:, None], self.last, here)
        return scores

    def of_row(self, row: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """First and last step's scores of one row; empty where no token is watched."""
        return (
            ((), ())
            if self.first is None or self.last is None
            else (tuple(self.first[row].tolist()), tuple(self.last[row].tolist()))
        )


class PrefixLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values of a prefix, for every row that goes on from it. It stores nothing, so
    that it can be used again."""

    def __init__(self, read: DynamicLayer) -> None:
        super().__init__()
        self.lazy_initialization(read.keys, read.values)
        self.keys, self.values = read.keys, read.values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, heads, prefix + T, d] of the rows' own [rows, heads, T, d]."""
        rows = len(key_states)
        keys = torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=2)
        return keys, torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=2)


def written(
    row: Sequence[int], stop_ids: set[int], scores: tuple[tuple[float, ...], tuple[float, ...]]
) -> Written:
    """Cut a generated row at its first stop token; `scores` of its first and last step."""
    end = next((place for place, token in enumerate(row) if token in stop_ids), None)
    return Written(tuple(row[:end] if end is not None else row), end is not None, *scores)


def proved_prefix(model: LoadedModel, vocabulary_rows: int) -> bool:
    """Whether two rows after a prefix say what they say after the whole prompt; an architecture with another
    memory does not.

    False, too, where memory runs out over these few tokens: asking without a prefix is always right.
    """
    ids = tuple(place % vocabulary_rows for place in range(1, 33))
    ends = [Encoded(end, (IGNORED,) * len(end)) for end in (ids[16:], ids[8:13])]
    whole = [Encoded(ids[:16] + end.ids, (IGNORED,) * (16 + len(end.ids))) for end in ends]
    wanted = range(min(64, vocabulary_rows))
    try:
        apart = once_more(lambda: model.logits_after(model.read(ids[:16]), pad(ends), wanted))
        together = once_more(lambda: model.logits(pad(whole), wanted))
    except (AttributeError, NotImplementedError, TypeError, ValueError, IndexError, OutOfMemory):
        return False
    slack = 1e-4 if model.compute_dtype == "float32" else 0.05
    return bool((apart - together).abs().max() <= slack * together.abs().max().clamp(min=1))
