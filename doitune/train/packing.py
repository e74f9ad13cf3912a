"""Proof, at the start of a run, that packed examples do not see each other: on this model, this backend and
these versions.

Packing is easily silently wrong (stock collators leak across documents when a cache or a 2D mask is given),
so it is used only where packed losses and gradients equal those of the same examples one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from doitune.backends.out_of_memory import OutOfMemory, free_cache, memory_for
from doitune.prompt.batch import flatten, pad, trained_tokens
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.prompt.encoded_rows import rows_of
from doitune.system.doing import counted

if TYPE_CHECKING:
    import torch

    from doitune.backends.loaded import LoadedModel
    from doitune.prompt.batch import Batch

    Measured = tuple[torch.Tensor, torch.Tensor]

LEAST_ALLOWED = 1e-4
ALLOWED_BY_DTYPE = {"float32": LEAST_ALLOWED, "bfloat16": 5e-2, "float16": 1e-2}
"""Relative difference that rounding always explains, by the dtype of the products."""

ROUNDINGS = 4
"""What is allowed is at least this many times what rounding alone does to these examples: a deep model
magnifies it a thousandfold."""

MOST_ALLOWED = 0.2
"""Never more than this: a leak is of the order of 1."""

PROBED_EXAMPLES, PROBED_TOKENS = 6, 1024
FEWER_EXAMPLES, MIDDLE = 3, 18
FEWER_TOKENS = FEWER_EXAMPLES * MIDDLE
"""At most so many are compared, the second pair on the CPU, where 1,024 tokens cost as much as a step: a
first, a middle and a last document are every bound that a packed row can have. There a document is the end of
a row."""

UNEVEN, BEYOND = 11, 16
"""By how many tokens the ends of long rows, the middle one of MIDDLE, differ in length; how much of a row is
taken beyond the model's window."""


@dataclass(frozen=True)
class PackingProof:
    """Relative differences of packed against separate: of the examples' losses and of the gradient. `exact`:
    both within `allowed`.

    `rounding`: the same difference of the longest row alone, with padding behind it up to the packed length:
    there products round as they do packed, and nothing can leak. It is measured only where rounding has to
    explain a difference, else 0.
    """

    exact: bool
    loss_difference: float
    gradient_difference: float
    allowed: float
    reason: str = ""
    rounding: float = 0.0


def prove_packing(model: LoadedModel, encoded: Sequence[Encoded]) -> PackingProof:
    """Compare one packed batch of some of `encoded` with the same examples one at a time; gradients are
    left empty."""
    chosen = _chosen(model, encoded)
    if not model.packs or len(chosen) < 2:
        return _no_proof(
            "this model cannot be given packed rows" if not model.packs else "no two different examples"
        )
    model.training(False)  # dropout would differ between the two ways; gradients flow all the same
    longest = max(chosen, key=lambda row: len(row.ids))
    padded = _with_padding(longest, sum(len(row.ids) for row in chosen))
    packing = ([flatten(chosen)], [pad([example]) for example in chosen])
    rounding = ([pad([padded])], [pad([longest])])

    def apart(ways: tuple[list[Batch], list[Batch]]) -> tuple[float, float]:
        one, other = (
            _measure(model, batches, trained_tokens(chosen))
            for batches in counted("comparing packed rows with each row alone", ways)
        )
        return _differences(one, other)

    try:
        with memory_for("proof of packing"):
            found = apart(packing)
            always = max(found) <= ALLOWED_BY_DTYPE.get(model.compute_dtype, LEAST_ALLOWED)
            return _judged(found, (0.0, 0.0) if always else apart(rounding), model.compute_dtype)
    except (NotImplementedError, OutOfMemory) as error:
        reason = str(error)
    for _, parameter in model.trainable():  # only here: the exception kept the proof's tensors alive
        parameter.grad = None
    free_cache()
    return _no_proof(reason)


