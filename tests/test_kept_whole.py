"""On a CPU the matrices of a base in 4 bits are made once for all that a model answers, and again for each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_hf import ROWS, STOPS, gradient, model_of, stir

from doitune.backends import kept_whole
from doitune.prompt.batch import pad, trained_tokens

BATCH = pad(ROWS)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the matrices that bitsandbytes makes whole, as it makes them."""
    sizes: list[int] = []
    own = torch.ops.bitsandbytes.dequantize_4bit.default

    def counted(packed: torch.Tensor, *more: Any) -> torch.Tensor:
        sizes.append(packed.numel())
        return own(packed, *more)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.ops.bitsandbytes.dequantize_4bit, "default", counted)
    return sizes


def answers(model: Any) -> torch.Tensor:
    """Logits with a stirred adapter, and without it."""
    ids = range(6, 262)
    with model.without_adapter():
        plain = model.logits(BATCH, ids)
    return torch.cat([model.logits(BATCH, ids), plain])


def test_answers_make_no_matrix_twice(
    tiny_base: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same bits as the layers' own way; nothing is kept in training. Trap: a second `training(False)` that
    makes all anew, a step that multiplies with what an evaluation left."""
    model = model_of(tiny_base)
    stir(model)
    with monkeypatch.context() as none_free:
        none_free.setattr(kept_whole, "ram", lambda: (64.0, 0.0))
        model.training(False)
        own = answers(model)
    model.training(True)
    before = gradient(model, BATCH, trained_tokens(ROWS))
    model.training(False)
    layers = len([*kept_whole._layers(model.base)])
    made.clear()
    model.training(False)
    assert torch.equal(answers(model), own)
    model.generate([ROWS[0].ids], max_new_tokens=5, stop_ids=STOPS)
    assert not made, "an answer made matrices whole again"
    model.training(True)
    assert torch.equal(gradient(model, BATCH, trained_tokens(ROWS)), before)
    assert len(made) > layers, "a step, on its way forward and back, makes the matrices itself"
    assert not any("forward" in vars(one) for one in kept_whole._layers(model.base))


def test_what_has_no_room_is_made_for_each_product(
    tiny_base: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of what is free, and no byte more."""
    model = model_of(tiny_base)
    needed = sum(4 * one.in_features * one.out_features for one in kept_whole._layers(model.base))
    for free, kept in ((4 * needed - 4, False), (4 * needed, True)):
        monkeypatch.setattr(kept_whole, "ram", lambda free=free: (64.0, free / 2**30))
        model.training(True)
        model.training(False)
        made.clear()
        answers(model)
        assert bool(made) is not kept


def test_a_base_in_16_bits_stays_as_it_is(tiny_base: Path) -> None:
    model = model_of(tiny_base, quantise="none")
    model.training(False)
    assert not any("forward" in vars(module) for module in model.base.modules())
