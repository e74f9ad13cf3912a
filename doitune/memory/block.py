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
    largest = max(outputs * inputs for outputs, inputs in setting.architecture.linears.values())
    one = _whole_bytes(setting, largest)
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
    if family.packs_values:  # values are a part of what one layer gives, which stays whole for them
        attention += size * (shape.query + shape.key_value)
    return t * (_norms(setting) + attention + _adapters(setting, "self_attn") + _gated(setting))


def _adapters(setting: Setting, part: str) -> int:
    """Bytes a token that the adapted layers in a part of a block keep: their input and A's output.

    In 16 bits layers with one input keep one, and attention's output is kept by attention, unless it is laid
    out anew for the layer behind (as where heads are turned in part, or made one by one); peft keeps an fp32
    copy for each layer. With dropout each keeps what is left of its own, and a mask.
    """
    shape, family = setting.architecture, setting.architecture.family
    names = [one.inputs for one in family.linears if one.part == part and one.name in setting.adapted]
    size = setting.number_bytes if _is_lean(setting) else 4
    kept = names
    if _is_lean(setting) and not setting.dropout:
        anew = family.fuses_gate or family.capped_scores
        kept = [name for name in dict.fromkeys(names) if name != "query" or anew]
    each = size + (setting.dropout > 0)
    return sum(each * getattr(shape, name) for name in kept) + size * setting.rank * len(names)


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
    if _is_lean(setting):
        widest = _lean_widest(setting)
    return saved_bytes(setting) + widest - passes + around


def _norm(shape: Architecture) -> int:
    """Bytes a token that a norm keeps as transformers writes it out: its fp32 input, and one number."""
    return 4 * shape.hidden + 4


def _norms(setting: Setting) -> int:
    """Bytes a token that a block's norms keep for their backward pass.

    By torch's own function (`backends/lean_norm.py`) their inputs in 16 bits, but for the first one's where
    that waits as the block's checkpoint; Gemma's, which scale before they round, in fp32.
    """
    shape, family = setting.architecture, setting.architecture.family
    heads = (shape.query + shape.key_value) * family.head_norms
    if not _is_lean(setting) or family.fp32_norms:
        return family.norms * _norm(shape) + 4 * heads
    inputs = (family.norms - setting.recomputes) * shape.hidden + heads
    return setting.number_bytes * inputs + 4 * family.norms


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


def _is_lean(setting: Setting) -> bool:
    """Whether hf computes adapters in 16 bits (`backends/lean_lora.py`) and not as peft does."""
    return setting.number_bytes == 2 and "fp32-adapter" not in setting.what_if


def _lean_widest(setting: Setting) -> float:
    """Bytes beyond those that a block keeps, at the worst moment of its backward pass, where adapters are in
    16 bits.

    down's weight is dequantised beside the gradients of its output and input; the gated product has its
    gradients (down's own input is free by then); gate and up are one layer, whose weight is dequantised when
    the product is free; capped scores are made again. Where a norm is behind the feed-forward, what that one
    kept is free by then, and its input's gradient is another than the residual's.
    """
    shape, t, size, family = (
        setting.architecture, setting.tokens, setting.number_bytes, setting.architecture.family,
    )  # fmt: skip
    hidden, wide = size * t * shape.hidden, size * t * shape.intermediate
    down = any(one.inputs == "intermediate" and one.name in setting.adapted for one in family.linears)
    behind = family.norms == 4
    freed = t * ((4 if family.fp32_norms else size) * shape.hidden + 4) * behind
    moments = [
        (1 + behind) * hidden + wide + _whole_bytes(setting, shape.hidden * shape.intermediate) - freed,
        hidden + (3 - down) * wide - freed,
    ]
    if family.fuses_gate:
        moments.append(2 * hidden - 2 * wide + buffer_bytes(setting)[1] - freed)
    if family.capped_scores:
        moments.append(t * (SCORE_BYTES * t + (size + 4) * shape.hidden - _gated(setting)))
    return max(moments)


def _whole_bytes(setting: Setting, weights: int) -> float:
    """A matrix of so many weights as it is dequantised, with scales in fp32; 0 where there is no need."""
    if setting.quantise != "nf4":
        return 0.0
    return float(setting.number_bytes * weights + 4 * math.ceil(weights / BLOCK))
