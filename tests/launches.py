"""What a micro-batch would have a card do, counted without one: kernels launched, bytes that they read and write,
4-bit matrices made whole again.

The model is the hf backend's own, in bf16, of fake tensors: these lie on the card. The batch's labels, lengths and
places are real ones in main memory, as in a training, and cost no card anything. Every operation below autograd is
seen: views and bare allocations launch nothing, any other one kernel (`LAUNCHES` names those that launch more). What
one of cuBLAS, attention or bitsandbytes launches beside its first kernel is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import doitune.backends.dropout
import doitune.backends.hf_model
import doitune.backends.loss
import doitune.prompt.batch
from doitune.base.architecture import Architecture, config_of
from doitune.memory.simulation.case import Case
from doitune.memory.simulation.fake_model import hf_model
from doitune.memory.simulation.live_bytes import LiveBytes, product_4bit
from doitune.prompt.batch import flatten
from doitune.selftest.gpu_part import rows

NONE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh", "_unsafe_view"}  # fmt: skip
"""Operations that launch nothing, beside views."""
LAUNCHES = {"slice_backward": 2, "select_backward": 2}
"""A tensor of zeros, then a copy into it."""
MAKES_WHOLE = "dequantize_4bit"
PRODUCTS = {"mm", "addmm", "addmm_", "bmm", "linear"}


@dataclass
class Count:
    """By operation; products' bytes are no part of `traffic`, for they wait for arithmetic."""

    kernels: Counter[str]
    bytes: Counter[str]

    @property
    def launches(self) -> int:
        return self.kernels.total()

    @property
    def traffic(self) -> float:
        """GB read and written by all but products, attention and dequantisation."""
        others = {name: size for name, size in self.bytes.items() if not _is_work(name)}
        return sum(others.values()) / 1e9

    def __sub__(self, other: Count) -> Count:
        kernels, sizes = Counter(self.kernels), Counter(self.bytes)
        kernels.subtract(other.kernels)
        sizes.subtract(other.bytes)
        return Count(kernels, sizes)


def _is_work(name: str) -> bool:
    return name in PRODUCTS or "attention" in name or "dequantize" in name


class Launches(TorchDispatchMode):
    """While it is on, counts what is done with fake tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count(Counter(), Counter())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.bitsandbytes.gemm_4bit.default:
            with self:
                return product_4bit(*args, **kwargs)
        out = func(*args, **kwargs)
        space, name = func.name().partition(".")[0].split("::")
        given, made = tree_leaves((args, kwargs)), tree_leaves(out)
        there = any(isinstance(one, FakeTensor) for one in (*given, *made))
        view = any(one.alias_info and not one.alias_info.is_write for one in func._schema.returns)
        if there and not view and space != "prim" and name not in NONE:
            self.count.kernels[name] += LAUNCHES.get(name, 1)
            read = given[1:] if name == "copy_" else given
            self.count.bytes[name] += sum(map(_bytes, {id(one): one for one in read}.values()))
            self.count.bytes[name] += sum(map(_bytes, made))
        return out


def _bytes(one: Any) -> int:
    return one.nbytes if isinstance(one, torch.Tensor) else 0


@contextmanager
def on_a_card(fake: FakeTensorMode) -> Iterator[None]:
    """Inside, what the program sends to its device becomes fake."""
    with pytest.MonkeyPatch.context() as patch:
        for room in (
            doitune.prompt.batch,
            doitune.backends.loss,
            doitune.backends.hf_model,
            doitune.backends.dropout,
        ):
            patch.setattr(room, "sent", lambda tensor, device: fake.from_tensor(tensor))
        yield


def micro_batch(shape: Architecture, layers: int, lengths: tuple[int, ...], **case: Any) -> Count:
    """Forward and backward of one packed row of documents of these lengths, all of whose tokens are trained, with
    gradients there already."""
    tokens = sum(lengths)
    shape, fake = replace(shape, layers=layers), FakeTensorMode(allow_non_fake_inputs=True)
    model = hf_model(config_of(shape), "", Case(16, tokens, **case), fake, LiveBytes()).engine
    batch = flatten(rows(shape.vocabulary, lengths, untrained=0.0))
    with on_a_card(fake):
        for _ in range(2):
            with Launches() as seen:
                model.loss(batch, tokens).value.backward()
    return seen.count


def by_layer(shape: Architecture, lengths: tuple[int, ...], **case: Any) -> tuple[Count, Count]:
    """What one layer adds, and what there is beside all layers."""
    two, three = (micro_batch(shape, layers, lengths, **case) for layers in (2, 3))
    layer = three - two
    return layer, two - layer - layer
