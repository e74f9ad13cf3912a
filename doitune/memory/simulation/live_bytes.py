"""How many bytes of tensors are alive, and the most there ever were: counted storage by storage as operations
run, on real or fake tensors.

Every operation below autograd is seen, so that what autograd keeps for the backward pass is in the count.
What is not seen: buffers that a kernel allocates and frees inside one operation. bitsandbytes' 4-bit product
is one operation that dequantises a whole matrix, so it is taken apart here into the steps that its kernels
take.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from doitune.base.nf4 import ABSMAX_BLOCK


class Tally:
    """Bytes that are alive `now`, and `peaks`: the most in each phase that `enter` named, in the order of
    their first entry."""

    def __init__(self) -> None:
        self.now = 0
        self.peaks: dict[str, int] = {}
        self.phases: tuple[str, ...] = ("",)

    def restart(self, phase: str) -> None:
        """Forget the peaks and begin `phase`."""
        self.peaks = {}
        self.enter(phase)

    def enter(self, *phases: str) -> None:
        """From here on peaks belong to these phases; a phase may be entered again."""
        self.phases = phases
        self.add(0)

    def add(self, size: int) -> None:
        """So many bytes more are alive, or (negative) fewer."""
        self.now += size
        for phase in self.phases:
            self.peaks[phase] = max(self.peaks.get(phase, 0), self.now)


class LiveBytes(TorchDispatchMode):
    """While it is on, counts each storage that an operation returns into `tally`, once, until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()
        self._sizes: dict[int, int] = {}
        self._kernel = False

    @contextmanager
    def inside_kernel(self) -> Iterator[None]:
        """Inside, new storages are not counted: a fused kernel computes in registers what needs tensors
        here."""
        before, self._kernel = self._kernel, True
        try:
            yield
        finally:
            self._kernel = before

    def watch(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count these tensors' storages, which were there before the count began."""
        for tensor in tensors:
            self._track(tensor)

    def _track(self, tensor: torch.Tensor) -> None:
        if tensor.device.type == "meta":
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = 0 if self._kernel else storage.nbytes()
        weakref.finalize(storage, self._drop, key).atexit = False
        self.tally.add(self._sizes[key])

    def _drop(self, key: int) -> None:
        self.tally.add(-self._sizes.pop(key))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.bitsandbytes.gemm_4bit.default:
            with self:
                return product_4bit(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        for one in tree_iter(out):
            if isinstance(one, torch.Tensor):
                self._track(one)
        return out


class FakeLiveBytes(LiveBytes):
    """The count under fake tensors, which have no values: a mask of the loss selects every place, a number
    read from a float tensor is 1.

    In a model's layers a mask, or a whole number read from a tensor, would decide about shapes (which expert
    a token goes to): refused as fake tensors refuse it.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        aten = torch.ops.aten
        selects = func is aten.index.Tensor and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if (selects or func is aten.nonzero.default) and "loss" not in self.tally.phases:
            raise DataDependentOutputException(func)
        if func is aten.nonzero.default:
            with self:
                return torch.empty(args[0].numel(), args[0].dim(), dtype=torch.long, device=args[0].device)
        if selects:
            with self:
                return aten.index.Tensor(args[0], [part for one in args[1] for part in _places(one)])
        if func is aten._local_scalar_dense.default:
            if not args[0].dtype.is_floating_point:
                raise DataDependentOutputException(func)
            return 1.0
        return super().__torch_dispatch__(func, types, args, kwargs)


def layer_phases(place: int, layers: int) -> tuple[str, ...]:
    """Names of a layer's backward pass, counted from both ends, so that runs of different depths share
    them."""
    named = (
        (layers - 1, "top layer"),
        (layers - 2, "second layer"),
        (1, "last layer but one"),
        (0, "bottom layer"),
    )
    return tuple(name for at, name in named if at == place) or ("a layer between",)


def _places(index: torch.Tensor | None) -> list[torch.Tensor | None]:
    """A mask as an index for each of its dimensions; other indices as they are."""
    if index is None or index.dtype != torch.bool:
        return [index]
    return list(torch.ops.aten.nonzero.default(index).unbind(1))


def product_4bit(
    a: torch.Tensor,
    b: torch.Tensor,
    shape: list[int],
    absmax: torch.Tensor,
    blocksize: int,
    quant_type: str,
    bias: torch.Tensor | None = None,
    absmax_8bit: torch.Tensor | None = None,
    absmax_code: torch.Tensor | None = None,
    absmax_offset: torch.Tensor | None = None,
) -> torch.Tensor:
    """a [..., K] times the 4-bit matrix `shape` [N, K], in bitsandbytes' steps on CUDA for more than a few
    rows, and on the CPU."""
    ops = torch.ops.bitsandbytes
    if absmax_8bit is not None:
        absmax = (
            ops.dequantize_blockwise.default(absmax_8bit, absmax, absmax_code, ABSMAX_BLOCK, torch.float32)
            + absmax_offset
        )
    return linear(a, ops.dequantize_4bit.default(b, absmax, blocksize, quant_type, shape, a.dtype), bias)
