"""Rows of their own for added tokens: a k x H patch on the embedding and the head, never a V x H gradient.

peft's `trainable_token_indices` copies the whole matrix for each forward pass and makes a dense gradient (2.3
GiB on 33b); a patch of three rows costs kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import linear

from doitune.errors import CheckpointError


class PatchedEmbedding(nn.Module):
    """An embedding whose ids from V on come from `rows` [k, H].

    A base that does more than look up (Gemma scales each row by the root of the width) does it to the new
    rows, too: they go through the base's own `forward`.
    """

    def __init__(self, base: nn.Embedding, rows: nn.Parameter) -> None:
        super().__init__()
        self.base, self.rows = base, rows
        self.plain = type(base).forward is nn.Embedding.forward

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix [V, H]; libraries ask for its dtype and device."""
        return self.base.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """ids [...] -> [..., H]."""
        first_new = self.base.num_embeddings
        new = ids >= first_new
        old = self.base(ids.clamp(max=first_new - 1))
        places = (ids - first_new).clamp(min=0)
        patch = self.rows.to(old.dtype)[places] if self.plain else self._through_base(places)
        return torch.where(new[..., None], patch, old)

    def _through_base(self, places: torch.Tensor) -> torch.Tensor:
        """What the base makes of the new rows at `places`, as if they were its own."""
        # a padding token of the base is a number of its own matrix: row 0 of ours would lose its gradient
        padding, self.base.padding_idx = self.base.padding_idx, None
        try:
            made: torch.Tensor = functional_call(
                self.base, {"weight": self.rows.to(self.base.weight.dtype)}, (places,)
            )
        finally:
            self.base.padding_idx = padding
        return made


class PatchedHead(nn.Module):
    """A head whose logits from V on come from `rows` [k, H]."""

    def __init__(self, base: nn.Linear, rows: nn.Parameter) -> None:
        super().__init__()
        self.base, self.rows = base, rows

    @property
    def weight(self) -> torch.Tensor:
        """The frozen matrix [V, H]."""
        return self.base.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [..., H] -> logits [..., V + k]."""
        return torch.cat([self.base(hidden), linear(hidden, self.rows.to(hidden.dtype))], dim=-1)


class TokenRows:
    """The trained rows of added tokens; one set of rows for both ends where the base ties its embedding
    and head."""

    def __init__(self, embedding: PatchedEmbedding, head: PatchedHead) -> None:
        self.embedding, self.head = embedding, head
        self.first = {name: tensor.clone() for name, tensor in self.state().items()}

    def train(self) -> None:
        """Let the rows be trained."""
        for rows in (self.embedding.rows, self.head.rows):
            rows.requires_grad_(True)

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors to save, on the CPU."""
        return {
            "embedding": self.embedding.rows.detach().cpu().clone(),
            "head": self.head.rows.detach().cpu().clone(),
        }

    def are_first(self) -> bool:
        """Whether the rows are as before any training."""
        return all(torch.equal(rows, self.first[name]) for name, rows in self.state().items())

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Take saved rows; CheckpointError unless the shapes are these."""
        if set(state) != {"embedding", "head"} or any(
            state[name].shape != self.first[name].shape for name in state
        ):
            raise CheckpointError(
                "the stored token rows are not of this base", "use the base that the adapter was trained on"
            )
        with torch.no_grad():
            self.embedding.rows.copy_(state["embedding"])
            self.head.rows.copy_(state["head"])

    @contextmanager
    def first_values(self) -> Iterator[None]:
        """Inside, the rows are as before any training."""
        now = self.state()
        self.load(self.first)
        try:
            yield
        finally:
            self.load(now)

    def head_rows(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Rows [k, H] of the patched head for these ids."""
        limit = self.head.base.weight.shape[0]
        rows = [
            self.head.rows[token - limit] if token >= limit else self.head.base.weight[token]
            for token in token_ids
        ]
        return torch.stack([row.float() for row in rows])


def add_rows(model: Any, count: int, end_id: int | None) -> TokenRows:
    """Give `model` `count` trained token rows behind its vocabulary.

    First values: the mean row of the vocabulary; the last row (the end of a turn) starts as
    `end_id`, the tokenizer's own end token, if it has one.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    patched_embedding = PatchedEmbedding(
        embedding, nn.Parameter(_first_rows(embedding.weight, count, end_id))
    )
    tied = embedding.weight.data_ptr() == head.weight.data_ptr()
    head_rows = patched_embedding.rows if tied else nn.Parameter(_first_rows(head.weight, count, end_id))
    patched_head = PatchedHead(head, head_rows)
    model.set_input_embeddings(patched_embedding)
    model.set_output_embeddings(patched_head)
    return TokenRows(patched_embedding, patched_head)


def _first_rows(weight: torch.Tensor, count: int, end_id: int | None) -> torch.Tensor:
    """[count, H] fp32 on the matrix's device."""
    rows = weight.float().mean(dim=0, keepdim=True).repeat(count, 1)
    if end_id is not None:
        rows[-1] = weight[end_id].float()
    return rows.clone()
