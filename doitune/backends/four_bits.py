"""Bases in 4 bits: quantised as they are loaded, or read as `doitune base make` (or bitsandbytes) has
written them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from bitsandbytes import functional
from bitsandbytes.functional import QuantState
from bitsandbytes.nn import Linear4bit
from transformers import BitsAndBytesConfig

from doitune.base.nf4 import ABSMAX_BLOCK, BLOCK
from doitune.errors import ModelError
from doitune.system.doing import doing

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadRequest

Search = Callable[..., torch.Tensor]

PIECE = 1 << 18
"""Numbers that a CPU quantises at once: a multiple of every block of NF4."""

FEW_BOUNDS = 16
"""NF4 has 15, the scales of scales 255: there are few scales, and no place may be SEARCHED."""

HALVES, SEARCHED = 1 << 16, 255
"""How many values a float16 has; the mark of one beside which the full number decides."""


def quantisation(request: LoadRequest, dtype: torch.dtype) -> dict[str, Any]:
    """transformers' option for quantising as it loads; empty for 16 bits and for a base that is in NF4
    already. ModelError for other kinds."""
    found = request.base.config.get("quantization_config")
    if found and (request.quantise != "nf4" or found.get("bnb_4bit_quant_type") != "nf4"):
        kind = (
            "in 4 bits"
            if found.get("load_in_4bit")
            else f"quantised ({found.get('quant_method', 'in an unknown way')})"
        )
        raise ModelError(
            f"{request.base.name} is {kind} already",
            "model.quantise nf4 takes a base in 16 bits or in NF4, none takes 16 bits",
        )
    if found or request.quantise != "nf4":
        return {}
    return {"quantization_config": nested_nf4(dtype)}


def nested_nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """NF4 with double quantisation; products are computed in `dtype`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def compute_in(model: Any, dtype: torch.dtype) -> None:
    """Let 4-bit layers compute in `dtype`: a base that was quantised before names the type of the machine
    that made it."""
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype, module.compute_type_is_set = dtype, True
            if module.weight.quant_state is not None:
                module.weight.quant_state.dtype = dtype


def nf4_weight(layer: Any, dtype: torch.dtype) -> torch.nn.Parameter:
    """An NF4 weight with nested absmax as bitsandbytes keeps it, without its values: two weights a byte, a
    byte for BLOCK weights, four bytes for ABSMAX_BLOCK of these, two code tables and an offset."""
    count = layer.in_features * layer.out_features
    blocks = -(-count // BLOCK)
    scales = torch.empty(-(-blocks // ABSMAX_BLOCK))
    nested = QuantState(scales, code=torch.empty(256), blocksize=ABSMAX_BLOCK, dtype=torch.float32)
    weight: Any = torch.nn.Parameter(torch.empty((count + 1) // 2, 1, dtype=torch.uint8), requires_grad=False)
    weight.quant_state = QuantState(
        torch.empty(blocks, dtype=torch.uint8),
        shape=torch.Size((layer.out_features, layer.in_features)),
        code=torch.empty(16),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=dtype,
        offset=torch.empty(()),
        state2=nested,
    )
    weight.compress_statistics, weight.quant_type, weight.bnb_quantized = True, "nf4", True
    return weight


def state_bytes(weight: Any) -> int:
    """Bytes of a 4-bit weight beside its packed values: scales, code tables and the offset."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return 0
    tensors = [state.absmax, state.code]
    if state.nested:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    return sum(tensor.nbytes for tensor in tensors)


@contextmanager
def quantising_in_pieces() -> Iterator[None]:
    """Inside, a CPU quantises PIECE numbers of a matrix at a time, to the same bytes: bitsandbytes' kernel
    for it makes four or five fp32 copies of what it is given, and searches the place of each."""
    whole, search, matrices = functional.quantize_4bit, torch.bucketize, 0

    def places(numbers: torch.Tensor, bounds: torch.Tensor, **words: Any) -> torch.Tensor:
        few = len(bounds) < FEW_BOUNDS and words == {"out_int32": True} and numbers.device.type == "cpu"
        return table_places(numbers, bounds, search) if few else search(numbers, bounds, **words)

    def in_pieces(
        A: torch.Tensor, *more: Any, compress_statistics: bool = False, **words: Any
    ) -> tuple[torch.Tensor, QuantState]:
        plain = (
            not more and words.get("out") is None and words.get("quant_storage", torch.uint8) == torch.uint8
        )
        if A.device.type != "cpu" or A.numel() <= PIECE or not plain:
            return whole(A, *more, compress_statistics=compress_statistics, **words)  # type: ignore[no-any-return]
        nonlocal matrices
        matrices += 1
        doing("quantising the base's matrices", matrices)
        packed, scales = torch.empty((A.numel() + 1) // 2, 1, dtype=torch.uint8), []
        for place, piece in enumerate(A.reshape(-1).split(PIECE)):
            codes, state = whole(piece, **words)
            packed[place * PIECE // 2 :][: len(codes)] = codes
            scales.append(state.absmax)
        state.absmax, state.shape = torch.cat(scales), A.shape
        if compress_statistics:
            state.offset = state.absmax.mean()
            state.absmax, state.state2 = functional.quantize_blockwise(
                state.absmax - state.offset, blocksize=ABSMAX_BLOCK
            )
            state.nested = True
        return packed, state

    functional.quantize_4bit = in_pieces
    torch.bucketize = places  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.quantize_4bit, torch.bucketize = whole, search


def table_places(
    numbers: torch.Tensor, bounds: torch.Tensor, search: Search = torch.bucketize
) -> torch.Tensor:
    """What `search` gives, int32, of a number by a table of its place as a float16: rounding keeps an order,
    so only a number that is rounded to what a bound is rounded to has to be searched for."""
    table = _places_of_halves(tuple(bounds.tolist()))
    bits = numbers.half().view(torch.int16).to(torch.int32).reshape(-1)
    bits &= HALVES - 1
    found = table.index_select(0, bits)
    unknown = torch.from_numpy(np.flatnonzero(found.numpy() == SEARCHED))  # faster than torch's nonzero
    found[unknown] = search(numbers.reshape(-1)[unknown], bounds).to(torch.uint8)
    return found.to(torch.int32).reshape(numbers.shape)


@cache
def _places_of_halves(bounds: tuple[float, ...]) -> torch.Tensor:
    """uint8 [HALVES]: the place of each float16 by its bits; SEARCHED where a bound is rounded to it."""
    halves = torch.from_numpy(np.arange(HALVES, dtype=np.uint16).view(np.float16))
    rounded = torch.tensor(bounds, dtype=torch.float32, device="cpu").half()
    places = len(bounds) - (halves[:, None] <= rounded).sum(1).to(torch.uint8)
    places[(halves[:, None] == rounded).any(1)] = SEARCHED
    return places


def wide_bytes(base: Any) -> int:
    """Bytes of frozen matrices that are in 16 or 32 bits in a base loaded in 4, but for embedding and head:
    experts of a mixture that are no linear layers, and layers that a ready-made base keeps."""
    modules = (base.get_input_embeddings(), base.get_output_embeddings())
    ends = {id(one) for module in modules if module is not None for one in module.parameters()}
    return sum(
        one.nbytes
        for name, one in base.named_parameters()
        if one.dim() > 1
        and one.is_floating_point()
        and not (one.requires_grad or "lora_" in name or id(one) in ends)
    )
