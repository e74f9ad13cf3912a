"""The closed form: bytes on the card at the worst moment of a training step, term by term, from the
architecture alone.

The worst moment is a backward pass: everything that stays (weights, adapter, its gradients and states) and
the largest of what comes and goes, which is one block recomputed and differentiated, the loss, or the
optimiser's own buffers. These three do not add. Two engines are known. `hf` is this project's own path
through transformers, peft and bitsandbytes: counted operation by operation, and compared with a step of that
code under fake tensors. `unsloth` follows Unsloth's kernels as published. Its code needs a card, so it is
compared with a model of its block (`simulation/unsloth_block`), which rests on the same reading: where that
is wrong, both are. With dropout above 0 its own backward passes are not counted on, and a block is counted as
hf's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from doitune.backends.chunks import HIDDEN_BYTES, LOGIT_BYTES, positions_at_once
from doitune.base.nf4 import nf4_bytes
from doitune.memory.block import block_bytes, buffer_bytes, offloaded_bytes, saved_bytes
from doitune.memory.reserve import RESERVES, WHOLE_LOGITS
from doitune.memory.setting import Setting
from doitune.system.units import GIB

SMALLEST_8BIT, SMALLEST_PAGED = 4096, 100_000
"""Elements below which bitsandbytes keeps a tensor's state in 32 bits, and on the card."""
NOT_ALLOCATED = "fragmentation", "context"
"""Terms that are no tensors: the first is reserved by torch, the second is seen by the driver alone."""
SLACK = (1.0, 1.0, 1.3)
"""Published slopes over tokens are up to 1.3 times those of the kernels' tensors: the high estimate takes
that."""


@dataclass(frozen=True)
class Term:
    """One part of the peak in bytes, with the range it is known to; the sum of a plan's terms is its peak."""

    name: str
    low: float
    nominal: float
    high: float
    why: str


def count(setting: Setting) -> tuple[Term, ...]:
    """The terms of a setting's peak, in the order in which they are shown."""
    stays = [*_base(setting), *_adapter(setting)]
    comes = _moment(setting)
    adapter = sum(term.nominal for term in stays if term.name in ("lora", "gradients", "optimizer"))
    moving = [
        adapter + sum(level(term, number) for term in comes if term.name != "dequantisation")
        for number in range(3)
    ]
    return (*stays, *comes, *untracked(moving, setting.backend, setting.what_if))


def untracked(moving: Sequence[float], engine: str, what_if: Collection[str] = ()) -> tuple[Term, Term]:
    """What is no tensor: what the engine's allocator reserves beyond `moving`, the low, nominal and high
    bytes of the adapter and of what comes and goes; and the context."""
    reserve = RESERVES[engine]
    lost = "reserved by the allocator and not handed out: as published runs of this engine show it"
    return (
        Term("fragmentation", *reserve.lost_bytes(moving, what_if), lost),
        Term(
            "context",
            *reserve.context_bytes(),
            "CUDA, cuBLAS and Triton themselves: seen by the driver alone",
        ),
    )


def allocated_bytes(terms: Iterable[Term], number: int) -> float:
    """The low (0), nominal (1) or high (2) peak of tensors alone, without reserve and context."""
    return sum(level(term, number) for term in terms if term.name not in NOT_ALLOCATED)


def level(term: Term, number: int) -> float:
    """A term's low (0), nominal (1) or high (2) bytes."""
    return (term.low, term.nominal, term.high)[number]


def wide_bytes(setting: Setting) -> int:
    """Bytes of the linear layers that a 4-bit base keeps in 16 bits."""
    sizes = setting.architecture.linears
    return sum(setting.number_bytes * blocks * math.prod(sizes[name]) for name, blocks in setting.wide)


def base_bytes(setting: Setting) -> int:
    """The frozen base as it lies on the card."""
    return round(sum(term.nominal for term in _base(setting)))


def _base(setting: Setting) -> list[Term]:
    shape, size = setting.architecture, setting.number_bytes
    nested = setting.nested and "no-double-quant" not in setting.what_if
    if setting.quantise == "nf4":
        wide = dict(setting.wide)
        weights = wide_bytes(setting) + sum(
            (shape.layers - wide.get(name, 0)) * nf4_bytes(outputs * inputs, nested=nested)
            for name, (outputs, inputs) in shape.linears.items()
        )
        how = (
            "linear layers in NF4, scales in 8 bits" if nested else "linear layers in NF4, scales in 32 bits"
        )
        if setting.wide:
            how += f"; {wide_bytes(setting) / GIB:.2f} GiB of them kept in 16 bits"
    else:
        weights, how = size * shape.linear_parameters, f"linear layers in {8 * size} bits"
    if shape.beside:
        weights += (
            nf4_bytes(shape.beside, nested=nested) if setting.quantise == "nf4" else size * shape.beside
        )
        how += f"; {shape.beside:,} of them take no part in text"
    size = 4 if "fp32-upcast" in setting.what_if else size
    return [
        _exact("weights", weights, how),
        _exact(
            "embeddings",
            size * shape.matrix_parameters,
            "embedding, which is the head too" if shape.tied else "embedding and head, frozen",
        ),
        _exact("norms", size * shape.small_parameters, "norms and biases"),
    ]


