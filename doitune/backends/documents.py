"""Attention for packed rows: each document attends to itself alone, causally, and pays only for its own
length.

Registered with transformers under the name `doitune_documents`. A packed row carries its documents' bounds in
the standard flash-attention keywords (`cu_seq_lens_q`), which every transformers model that goes through the
attention interface hands down; without them the call is plain SDPA. No mask of row length squared is ever
built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import dropout as dropped
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "doitune_documents"

UNKNOWN_TERMS = ("position_bias",)
"""Keywords by which some models change the scores; this path does not know them and says so, so that a run
falls back to padding."""

ALIGNED = 8
"""Elements by which heads are widened for a sink: kernels want widths in multiples of it."""


@dataclass(frozen=True)
class Scores:
    """How a model makes its scores: times `scaling`; then `cap` * tanh(scores / cap), where it has one
    (Gemma 2); beside them a learned score [heads] of no token at all, `sinks`, where it has them (gpt-oss).

    torch's own attention knows neither, and transformers leaves them out under it without a word.
    """

    scaling: float | None
    dropout: float
    cap: float | None = None
    sinks: torch.Tensor | None = None


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
    scores = Scores(scaling, dropout, kwargs.pop("softcap", None), kwargs.pop("s_aux", None))
    if bounds is None and scores.cap is None and scores.sinks is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if bounds is None:
        causal = attention_mask is None and query.shape[2] > 1
        return _one(query, key, value, attention_mask, scores, causal=causal).transpose(
            1, 2
        ).contiguous(), None
    unknown = [term for term in UNKNOWN_TERMS if kwargs.get(term) is not None]
    if unknown:
        raise NotImplementedError(f"packed attention does not know {unknown}")
    edges = bounds.tolist()
    lengths = [end - start for start, end in zip(edges[:-1], edges[1:], strict=True)]
    window = kwargs.get("sliding_window")
    outputs = []
    # split and not sliced: the gradient of slices is a tensor of zeros of the whole row for each document
    for q, k, v in zip(*(one.split(lengths, dim=2) for one in (query, key, value)), strict=True):
        length = q.shape[2]
        mask = _window_mask(length, window, query.device) if window and length > window else None
        outputs.append(_one(q, k, v, mask, scores, causal=mask is None).transpose(1, 2))
    return torch.cat(outputs, dim=1), None


def _one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
    *,
    causal: bool,
) -> torch.Tensor:
    """[B, heads, T, d]: attention of rows that are a document each. `mask` [.., T, K] bool, in place of
    `causal`."""
    if scores.cap is not None:
        return _capped(query, key, value, mask, scores, causal=causal)
    if scores.sinks is not None:
        return _with_sinks(query, key, value, mask, scores, causal=causal)
    return _plain(query, key, value, mask, scores, causal=causal)


def _plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
    *,
    causal: bool,
) -> torch.Tensor:
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=scores.dropout,
        is_causal=causal,
        scale=scores.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _with_sinks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
    *,
    causal: bool,
) -> torch.Tensor:
    """Exact, by torch's own kernels: one more key before all others, of no value, that meets a query in a
    dimension of its own; there the query holds its head's sink, and every other key nothing.

    Where `causal`, one more query before all others keeps the two in step; its output is left out.
    """
    assert scores.sinks is not None
    wide, before = (0, ALIGNED), (0, 0, 1, 0)
    scale = query.shape[-1] ** -0.5 if scores.scaling is None else scores.scaling
    head = torch.zeros(query.shape[1], ALIGNED, dtype=query.dtype, device=query.device)
    head[:, 0] = (scores.sinks.float() / scale).to(query.dtype)
    query = torch.cat([query, head[None, :, None].expand(*query.shape[:3], ALIGNED)], dim=-1)
    key, value = pad(pad(key, wide), before), pad(pad(value, wide), before)
    key[:, :, 0, -ALIGNED] = 1
    if causal:
        query = pad(query, before)
    if mask is not None:
        mask = pad(mask, (1, 0), value=True)
    scores = replace(scores, scaling=scale, sinks=None)
    out = _plain(query, key, value, mask, scores, causal=causal)
    return out[:, :, int(causal) :, :-ALIGNED]


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scores: Scores,
    *,
    causal: bool,
) -> torch.Tensor:
    """Scores of T x K, made for one head at a time and made again for its gradient, so that only one head's
    are ever there; what `head` holds stays there for every block, so it makes the causal mask itself."""
    assert scores.cap is not None
    cap, shared = scores.cap, query.shape[1] // key.shape[1]

    def head(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scale = q.shape[-1] ** -0.5 if scores.scaling is None else scores.scaling
        weights = (q @ k.transpose(-1, -2)) * (scale / cap)
        weights = torch.tanh(weights) * cap
        seen = _causal_mask(q, k) if causal else None if mask is None else mask[:, 0]
        if seen is not None:
            weights = weights.masked_fill(~seen, torch.finfo(weights.dtype).min)
        weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(q.dtype)
        return dropped(weights, scores.dropout, training=scores.dropout > 0) @ v

    parts = [
        (query[:, number], key[:, number // shared], value[:, number // shared])
        for number in range(query.shape[1])
    ]
    if torch.is_grad_enabled():
        return torch.stack([checkpoint(head, *part, use_reentrant=False) for part in parts], dim=1)
    return torch.stack([head(*part) for part in parts], dim=1)


def _causal_mask(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """[T, K] bool: each query sees what is not behind it."""
    return torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """[1, 1, length, length] bool: position i sees i - window < j <= i."""
    place = torch.arange(length, device=device)
    distance = place[:, None] - place[None, :]
    return ((distance >= 0) & (distance < window))[None, None]


def register() -> str:
    """Make the attention known to transformers; returns its name."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME
