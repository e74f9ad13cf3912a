"""What a GGUF says of a model's sizes, and of how its positions are turned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from doitune.base.architecture import Architecture
from doitune.errors import ModelError
from doitune.export.gguf.blocks import blocks_of, said_by, window_period

if TYPE_CHECKING:
    from gguf import GGUFWriter


def write_sizes(writer: GGUFWriter, config: Mapping[str, Any], shape: Architecture, rows: int) -> None:
    """The model's sizes; `rows` of its embedding. ModelError where positions are made longer in a way that
    is not known here."""
    blocks, config = blocks_of(config, ""), said_by(config)
    writer.add_context_length(context_length(config))
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value // shape.head_size)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(rows)
    for key, add in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        if blocks.raised and config.get(key):
            add(float(config[key]))
    if blocks.period:
        writer.add_sliding_window(int(config["sliding_window"]))
        if (period := window_period(blocks, config, shape.layers)) != blocks.period:
            writer.add_sliding_window_pattern(period)
    _write_positions(writer, config, shape)


def _write_positions(writer: GGUFWriter, config: Mapping[str, Any], shape: Architecture) -> None:
    rope = positions(config)
    turned = rope.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    writer.add_rope_dimension_count(int(shape.head_size * turned))
    writer.add_rope_freq_base(float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))))
    if (near := _near_base(config)) is not None:
        writer.add_rope_freq_base_swa(near)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("linear", "yarn"):
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rope["factor"]))
        if kind == "yarn" and "original_max_position_embeddings" in rope:
            writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    elif kind not in ("default", "llama3"):
        raise ModelError(f"positions of the kind {kind!r} are not written into a GGUF here", "--to merged")


def _near_base(config: Mapping[str, Any]) -> float | None:
    """How the layers that look at a window turn positions, where they do so by a base of their own."""
    kinds = config.get("rope_parameters") or {}
    if "sliding_attention" in kinds:
        return float(kinds["sliding_attention"]["rope_theta"])
    near = config.get("rope_local_base_freq")
    return float(near) if near is not None else None


def positions(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """How positions are turned, as a config.json says it (older ones: rope_scaling); where layers differ, in
    those that look back at all."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return found.get("full_attention", found)  # type: ignore[no-any-return]


def turn_factors(config: Mapping[str, Any], shape: Architecture) -> list[float]:
    """What llama.cpp divides each turning speed by (`rope_freqs.weight`), of Llama 3's positions; else none.
    Source: Llama 3.1's rope scaling, as in transformers' modeling_rope_utils."""
    rope = positions(config)
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return []
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    factor, before = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    theta = float(rope.get("rope_theta", config.get("rope_theta", 10_000.0)))
    found = []
    for pair in range(shape.head_size // 2):
        length = 2 * math.pi * theta ** (2 * pair / shape.head_size)
        if length < before / high:
            found.append(1.0)
        elif length > before / low:
            found.append(factor)
        else:
            smooth = (before / length - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def context_length(config: Mapping[str, Any]) -> int:
    """Tokens that a text may have: no more than some layer looks back where llama.cpp lets it look at all."""
    period, config = blocks_of(config, "").period, said_by(config)
    longest = int(config.get("max_position_embeddings") or 2048)
    window = config.get("sliding_window") if config.get("use_sliding_window", True) and not period else None
    return min(longest, int(window)) if window else longest
