"""One block of a decoder in its backward pass, in bytes: what it keeps, and what it needs at its worst
moment."""

from __future__ import annotations

import math

from doitune.base.architecture import Architecture
from doitune.base.nf4 import BLOCK
from doitune.memory.setting import Setting

SMALLEST_OFFLOAD = 2 << 20
"""Checkpoints below this many bytes stay on the card with Unsloth."""
SCORE_BYTES = 15
"""Of one head's scores, a number: made in 16 bits, capped, in fp32, and their gradients, all at a time."""


def offloaded_bytes(setting: Setting) -> int:
    """Checkpoints that Unsloth keeps in pinned main memory: one hidden state of each block."""
    if setting.backend != "unsloth" or not setting.recomputes or "checkpoints-on-card" in setting.what_if:
        return 0
    one = setting.tokens * setting.architecture.hidden * setting.number_bytes
    return setting.architecture.layers * one if one >= SMALLEST_OFFLOAD else 0


def buffer_bytes(setting: Setting) -> tuple[float, float]:
    """Dequantised weights that stay (Unsloth's global buffer) and that pass (one in a block's backward),
    with scales in fp32."""
    if setting.quantise != "nf4":
        return 0.0, 0.0
    largest = max(outputs * inputs for outputs, inputs in setting.architecture.linears.values())
    one = float(setting.number_bytes * largest + 4 * math.ceil(largest / BLOCK))
    return (one if setting.fused else 0.0), one


def saved_bytes(setting: Setting) -> float:
    """Bytes that one block keeps for its backward pass, without its input."""
    shape, t, size = setting.architecture, setting.tokens, setting.number_bytes
    attention = size * 2 * (shape.query + shape.key_value) + 4 * shape.heads
    if (
        setting.fused
    ):  # both norms' outputs and the residual; gate and up, and the gradient that is written over them
        return t * (attention + size * (3 * shape.hidden + 3 * shape.intermediate))
    family = shape.family
    if family.capped_scores:  # made again for their gradient, and so is what they give
        attention -= size * shape.query + 4 * shape.heads
    heads = 4 * (shape.query + shape.key_value) if family.head_norms else 0
    norms = family.norms * _norm(shape) + heads
    if family.packs_values:  # values are a part of what one layer gives, which stays whole for them
        attention += size * (shape.query + shape.key_value)
    return t * (norms + attention + _adapters(setting, "self_attn") + _gated(setting))


def _adapters(setting: Setting, part: str) -> int:
    """Bytes a token that peft's layers in a part of a block keep: an fp32 copy of the input of each (and,
    with dropout, a mask), and A's output."""
    shape = setting.architecture
    inputs = [
        getattr(shape, one.inputs)
        for one in shape.family.linears
        if one.part == part and one.name in setting.adapted
    ]
    return sum((4 + (setting.dropout > 0)) * one + 4 * setting.rank for one in inputs)


def _gated(setting: Setting) -> int:
    """Bytes a token that the feed-forward keeps."""
    return 3 * setting.number_bytes * setting.architecture.intermediate + _adapters(setting, "mlp")


def block_bytes(setting: Setting) -> float:
    """One block's backward pass at its worst, without the weights that are dequantised then."""
    shape, t, size = setting.architecture, setting.tokens, setting.number_bytes
    hidden = size * t * shape.hidden
    # offloaded checkpoints: two buffers on the way back, the last block's, which stays, and the
    # embedding's output
    around = 4 * hidden if offloaded_bytes(setting) else 0
    if setting.fused:
        tables = 8 * t * (shape.query // shape.heads)
        return saved_bytes(setting) + 2 * hidden + around + tables  # the block's output, and its gradient
    # either down's weight is dequantised, beside the gradient that arrives; or an adapter's output is made
    # while the block is recomputed
    _, passes = buffer_bytes(setting)
    widest = max(hidden + passes, t * _recomputing(setting))
    return saved_bytes(setting) + widest - passes + around


def _norm(shape: Architecture) -> int:
    """Bytes a token that a norm keeps: its fp32 input, and one number."""
    return 4 * shape.hidden + 4


def _recomputing(setting: Setting) -> float:
    """Bytes a token beyond those that a block keeps, at the worst moment of its recomputation: the last layer
    above the gated product has made its adapter's fp32 output and scaled it (down's own fp32 input is not
    there yet), or, before a norm behind the feed-forward, down has.

    Beside it: the residual, the norm's output, and the gradient that arrives (and its fp32 copy, for down's
    adapter or a norm that keeps one).
    """
    shape, size, family = setting.architecture, setting.number_bytes, setting.architecture.family
    adapted = [one for one in family.linears if one.name in setting.adapted]
    down = any(one.inputs == "intermediate" for one in adapted)
    wide = max((one.outputs.count("intermediate") for one in adapted), default=0) * shape.intermediate
    ends_in_norm = family.norms == 4
    arriving = size + 4 * (family.fp32_norms or (down and not ends_in_norm))
    around = (2 * size + arriving) * shape.hidden
    lacking = _norm(shape) * ends_in_norm
    ungated = size * shape.intermediate * family.fuses_gate
    above = around + max(0, 8 * wide - 4 * down * shape.intermediate - ungated - lacking)
    if not ends_in_norm:
        return above
    behind = around + size * (shape.hidden + shape.intermediate) + 8 * down * shape.hidden - lacking
    scoring = SCORE_BYTES * setting.tokens + arriving * shape.hidden - _gated(setting)
    return max(above, behind, scoring * family.capped_scores)
