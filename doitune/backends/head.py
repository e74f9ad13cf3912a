"""The output layer of a model: logits of hidden states, for the whole vocabulary or for a few tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import linear

from doitune.backends.loaded import Tokens
from doitune.backends.token_rows import TokenRows


class Head:
    """`module` gives logits [.., V]; `rows` are those of added tokens, whose ids follow the vocabulary's.

    `softcap`: the logits end as softcap * tanh(logits / softcap), where an architecture has one.
    """

    def __init__(self, base: Any, rows: TokenRows | None) -> None:
        self.module, self.rows = base.get_output_embeddings(), rows
        self.vocabulary_rows = int(base.config.get_text_config().vocab_size)  # before any added ones
        self.softcap: float | None = getattr(base.config, "final_logit_softcapping", None)
        own = self.module if rows is None else self.module.base
        self.bias: torch.Tensor | None = getattr(own, "bias", None)

    @property
    def new_rows(self) -> torch.Tensor | None:
        """[k, H], trained."""
        return None if self.rows is None else self.rows.head.rows

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """fp32 logits [n, V] of hidden states [n, H], rows of added tokens behind the vocabulary's."""
        return self._capped(plain_logits(hidden, self.module.weight, self.bias, self.new_rows))

    def logits_of(self, hidden: torch.Tensor, token_ids: Sequence[int]) -> torch.Tensor:
        """fp32 logits [n, k] of these tokens; only their rows are multiplied, in fp32."""
        if self.rows is not None:
            weight, bias = self.rows.head_rows(token_ids).float(), None
        else:
            weight, bias = self.module.weight[list(token_ids)].float(), self.bias
        few = None if bias is None else bias[list(token_ids)].float()
        return self._capped(linear(hidden.float(), weight, few))

    def log_probs(self, hidden: torch.Tensor, token_ids: Tokens) -> torch.Tensor:
        """fp32 log-probabilities [n, k] of these tokens (or of all), in nats over the whole vocabulary."""
        every = self.logits(hidden)
        few = every if token_ids is None else self.logits_of(hidden, token_ids)
        return few - every.logsumexp(dim=-1, keepdim=True)

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def plain_logits(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, rows: torch.Tensor | None
) -> torch.Tensor:
    """fp32 logits [n, V + k] of hidden states [n, H], before any cap; `rows` [k, H] for the tokens from V
    on."""
    known = linear(hidden, weight, bias)
    if rows is not None:
        known = torch.cat([known, linear(hidden, rows.to(hidden.dtype))], dim=-1)
    return known.float()
