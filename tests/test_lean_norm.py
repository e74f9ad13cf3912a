"""RMSNorm by torch's function: transformers' numbers to the byte on a CPU, and in simulations what a card keeps."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import pytest
import torch

from doitune.backends.lean_norm import Lean, LeanGemmaNorm, LeanNorm, lean_norms
from doitune.base.families import FAMILIES
from doitune.memory.simulation.fused_norm import fuse_norms

WIDTH = 96
KINDS = sorted(name for name, family in FAMILIES.items() if family.model_class)


def norm_of(kind: str) -> Any:
    """The norm that a family's blocks have, with a random weight."""
    name = FAMILIES[kind].model_class.removesuffix("ForCausalLM")
    package = kind.removesuffix("_text")
    module = import_module(f"transformers.models.{package}.modeling_{package}")
    torch.manual_seed(0)
    norm = getattr(module, f"{name}RMSNorm")(WIDTH)
    norm.weight = torch.nn.Parameter(torch.randn(WIDTH), requires_grad=False)
    return norm


def passed(norm: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What it makes of numbers, and their gradient."""
    torch.manual_seed(1)
    x = (7 * torch.randn(2, 50, WIDTH)).to(dtype).requires_grad_()
    out = norm(x)
    out.backward(torch.randn(out.shape).to(out.dtype))
    assert x.grad is not None
    return out.detach(), x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_transformers_own_to_the_byte(kind: str, dtype: torch.dtype) -> None:
    """Forward and backward. Traps: a rounding less than transformers has (LLaMA's is rounded before it is scaled),
    Gemma's 1 + weight."""
    own = norm_of(kind).to(dtype)
    other = deepcopy(own)
    lean_norms(other)
    assert isinstance(other, LeanGemmaNorm if "gemma" in kind else LeanNorm)
    changed = type(other)
    lean_norms(other)
    assert type(other) is changed, "once is enough"
    for one, mine in zip(passed(own, dtype), passed(other, dtype), strict=True):
        assert torch.equal(one, mine) and float(one.float().norm()) > 1
    assert set(own.state_dict()) == set(other.state_dict())


def test_a_norm_of_other_code_stays_as_it_is() -> None:
    """Trap: taken for LLaMA's by its name."""
    from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm  # scales before it rounds

    norm = Olmo2RMSNorm(WIDTH)
    lean_norms(norm)
    assert type(norm) is Olmo2RMSNorm


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_the_simulations_norm_computes_as_torchs(kind: str) -> None:
    """Its gradient is a card's one kernel's, so that it differs by rounding; its output does not."""
    own = norm_of(kind)
    lean_norms(own)
    fused = deepcopy(own)
    fuse_norms(fused)
    assert isinstance(fused, Lean) and "rms_norm" in vars(fused)
    (out, grad), (mine, my_grad) = passed(own, torch.float32), passed(fused, torch.float32)
    torch.testing.assert_close(mine, out, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(my_grad, grad, rtol=1e-5, atol=1e-6)
