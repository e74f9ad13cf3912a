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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
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
from doitune.memory.simulation.fake_model import hf_model, lean_model
from doitune.memory.simulation.live_bytes import LiveBytes, product_4bit
from doitune.prompt.batch import flatten
from doitune.selftest.gpu_part import rows

NONE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh", "_unsafe_view"}  # fmt: skip
"""Operations that launch nothing, beside views."""
LAUNCHES = {"slice_backward": 2, "select_backward": 2}
"""A tensor of zeros, then a copy into it."""
FEW = {"gather", "scatter_add_", "embedding", "index_select"}
"""Operations that read or write of their largest tensor only what an index names."""
MAKES_WHOLE = "dequantize_4bit"
PRODUCTS = {"mm", "addmm", "addmm_", "bmm", "linear"}


@dataclass(frozen=True)
class Kernel:
    """One operation: its name, the bytes it reads and writes, the arithmetic of a product or of attention."""

    name: str
    bytes: int
    flops: int

    @property
    def is_work(self) -> bool:
        """Whether it is a product, attention or dequantisation, and no traffic beside these."""
        return self.name in PRODUCTS or "attention" in self.name or "dequantize" in self.name


@dataclass
class Count:
    """How often each kernel is launched."""

    each: Counter[Kernel]

    @property
    def kernels(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for one, times in self.each.items():
            found[one.name] += times * LAUNCHES.get(one.name, 1)
        return found

    @property
    def launches(self) -> int:
        return self.kernels.total()

    @property
    def traffic(self) -> float:
        """GB read and written by all but products, attention and dequantisation."""
        return sum(times * one.bytes for one, times in self.each.items() if not one.is_work) / 1e9

    def __sub__(self, other: Count) -> Count:
        each = Counter(self.each)
        each.subtract(other.each)
        return Count(each)

    def seconds(self, tflops: float, gb_per_second: float, *, work: bool) -> float:
        """The least time on a card of such rates, each kernel by its arithmetic or its bytes, whichever takes longer:
        of products, attention and dequantisation, or of all others."""
        return sum(
            times * max(one.flops / (tflops * 1e12), one.bytes / (gb_per_second * 1e9))
            for one, times in self.each.items()
            if one.is_work == work
        )


@dataclass
class Fused:
    """Operations that a card does in one kernel: it reads and writes once what was there before it."""

    parts: list[Kernel] = field(default_factory=list)
    own: set[int] = field(default_factory=set)
    reads: dict[int, int] = field(default_factory=dict)
    writes: dict[int, int] = field(default_factory=dict)

    def add(self, kernel: Kernel, given: list[torch.Tensor], made: list[torch.Tensor]) -> None:
        self.parts.append(kernel)
        there = {_place(one) for one in given} - self.own
        for one in given[1:] if kernel.name == "copy_" else given:
            if _place(one) in there:
                self.reads[_place(one)] = one.nbytes
        for one in made:
            if _place(one) in there:
                self.writes[_place(one)] = one.nbytes
            else:
                self.own.add(_place(one))

    def kernel(self) -> Kernel:
        work = [one.name for one in self.parts if one.is_work]
        size = sum((*self.reads.values(), *self.writes.values()))
        return Kernel(work[-1] if work else "fused", size, max(one.flops for one in self.parts))


class Launches(TorchDispatchMode):
    """While it is on, counts what is done with fake tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count(Counter())
        self.fused: Fused | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.bitsandbytes.gemm_4bit.default:
            with self:
                return product_4bit(*args, **kwargs)
        out = func(*args, **kwargs)
        space, name = func.name().partition(".")[0].split("::")
        given, made = _tensors((args, kwargs)), _tensors(out)
        there = any(isinstance(one, FakeTensor) for one in (*given, *made))
        view = any(one.alias_info and not one.alias_info.is_write for one in func._schema.returns)
        if there and not view and space != "prim" and name not in NONE:
            kernel = Kernel(name, _bytes(name, given, made), _flops(name, given))
            if self.fused is None:
                self.count.each[kernel] += 1
            else:
                self.fused.add(kernel, given, made)
        return out

    @contextmanager
    def one_kernel(self) -> Iterator[None]:
        """Inside, what is done counts as one kernel."""
        self.fused = fused = Fused()
        try:
            yield
        finally:
            self.fused = None
            if fused.parts:
                self.count.each[fused.kernel()] += 1


def _place(one: torch.Tensor) -> int:
    return one.untyped_storage()._cdata


def _tensors(tree: Any) -> list[torch.Tensor]:
    found = {id(one): one for one in tree_leaves(tree) if isinstance(one, torch.Tensor)}
    return list(found.values())


def _bytes(name: str, given: list[torch.Tensor], made: list[torch.Tensor]) -> int:
    if name in FEW:
        sizes = sorted({id(one): one.nbytes for one in (*given, *made)}.values())
        return 2 * sum(sizes[:-1])
    return sum(one.nbytes for one in (*(given[1:] if name == "copy_" else given), *made))


def _flops(name: str, given: list[torch.Tensor]) -> int:
    """Of a product; of causal attention, which is half of a square."""
    if name in PRODUCTS:
        left, right = given[1:3] if name.startswith("addmm") else given[:2]
        return 2 * left.numel() * right.shape[0 if name == "linear" else -1]
    if "attention" in name:
        heads, tokens, width = next(one for one in given if one.dim() == 4).shape[1:]
        return (5 if "backward" in name else 2) * heads * tokens * tokens * width
    return 0


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
    gradients there already. Unsloth's engine (`backend`) is the model of it that simulations have, whose row is one
    document."""
    wanted, fake = Case(16, sum(lengths), **case), FakeTensorMode(allow_non_fake_inputs=True)
    shape, batch = replace(shape, layers=layers), flatten(rows(shape.vocabulary, lengths, untrained=0.0))
    if wanted.backend == "hf":
        engine: Any = hf_model(config_of(shape), "", wanted, fake, LiveBytes()).engine
    else:
        engine = lean_model(shape, wanted, fake, LiveBytes()).engine
        batch = replace(batch, ids=fake.from_tensor(batch.ids), labels=fake.from_tensor(batch.labels))
    with on_a_card(fake):
        for _ in range(2):
            with nullcontext() if wanted.backend == "hf" else fake, Launches() as seen:
                if wanted.backend != "hf":
                    engine.work.kernel = seen.one_kernel
                engine.loss(batch, wanted.tokens).value.backward()
    return seen.count


def by_layer(shape: Architecture, lengths: tuple[int, ...], **case: Any) -> tuple[Count, Count]:
    """What one layer adds, and what there is beside all layers."""
    two, three = (micro_batch(shape, layers, lengths, **case) for layers in (2, 3))
    layer = three - two
    return layer, two - layer - layer
