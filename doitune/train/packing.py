"""Proof, at the start of a run, that packed examples do not see each other: on this model, this backend and
these versions.

Packing is easily silently wrong (stock collators leak across documents when a cache or a 2D mask is given),
so it is used only where packed losses and gradients equal those of the same examples one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doitune.prompt.batch import flatten, pad, trained_tokens

if TYPE_CHECKING:
    import torch

    from doitune.backends.loaded import LoadedModel
    from doitune.prompt.batch import Batch
    from doitune.prompt.encoded import Encoded

    Measured = tuple[torch.Tensor, torch.Tensor]

ALLOWED_BY_DTYPE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Relative difference that rounding always explains, by the dtype of the products."""

ROUNDINGS = 4
"""What is allowed is at least this many times what rounding alone does to these examples: a deep model
magnifies it a thousandfold."""

MOST_ALLOWED = 0.2
"""Never more than this: a leak is of the order of 1."""

PROBED_EXAMPLES = 6
PROBED_TOKENS = 1024


@dataclass(frozen=True)
class PackingProof:
    """Relative differences of packed against separate: of the examples' losses and of the gradient. `exact`:
    both within `allowed`.

    `rounding`: the same difference of padded against separate, where nothing can leak.
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
    chosen = _choose(encoded)
    if not model.packs or len(chosen) < 2:
        return PackingProof(
            False,
            0.0,
            0.0,
            0.0,
            "this model cannot be given packed rows" if not model.packs else "no two different examples",
        )
    total = trained_tokens(chosen)
    model.training(False)  # dropout would differ between the two ways; gradients flow all the same
    try:
        packed = _measure(model, [flatten(chosen)], total)
    except NotImplementedError as error:
        return PackingProof(False, 0.0, 0.0, 0.0, str(error))
    separate = _measure(model, [pad([example]) for example in chosen], total)
    by_padding = _differences(_measure(model, [pad(chosen)], total), separate)
    by_loss, by_gradient = _differences(packed, separate)
    if not all(map(math.isfinite, (*by_padding, by_loss, by_gradient))):
        return PackingProof(
            False, 0.0, 0.0, 0.0, "losses or gradients of the proof's examples are not finite"
        )
    rounding = max(by_padding)
    allowed = min(MOST_ALLOWED, max(ALLOWED_BY_DTYPE.get(model.compute_dtype, 1e-4), ROUNDINGS * rounding))
    exact = by_loss <= allowed and by_gradient <= allowed
    return PackingProof(
        exact, by_loss, by_gradient, allowed, "" if exact else "packed examples see each other", rounding
    )


def _differences(one: Measured, other: Measured) -> tuple[float, float]:
    """Relative differences of the losses (the largest) and of the gradient."""
    by_loss = float(((one[0] - other[0]).abs() / other[0].abs().clamp(min=1e-3)).max())
    return by_loss, float((one[1] - other[1]).norm() / other[1].norm().clamp(min=1e-12))


def _choose(encoded: Sequence[Encoded]) -> list[Encoded]:
    """A few different examples of all lengths, short first, so that every document but the first has
    something before it to leak from.

    The longest that there is room for is among them: what a model does otherwise beyond some length (a
    window) shows there alone. The two shortest are taken whatever their length: fewer prove nothing.
    """
    distinct = sorted(set(encoded), key=lambda one: (len(one.ids), one.ids))
    shortest = len(distinct[0].ids) if distinct else 0
    longest = [one for one in distinct[1:] if shortest + len(one.ids) <= PROBED_TOKENS][-1:]
    chosen: list[Encoded] = longest
    for example in [one for one in distinct if one not in longest][
        :: max(1, len(distinct) // PROBED_EXAMPLES)
    ]:
        if (
            len(chosen) < PROBED_EXAMPLES
            and sum(len(one.ids) for one in chosen) + len(example.ids) <= PROBED_TOKENS
        ):
            chosen.append(example)
    return sorted(chosen, key=lambda one: len(one.ids)) if len(chosen) > 1 else distinct[:2]


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