def _judged(found: tuple[float, float], by_padding: tuple[float, float], dtype: str) -> PackingProof:
    """The proof from the differences `found`, and those that rounding alone makes."""
    by_loss, by_gradient = found
    if not all(map(math.isfinite, (*by_padding, by_loss, by_gradient))):
        return _no_proof("losses or gradients of the proof's examples are not finite")
    rounding = max(by_padding)
    allowed = min(MOST_ALLOWED, max(ALLOWED_BY_DTYPE.get(dtype, LEAST_ALLOWED), ROUNDINGS * rounding))
    exact = by_loss <= allowed and by_gradient <= allowed
    return PackingProof(
        exact, by_loss, by_gradient, allowed, "" if exact else "packed examples see each other", rounding
    )


def _no_proof(reason: str) -> PackingProof:
    return PackingProof(False, 0.0, 0.0, 0.0, reason)


def _chosen(model: LoadedModel, encoded: Sequence[Encoded]) -> list[Encoded]:
    """What is compared: see `_choose`; on the CPU the ends of these rows."""
    window = model.window_tokens
    if model.device.type != "cpu":
        return _choose(encoded, PROBED_EXAMPLES, PROBED_TOKENS, window)
    chosen = _choose(encoded, FEWER_EXAMPLES, FEWER_TOKENS, window, MIDDLE)
    most = [MIDDLE + UNEVEN * (place - 1) for place in range(len(chosen))]
    if window and chosen and len(chosen[-1].ids) > window:
        most[-1] = window + BEYOND
    ends = [row.end(tokens) for row, tokens in zip(chosen, most, strict=True)]
    return ends if len({row.ids for row in ends}) == len(ends) else chosen


def _with_padding(example: Encoded, tokens: int) -> Encoded:
    """The example with tokens behind it, up to so many, of which none is trained and none is seen."""
    more = tokens - len(example.ids)
    return Encoded((*example.ids, *[0] * more), (*example.labels, *[IGNORED] * more))


def _differences(one: Measured, other: Measured) -> tuple[float, float]:
    """Relative differences of the losses (the largest) and of the gradient."""
    by_loss = float(((one[0] - other[0]).abs() / other[0].abs().clamp(min=1e-3)).max())
    return by_loss, float((one[1] - other[1]).norm() / other[1].norm().clamp(min=1e-12))


def _choose(
    encoded: Sequence[Encoded],
    most_examples: int,
    most_tokens: int,
    window: int | None,
    cut_to: int | None = None,
) -> list[Encoded]:
    """A few different examples of all lengths, short first, so that every document but the first has
    something before it to leak from.

    The longest that there is room for is among them. Where a row is longer than the model's attention
    reaches (`window`), the shortest such row is, whatever its length: what the model does otherwise beyond
    shows there alone. The two shortest are taken whatever their length, too: fewer prove nothing. `cut_to`: a
    row counts for no more tokens than this.
    """
    distinct = rows_of(encoded).ranked()
    lengths = distinct.lengths.tolist()
    beyond = [rank for rank, length in enumerate(lengths) if window and length > window][:1]
    lengths = [min(length, cut_to or length) for length in lengths]
    before = sum(lengths[:2])
    chosen = (
        beyond
        or [rank for rank, length in enumerate(lengths) if rank > 1 and before + length <= most_tokens][-1:]
    )
    ranks = range(len(lengths))
    for rank in chain(ranks[:: max(1, len(ranks) // most_examples)], ranks):
        fits = sum(lengths[one] for one in chosen) + lengths[rank] <= most_tokens
        if (len(chosen) < 2 and beyond) or (len(chosen) < most_examples and fits):
            chosen += [] if rank in chosen else [rank]
    return [distinct[rank] for rank in (sorted(chosen) if len(chosen) > 1 else ranks[:2])]


def _measure(model: LoadedModel, batches: list[Batch], total: int) -> Measured:
    """Losses of the examples in order, and the whole gradient as one vector."""
    import torch

    parameters = model.trainable()
    torch.manual_seed(0)
    sums = []
    for batch in batches:
        loss = model.loss(batch, total)
        loss.value.backward()
        sums.append(loss.sums.float().cpu())
    gradient = torch.cat(
        [parameter.grad.float().flatten().cpu() for _, parameter in parameters if parameter.grad is not None]
    )
    for _, parameter in parameters:
        parameter.grad = None
    return torch.cat(sums), gradient
