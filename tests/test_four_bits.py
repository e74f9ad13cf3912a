"""4-bit weights made on a CPU: piece by piece to the bytes of the whole."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn import Params4bit

from doitune.backends import four_bits
from doitune.backends.four_bits import quantising_in_pieces, table_places
from doitune.base import nf4

NF4 = functional.get_4bit_type("nf4", "cpu")


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (130, 64), (97, 131), (257, 64 * 64)])
@pytest.mark.parametrize("nested", [True, False])
def test_pieces_make_the_bytes_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, outputs: int, inputs: int, nested: bool
) -> None:
    """Codes, scales, their scales and offset; a last piece that is no full block, and an odd number of
    weights. Trap: scales nested by pieces."""
    monkeypatch.setattr(four_bits, "PIECE", 4096)
    dense = torch.randn(outputs, inputs, dtype=torch.bfloat16)

    def quantised() -> Params4bit:
        return Params4bit(
            dense.clone(), requires_grad=False, compress_statistics=nested, quant_type="nf4"
        ).to("cpu")

    whole, asked = quantised(), []
    own = functional.quantize_4bit
    monkeypatch.setattr(
        functional,
        "quantize_4bit",
        lambda A, *more, **words: asked.append(A.numel()) or own(A, *more, **words),
    )
    with quantising_in_pieces():
        parts = quantised()
    assert max(asked) <= 4096 and sum(asked) == dense.numel()
    assert torch.equal(whole.data, parts.data) and whole.dtype == parts.dtype and whole.shape == parts.shape
    ours, theirs = (one.quant_state.as_dict(packed=True) for one in (parts, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (
        parts.quant_state.nested == nested
        and parts.quant_state.shape == (outputs, inputs)
        and parts.quant_state.dtype == torch.bfloat16
    )


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (97, 131), (257, 96), (33, 64 * 64)])
def test_values_rounded_in_pieces_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, outputs: int, inputs: int
) -> None:
    """Trap: a merge into other values than training computed with."""
    monkeypatch.setattr(nf4, "ROUNDED_AT_ONCE", 4096)
    dense = torch.randn(outputs, inputs, dtype=torch.bfloat16)
    packed, state = functional.quantize_4bit(
        dense.float(), blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    codes, whole = nf4.rounded(dense), functional.dequantize_4bit(packed, state)
    assert torch.equal(codes.rows(0, outputs), whole)
    for first, last in ((0, 1), (1, 2), (3, 31), (outputs - 1, outputs), (7, 7)):
        assert torch.equal(codes.rows(first, last), whole[first:last]), "some rows, wherever blocks begin"


@pytest.mark.parametrize("bounds", [torch.linspace(-0.85, 0.86, 15), (NF4[1:] + NF4[:-1]) / 2])
def test_places_among_few_bounds_are_those_of_a_search(
    monkeypatch: pytest.MonkeyPatch, bounds: torch.Tensor
) -> None:
    """Traps: a number that is a bound itself, or is rounded to one as a float16; NaN, infinities; and a search
    that is not replaced at all."""
    edges = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0, -1, 1, 1e-30, -1e-30, 65519, 1e9])
    up, down = (bounds.nextafter(torch.tensor(end)) for end in (1.0, -1.0))
    numbers = torch.cat([torch.randn(4096), bounds, up, down, bounds.half().float(), edges])
    numbers = numbers[: len(numbers) // 2 * 2].reshape(2, -1)
    own = torch.bucketize(numbers, bounds, out_int32=True)
    found = table_places(numbers, bounds)
    assert torch.equal(found, own) and found.dtype == own.dtype
    four_bits._places_of_halves.cache_clear()
    torch.set_default_dtype(torch.bfloat16)  # as transformers does while it builds a model
    try:
        assert torch.equal(table_places(numbers, bounds), own)
    finally:
        torch.set_default_dtype(torch.float32)
    assert set(own.flatten().tolist()) == set(range(16))
    counted = []
    monkeypatch.setattr(
        four_bits, "table_places", lambda *given: counted.append(len(given[1])) or table_places(*given)
    )
    with quantising_in_pieces():
        functional.quantize_4bit(torch.randn(64, 64), quant_type="nf4", compress_statistics=True)
        assert torch.equal(torch.bucketize(numbers, bounds), own)
    assert counted == [15]


def test_bitsandbytes_has_its_own_again() -> None:
    own, search = functional.quantize_4bit, torch.bucketize
    with pytest.raises(ZeroDivisionError), quantising_in_pieces():
        assert functional.quantize_4bit is not own
        raise ZeroDivisionError
    assert functional.quantize_4bit is own and torch.bucketize is search


def test_experts_that_stay_in_16_bits_are_counted() -> None:
    """Trap: a mixture of experts said to be in NF4, with nine tenths of its weights in 16 bits."""
    from bitsandbytes.nn import Linear4bit
    from transformers import AutoConfig, AutoModelForCausalLM

    from doitune.backends.four_bits import wide_bytes

    sizes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 300, "num_local_experts": 4,
    }  # fmt: skip
    built = {
        kind: AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes))
        for kind in ("mixtral", "llama")
    }
    for model in built.values():
        model.requires_grad_(False)
        model.to(torch.bfloat16)
        for block in model.model.layers:
            for name, layer in list(block.named_modules()):
                if isinstance(layer, torch.nn.Linear):
                    four = Linear4bit(layer.in_features, layer.out_features, bias=False, quant_type="nf4")
                    four.weight = type(four.weight)(
                        layer.weight.data, requires_grad=False, quant_type="nf4"
                    ).to("cpu")
                    block.set_submodule(name, four)
    experts = 2 * 4 * 3 * 64 * 96
    router = 2 * 4 * 64
    assert 2 * experts <= wide_bytes(built["mixtral"]) <= 2 * (experts + router)
    assert wide_bytes(built["llama"]) == 0
