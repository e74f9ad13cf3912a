"""4-bit weights made on a CPU: piece by piece to the bytes of the whole."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes import functional
from bitsandbytes.nn import Params4bit

from doitune.backends import four_bits
from doitune.backends.four_bits import quantising_in_pieces


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


def test_bitsandbytes_has_its_own_again() -> None:
    own = functional.quantize_4bit
    with pytest.raises(ZeroDivisionError), quantising_in_pieces():
        assert functional.quantize_4bit is not own
        raise ZeroDivisionError
    assert functional.quantize_4bit is own