def _adapter(setting: Setting) -> list[Term]:
    n, wide = setting.lora_parameters, 2 if "bf16-lora" in setting.what_if else 4
    own = setting.architecture.matrix_parameters if setting.trains_matrices else 0
    # Unsloth trains the 16-bit matrices in their place; peft trains fp32 copies beside them
    copy, gradient = (0, 2) if setting.backend == "unsloth" else (4, 4)
    rows = setting.new_rows * setting.architecture.hidden * (1 if setting.architecture.tied else 2)
    state = setting.architecture.layers * sum(
        _state_bytes(size, setting.optimizer) for size in setting.lora_shapes
    )
    state += _state_bytes(own, setting.optimizer) + (
        2 * _state_bytes(rows // 2, setting.optimizer) if rows else 0
    )
    paged = ", in main memory" if setting.optimizer.startswith("paged") else ""
    return [
        _exact(
            "lora",
            wide * n + copy * own + 4 * rows,
            f"{n:,} trained weights" + (f" and {own:,} of embedding and head" if own else ""),
        ),
        _exact(
            "gradients",
            wide * n + gradient * own + 4 * rows,
            "all are there when the first block is differentiated",
        ),
        _exact("optimizer", state, f"{setting.optimizer}: two moments{paged}"),
    ]


def _state_bytes(elements: int, optimizer: str) -> float:
    """Bytes on the card of one tensor's two moments."""
    if optimizer == "adamw" or elements < SMALLEST_8BIT:
        return 8.0 * elements
    if optimizer == "paged_adamw_8bit" and elements >= SMALLEST_PAGED:
        return 8.0 * math.ceil(elements / 256)  # pages move to main memory, the scales stay
    return 2.0 * elements + 8.0 * math.ceil(elements / 256)


def paged_bytes(setting: Setting) -> int:
    """Optimiser states that may lie in main memory."""
    if setting.optimizer != "paged_adamw_8bit":
        return 0
    return setting.architecture.layers * sum(
        2 * size for size in setting.lora_shapes if size >= SMALLEST_PAGED
    )


def _moment(setting: Setting) -> list[Term]:
    """What comes and goes: buffers for dequantised weights, kept activations, one block, and the loss or
    the step where they are larger."""
    (stays, passes), kept, block = buffer_bytes(setting), _kept(setting), block_bytes(setting)
    loss, step = _loss(setting), _step(setting)
    beyond_loss = max(0.0, loss - block - passes)  # no block's weight is dequantised while the loss is there
    beyond_step = max(0.0, step - block - passes - kept - beyond_loss)
    hidden = "" if beyond_loss else f"; {loss / GIB:.2f} GiB, but a block's backward is larger"
    return [
        _exact("dequantisation", stays + passes, "16-bit copies of the weights in use"),
        _exact("checkpoints", kept, _kept_how(setting)),
        ranged("block", block, SLACK, "one block recomputed and differentiated"),
        ranged("loss", beyond_loss, SLACK, f"the loss, beyond a block{hidden}"),
        _exact("step", beyond_step, "the optimiser's buffers, beyond all that"),
    ]


def _kept(setting: Setting) -> float:
    """Activations that wait for their block's backward pass, but for the block in work."""
    shape = setting.architecture
    if not setting.recomputes:
        return (shape.layers - 1) * saved_bytes(setting)
    if offloaded_bytes(setting):
        return 0.0
    size = 4 if "fp32-upcast" in setting.what_if else setting.number_bytes
    return shape.layers * setting.tokens * shape.hidden * size


def _kept_how(setting: Setting) -> str:
    if not setting.recomputes:
        return "activations of all other blocks, as nothing is recomputed"
    return (
        "one hidden state of each block"
        if _kept(setting)
        else "one hidden state of each block lies in main memory"
    )


def _loss(setting: Setting) -> float:
    """The loss's backward pass at its worst: logits, their softmax and gradients, and hidden states with
    theirs."""
    shape, t = setting.architecture, setting.tokens
    copies = (
        2 * (2 if setting.backend == "unsloth" else 4) * shape.vocabulary * shape.hidden
        if setting.trains_matrices
        else 0
    )
    if any(name in setting.what_if for name in WHOLE_LOGITS):
        each = 8 if "fused-loss" in setting.what_if else 14  # a fused kernel writes the gradient in place
        return each * t * shape.vocabulary + 6 * t * shape.hidden + copies
    each = LOGIT_BYTES + 4 * shape.family.capped_scores  # which end the logits, too
    of_logits = each * min(t, positions_at_once(shape.vocabulary)) * shape.vocabulary
    return of_logits + HIDDEN_BYTES * t * shape.hidden + copies


def _step(setting: Setting) -> float:
    """torch's AdamW takes one fp32 copy of all states while it steps; bitsandbytes' steps in place."""
    own = setting.architecture.matrix_parameters if setting.trains_matrices else 0
    return 4.0 * (setting.lora_parameters + own) if setting.optimizer == "adamw" else 0.0


def _exact(name: str, bytes_: float, why: str) -> Term:
    return Term(name, bytes_, bytes_, bytes_, why)


def ranged(name: str, amount: float, factors: tuple[float, float, float], why: str) -> Term:
    """A term that is known to a range: `amount` bytes times three factors."""
    low, nominal, high = (factor * amount for factor in factors)
    return Term(name, low, nominal, high, why)
