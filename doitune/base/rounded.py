"""A base's weights at the values that training computes with: the matrices of its linear layers go through
4 bits, or are stored so already."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from doitune.base.nf4 import STATE, Codes, rounded
from doitune.base.weights import FLOATS, Weight, Weights
from doitune.errors import ModelError

if TYPE_CHECKING:
    import torch


@dataclass
class RoundedWeights(Weights):
    """Weights whose `linears` read as their 4-bit values, fp32. `stored`: they are 4-bit codes in the
    files. The codes of one matrix are in memory at a time."""

    linears: frozenset[str] = frozenset()
    stored: bool = False
    _last: tuple[str, Codes] | None = field(default=None, repr=False)

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        """See Weights."""
        if name not in self.linears:
            return super().rows(name, first, last)
        if self._last is None or self._last[0] != name:
            self._last = None
            whole = self.get(name)
            self._last = name, Codes.stored(whole, self._rest(name)) if self.stored else rounded(whole)
        return self._last[1].rows(first, last)

    def _rest(self, name: str) -> dict[str, torch.Tensor]:
        """What is stored beside the codes of a matrix, by its last names."""
        from safetensors import safe_open

        prefix = f"{name}."
        with safe_open(self.table[name].path, framework="pt") as opened:
            return {
                key.removeprefix(prefix): opened.get_tensor(key)
                for key in opened.keys()  # noqa: SIM118
                if key.startswith(prefix)
            }


def as_rounded(weights: Weights, linears: Collection[str]) -> RoundedWeights:
    """Weights in 16 or 32 bits, those called `linears` as training quantises them."""
    return RoundedWeights(weights.files, weights.table, linears=frozenset(linears))


def stored_rounded(weights: Weights) -> RoundedWeights:
    """Weights that are in NF4 in their files, as `base make` or bitsandbytes has written them. ModelError
    for a state that cannot be read."""
    from safetensors import safe_open

    table, codes = (
        {},
        [name.removesuffix(f".{STATE}") for name in weights.table if name.endswith(f".{STATE}")],
    )
    for name in codes:
        path = weights.table[f"{name}.{STATE}"].path
        if name not in weights.table or weights.table[name].path != path:
            raise ModelError(
                f"the codes of {name} are not beside their state", "copy the model again", place=str(path)
            )
        with safe_open(path, framework="pt") as opened:
            try:
                state = json.loads(bytes(opened.get_tensor(f"{name}.{STATE}").tolist()))
                shape, dtype = tuple(int(size) for size in state["shape"]), str(state["dtype"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ModelError(
                    f"the 4-bit state of {name} cannot be read: {error!r}",
                    "copy the model again",
                    place=str(path),
                ) from None
        if len(shape) != 2 or dtype not in FLOATS:
            raise ModelError(
                f"the 4-bit state of {name} is of shape {list(shape)} and type {dtype}",
                "copy the model again",
                place=str(path),
            )
        table[name] = Weight(path, shape, dtype)
    beside = tuple(f"{name}." for name in codes)
    plain = (
        {
            name: one
            for name, one in weights.table.items()
            if name not in table and not name.startswith(beside)
        }
        if codes
        else weights.table
    )
    return RoundedWeights(weights.files, {**plain, **table}, linears=frozenset(codes), stored=True)
