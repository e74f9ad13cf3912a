"""Attention for packed rows: each document attends to itself alone, causally, and pays only for its own
length.

Registered with transformers under the name `doitune_documents`. A packed row carries its documents' bounds in
the standard flash-attention keywords (`cu_seq_lens_q`), which every transformers model that goes through the
attention interface hands down; without them the call is plain SDPA. No mask of row length squared is ever
built.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "doitune_documents"

UNKNOWN_TERMS = ("softcap", "s_aux", "position_bias")
"""Keywords by which some models change the scores; this path does not know them and says so, so that a run
falls back to padding."""


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Query [1, heads, T, d], key and value [1, kv heads, T, d] -> [1, T, heads, d], document by document.

    NotImplementedError for a packed row of a model with one of UNKNOWN_TERMS.
    """
    bounds = kwargs.get("cu_seq_lens_q")
    if bounds is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    unknown = [term for term in UNKNOWN_TERMS if kwargs.get(term) is not None]
    if unknown:
        raise NotImplementedError(f"packed attention does not know {unknown}")
    edges = bounds.tolist()
    grouped = query.shape[1] != key.shape[1]
    window = kwargs.get("sliding_window")
    outputs = []
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        q, k, v = query[:, :, start:end], key[:, :, start:end], value[:, :, start:end]
        mask = _window_mask(end - start, window, query.device) if window and end - start > window else None
        outputs.append(
            scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=grouped,
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """[length, length] bool: position i sees i - window < j <= i."""
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    return (distance >= 0) & (distance < window)


def register() -> str:
    """Make the attention known to transformers; returns its name."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
