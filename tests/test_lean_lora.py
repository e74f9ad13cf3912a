"""LoRA in bf16 by few kernels: as exact as peft's layers are under torch's autocast, and peft's own wherever it is
not meant."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint

from doitune.backends import lean_lora
from doitune.backends.dropout import steady
from doitune.backends.four_bits import compute_in
from doitune.backends.lean_lora import LeanLinear, LeanLinear4bit, lean, whole
from doitune.prompt.batch import flatten
from doitune.prompt.encoded import IGNORED, Encoded

K, N, T, RANK = 128, 96, 200, 8
FEW = 1.05
"""How many times autocast's rounding ours may be: it rounds an adapter's output once more."""


class Small(nn.Module):
    """Two layers, so that the first one's output needs a gradient."""

    def __init__(self, *, four_bits: bool, bias: bool) -> None:
        super().__init__()
        self.up, self.down = (nn.Linear(*size, bias=bias) for size in ((K, N), (N, K)))
        if not four_bits:
            return
        for name, one in list(self.named_children()):
            layer = Linear4bit(one.in_features, one.out_features, bias=bias, quant_type="nf4")
            layer.weight = Params4bit(one.weight.data, requires_grad=False, quant_type="nf4").to("cpu")
            layer.bias = one.bias
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x))


def adapted(dtype: torch.dtype, *, four_bits: bool = True, bias: bool = False, dropout: float = 0.0) -> Any:
    """Random weights, the same for each dtype, with an adapter that is not zero."""
    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=24, lora_dropout=dropout, target_modules=["up", "down"])
    base = Small(four_bits=four_bits, bias=bias)
    for one in base.parameters():
        if one.is_floating_point():
            one.data = one.data.to(torch.bfloat16).to(dtype)
    base.is_loaded_in_4bit = four_bits
    compute_in(base, dtype)
    model = get_peft_model(base, config)
    for name, one in model.named_parameters():
        if "lora_" in name:
            one.data = torch.randn_like(one.data) * 0.1
    return model.train()


def passed(model: Any, dtype: torch.dtype, run: Any = None) -> dict[str, torch.Tensor]:
    """Output of `run` (of the model), the gradient of the input and those of the adapters, in fp64."""
    torch.manual_seed(1)
    x = torch.randn(2, T // 2, K).to(torch.bfloat16).to(dtype).requires_grad_()
    arriving = torch.randn(2, T // 2, K).to(torch.bfloat16).to(dtype)
    out = (run or model)(x)
    out.backward(arriving)
    found = {"output": out.detach(), "input": x.grad}
    found |= {name: one.grad for name, one in model.named_parameters() if one.requires_grad}
    return {name: one.double() for name, one in found.items()}


def apart(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> dict[str, float]:
    """Relative errors."""
    assert set(found) == set(exact) and len(exact) == 6
    return {name: float((found[name] - one).norm() / one.norm()) for name, one in exact.items()}


@pytest.mark.parametrize(("four_bits", "bias"), [(True, False), (True, True), (False, False)])
def test_it_is_as_exact_as_autocast(four_bits: bool, bias: bool) -> None:
    """Traps: A's gradient of the wrong side, a scale left out or taken twice, a bias forgotten."""
    kind, how = torch.bfloat16, {"four_bits": four_bits, "bias": bias}
    exact = passed(adapted(torch.float32, **how), torch.float32)
    with torch.autocast("cpu", kind):
        theirs = apart(passed(adapted(kind, **how), kind), exact)
    model = adapted(kind, **how)
    lean(model)
    layers = [one for one in model.modules() if isinstance(one, (LeanLinear, LeanLinear4bit))]
    assert len(layers) == 2 and all(isinstance(one, LeanLinear4bit) == four_bits for one in layers)
    ours = apart(passed(model, kind), exact)
    print({name: (round(ours[name], 5), round(theirs[name], 5)) for name in ours})
    assert 0 < max(ours.values()) < 0.01
    assert not {name for name in ours if ours[name] > FEW * theirs[name]}


def test_dropout_drops_from_the_adapters_input_alone() -> None:
    """The same elements as peft's layers with the same dropout, and the frozen layer sees all. Trap: the gradient of
    what was dropped."""
    kind = torch.bfloat16
    models = [adapted(kind, dropout=0.5) for _ in range(2)]
    row = flatten([Encoded(tuple(range(T)), (IGNORED,) * T)])
    for model in models:
        places = steady(model)
        assert places is not None
        places.put(row)
    lean(models[1])
    theirs, ours = (passed(one, kind) for one in models)
    plain = passed(adapted(kind), kind)
    assert max(apart(ours, theirs).values()) < 0.02 < min(apart(ours, plain).values())


def test_a_checkpoint_ends_before_its_last_frozen_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two layers: both forward, one again, both for the gradient; and the gradients are the same."""
    kind, seen = torch.bfloat16, []
    model = adapted(kind)
    lean(model)
    plain = passed(model, kind)
    model.zero_grad()
    monkeypatch.setattr(lean_lora, "whole", lambda frozen: (seen.append(frozen), whole(frozen))[1])
    again = passed(model, kind, lambda x: checkpoint(model, x, use_reentrant=False))
    assert len(seen) == 5
    assert all(torch.equal(again[name], one) for name, one in plain.items())


@pytest.mark.parametrize("case", ["fp32", "fp16", "no gradient", "disabled", "merged", "torch's dropout"])
def test_what_it_is_not_meant_for_is_pefts_own(case: str) -> None:
    """To the byte, and without a call of ours."""
    kind = {"fp32": torch.float32, "fp16": torch.float16}.get(case, torch.bfloat16)
    dropout = 0.5 if case == "torch's dropout" else 0.0
    both = [adapted(kind, four_bits=case != "merged", dropout=dropout) for _ in range(2)]
    lean(both[1])
    x = torch.randn(1, 50, K).to(kind)
    outs = []
    for model in both:
        torch.manual_seed(2)
        if case == "merged":
            model.merge_adapter()
        with torch.set_grad_enabled(case != "no gradient"):
            if case == "disabled":
                with model.disable_adapter():
                    outs.append(model(x))
            else:
                outs.append(model(x))
    assert torch.equal(*outs)
    assert "_Adapted" not in str(outs[1].grad_fn) and "_Added" not in str(outs[1].grad_fn)
