"""Unsloth's kernels against plain torch, forward and backward: on a card in fp32 and bf16, on a CPU in
Triton's interpreter in fp32.

The plain side is computed in fp32 from the same (rounded) values. Unsloth is imported as `differences` is
called: `begin` comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IGNORED_LABEL = -100


@dataclass
class Comparison:
    """Values on one device in one dtype; `found` holds each kernel's largest difference as a share of the
    plain side's largest value."""

    device: str
    dtype: torch.dtype
    found: dict[str, float] = field(default_factory=dict)

    def random(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """Normal values of this dtype, the same on every device."""
        import torch

        return (torch.randn(*shape) * scale).to(self.device, self.dtype)

    def note(self, name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        """Compare outputs and gradients, pair by pair; the plain side must hold something. RuntimeError
        where it is all zeros."""
        largest = [float(one.detach().abs().max()) for one in theirs]
        if len(ours) != len(theirs) or not all(largest):
            raise RuntimeError(f"{name}: nothing to compare with")
        shares = [
            float((one.detach().float() - other.detach().float()).abs().max()) / size
            for one, other, size in zip(ours, theirs, largest, strict=True)
        ]
        self.found[name] = max(shares)


def differences(device: str, dtype: torch.dtype) -> dict[str, float]:
    """Each kernel's largest difference on this device in this dtype, as a share of the plain side's
    largest value."""
    import torch

    here = Comparison(device, dtype)
    repeated = torch.tensor([[0, 1, 2, 0, 1, 2], [5, 6, 7, 8, 9, 10]], dtype=torch.int32, device=device)
    parts: tuple[Callable[[], None], ...] = (
        lambda: _rms_norm(here),
        lambda: _swiglu(here),
        lambda: _rope(here, "rope", None),
        lambda: _rope(here, "rope_with_positions", repeated),
        lambda: _cross_entropy(here, "cross_entropy", 4096),
        lambda: _cross_entropy(here, "cross_entropy_in_pieces", 100_000),
        lambda: _lora_mlp(here),
        lambda: _lora_qkv(here),
        lambda: _lora_w(here),
    )
    for seed, part in enumerate(parts):
        torch.manual_seed(seed)
        part()
    return here.found


def _leaves(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Copies that gather gradients."""
    return [tensor.detach().clone().requires_grad_(True) for tensor in tensors]


def _plain(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """The same in fp32: the plain side."""
    return _leaves(*(tensor.float() for tensor in tensors))


def _rms_norm(here: Comparison) -> None:
    import torch
    from unsloth.kernels.rms_layernorm import fast_rms_layernorm

    hidden, slope = here.random(2, 5, 64), here.random(2, 5, 64)

    class Norm:
        variance_epsilon = 1e-6
        weight = (torch.rand(64) + 0.5).to(here.device, here.dtype)

    (mine,), (own,) = _plain(hidden), _leaves(hidden)
    plain = mine * torch.rsqrt(mine.pow(2).mean(-1, keepdim=True) + 1e-6) * Norm.weight.float()
    plain.backward(slope.float())  # type: ignore[no-untyped-call]
    found = fast_rms_layernorm(Norm, own)
    found.backward(slope.clone())
    here.note("rms_norm", (found, own.grad), (plain, mine.grad))


def _swiglu(here: Comparison) -> None:
    import torch
    from unsloth.kernels.swiglu import swiglu_DWf_DW_dfg_kernel, swiglu_fg_kernel

    gate, up, slope = (here.random(6, 32) for _ in range(3))
    mine = _plain(gate, up)
    plain = torch.nn.functional.silu(mine[0]) * mine[1]
    plain.backward(slope.float())  # type: ignore[no-untyped-call]
    found = swiglu_fg_kernel(gate[None].clone(), up[None].clone())[0]
    product, to_up, to_gate = swiglu_DWf_DW_dfg_kernel(slope.clone(), gate.clone(), up.clone())
    here.note("swiglu", (found, product, to_gate, to_up), (plain, plain, mine[0].grad, mine[1].grad))


def _rope(here: Comparison, name: str, positions: torch.Tensor | None) -> None:
    import torch
    from unsloth.kernels.rope_embedding import fast_rope_embedding

    query, key = here.random(2, 4, 6, 16), here.random(2, 2, 6, 16)
    angles = torch.outer(torch.arange(32.0), 1.0 / 10000 ** (torch.arange(0, 16, 2) / 16))
    cos, sin = (
        torch.cat([turn, turn], -1).to(here.device, here.dtype) for turn in (angles.cos(), angles.sin())
    )
    places = (
        torch.arange(6, device=here.device)[None].expand(2, -1) if positions is None else positions.long()
    )

    def turned(values: torch.Tensor) -> torch.Tensor:
        half = values.shape[-1] // 2
        swapped = torch.cat([-values[..., half:], values[..., :half]], -1)
        return values * cos.float()[places][:, None] + swapped * sin.float()[places][:, None]

    mine, own = _plain(query, key), _leaves(query, key)
    plain = [turned(one) for one in mine]
    slopes = [here.random(*one.shape) for one in plain]
    torch.autograd.backward(plain, [slope.float() for slope in slopes])
    found = fast_rope_embedding(own[0] * 1, own[1] * 1, cos, sin, positions)
    torch.autograd.backward(found, [slope.clone() for slope in slopes])
    here.note(name, (*found, own[0].grad, own[1].grad), (*plain, mine[0].grad, mine[1].grad))


def _cross_entropy(here: Comparison, name: str, vocabulary: int) -> None:
    import torch
    from unsloth.kernels.cross_entropy_loss import fast_cross_entropy_loss

    logits = here.random(1, 4, vocabulary)
    labels = torch.tensor([[5, IGNORED_LABEL, vocabulary - 1, 0]], device=here.device)
    (mine,), (own,) = _plain(logits), _leaves(logits)
    plain = torch.nn.functional.cross_entropy(mine[0], labels[0], ignore_index=IGNORED_LABEL)
    plain.backward()  # type: ignore[no-untyped-call]
    found = fast_cross_entropy_loss(own * 1, labels)
    found.backward()
    here.note(name, (found, own.grad), (plain, mine.grad))


Lora = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]
SCALE = 0.5


def _lora(here: Comparison, width: int, out: int) -> Lora:
    """A frozen matrix [out, width] and LoRA's A [4, width], B [out, 4]."""
    return (
        here.random(out, width, scale=width**-0.5),
        here.random(4, width, scale=width**-0.5),
        here.random(out, 4, scale=0.5),
    )


def _adapted(
    hidden: torch.Tensor, weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor
) -> torch.Tensor:
    return hidden @ weight.float().T + hidden @ down.T @ up.T * SCALE


def _words(layers: Sequence[Lora], values: Sequence[torch.Tensor]) -> list[Any]:
    """What Unsloth's LoRA functions take for each layer: weight, quantisation, A, B, scale."""
    return [
        part
        for place, layer in enumerate(layers)
        for part in (layer[0], None, values[1 + 2 * place], values[2 + 2 * place], SCALE)
    ]


def _outputs(
    layers: Sequence[Lora], values: Sequence[torch.Tensor], place: int, hidden: torch.Tensor
) -> torch.Tensor:
    return _adapted(hidden, layers[place][0], values[1 + 2 * place], values[2 + 2 * place])


def _sides(hidden: torch.Tensor, layers: Sequence[Lora]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The input and every A and B, as leaves of the plain side and of Unsloth's."""
    tensors = [hidden, *(part for _, down, up in layers for part in (down, up))]
    return _plain(*tensors), _leaves(*tensors)


def _lora_mlp(here: Comparison) -> None:
    import torch
    from unsloth.kernels.fast_lora import LoRA_MLP
    from unsloth.kernels.swiglu import swiglu_DWf_DW_dfg_kernel, swiglu_fg_kernel

    layers, slope = [_lora(here, 32, 48), _lora(here, 32, 48), _lora(here, 48, 32)], here.random(2, 5, 32)
    mine, own = _sides(here.random(2, 5, 32), layers)
    inner = torch.nn.functional.silu(_outputs(layers, mine, 0, mine[0])) * _outputs(layers, mine, 1, mine[0])
    plain = _outputs(layers, mine, 2, inner)
    plain.backward(slope.float())  # type: ignore[no-untyped-call]
    found = LoRA_MLP.apply(own[0] * 1, *_words(layers, own), swiglu_fg_kernel, swiglu_DWf_DW_dfg_kernel, True)
    found.backward(slope.clone())
    here.note("lora_mlp", (found, *[one.grad for one in own]), (plain, *[one.grad for one in mine]))


def _lora_qkv(here: Comparison) -> None:
    import torch
    from unsloth.kernels.fast_lora import LoRA_QKV

    layers = [_lora(here, 32, 48), _lora(here, 32, 48), _lora(here, 32, 24)]
    mine, own = _sides(here.random(2, 5, 32), layers)
    plain = [_outputs(layers, mine, place, mine[0]) for place in range(3)]
    slopes = [here.random(*one.shape) for one in plain]
    torch.autograd.backward(plain, [slope.float() for slope in slopes])
    found = LoRA_QKV.apply(own[0] * 1, *_words(layers, own), True)
    torch.autograd.backward(list(found), [slope.clone() for slope in slopes])
    here.note("lora_qkv", (*found, *[one.grad for one in own]), (*plain, *[one.grad for one in mine]))


def _lora_w(here: Comparison) -> None:
    from unsloth.kernels.fast_lora import LoRA_W

    layers, slope = [_lora(here, 32, 24)], here.random(2, 5, 24)
    mine, own = _sides(here.random(2, 5, 32), layers)
    plain = _outputs(layers, mine, 0, mine[0])
    plain.backward(slope.float())  # type: ignore[no-untyped-call]
    found = LoRA_W.apply(own[0] * 1, *_words(layers, own))
    found.backward(slope.clone())
    here.note("lora_w", (found, *[one.grad for one in own]), (plain, *[one.grad for one in mine]))
