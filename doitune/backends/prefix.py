"""A prefix that is run once for many rows: what the hf backend keeps of it, and whether a model can be given
one."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from doitune.backends.loaded import LoadedModel
from doitune.backends.out_of_memory import OutOfMemory, once_more
from doitune.prompt.batch import pad
from doitune.prompt.encoded import IGNORED, Encoded


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


def proved_prefix(model: LoadedModel, vocabulary_rows: int) -> bool:
    """Whether two rows after a prefix get the logits that they get after the whole prompt: an architecture
    with another memory (recurrent states, places counted otherwise) does not give them.

    False, too, where memory runs out over these few tokens: whole prompts are always right.
    """
    ids = tuple(place % vocabulary_rows for place in range(1, 33))
    ends = [Encoded(end, (IGNORED,) * len(end)) for end in (ids[16:], ids[8:13])]
    whole = [Encoded(ids[:16] + end.ids, (IGNORED,) * (16 + len(end.ids))) for end in ends]
    wanted = range(min(64, vocabulary_rows))
    try:
        apart = once_more(lambda: model.logits(pad(ends), wanted, model.read(ids[:16])))
        together = once_more(lambda: model.logits(pad(whole), wanted))
    except (AttributeError, NotImplementedError, TypeError, ValueError, IndexError, OutOfMemory):
        return False
    slack = 1e-4 if model.compute_dtype == "float32" else 0.05
    return bool((apart - together).abs().max() <= slack * together.abs().max().clamp(min=1))
