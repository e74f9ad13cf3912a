"""Unsloth's kernels against plain torch, forward and backward. Prints one JSON object: the largest absolute difference of each."""

from __future__ import annotations

import json

import on_cpu  # noqa: F401
import torch
from unsloth.kernels.cross_entropy_loss import fast_cross_entropy_loss
from unsloth.kernels.fast_lora import LoRA_MLP, LoRA_QKV, LoRA_W
from unsloth.kernels.rms_layernorm import fast_rms_layernorm
from unsloth.kernels.rope_embedding import fast_rope_embedding
from unsloth.kernels.swiglu import swiglu_DWf_DW_dfg_kernel, swiglu_fg_kernel

FOUND = {}


def compare(name, ours, theirs):
    """`ours`, `theirs`: pairs of equal length; every one must hold something."""
    assert len(ours) == len(theirs) and all(float(one.abs().max()) > 0 for one in theirs), name
    FOUND[name] = max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True))


def leaves(*tensors):
    return [tensor.clone().requires_grad_(True) for tensor in tensors]


def rms_norm():
    torch.manual_seed(0)
    hidden, weight, slope = torch.randn(2, 5, 64), torch.rand(64) + 0.5, torch.randn(2, 5, 64)

    class Norm:
        variance_epsilon = 1e-6

    Norm.weight = weight
    (mine,), (own,) = leaves(hidden), leaves(hidden)
    plain = mine * torch.rsqrt(mine.pow(2).mean(-1, keepdim=True) + 1e-6) * weight
    plain.backward(slope)
    found = fast_rms_layernorm(Norm, own)
    found.backward(slope.clone())
    compare("rms_norm", (found, own.grad), (plain, mine.grad))


def swiglu():
    torch.manual_seed(1)
    gate, up, slope = torch.randn(6, 32), torch.randn(6, 32), torch.randn(6, 32)
    mine = leaves(gate, up)
    plain = torch.nn.functional.silu(mine[0]) * mine[1]
    plain.backward(slope)
    found = swiglu_fg_kernel(gate[None].clone(), up[None].clone())[0]
    product, to_up, to_gate = swiglu_DWf_DW_dfg_kernel(slope.clone(), gate.clone(), up.clone())
    compare("swiglu", (found, product, to_gate, to_up), (plain, plain, mine[0].grad, mine[1].grad))


def rope(name, positions):
    torch.manual_seed(2)
    query, key = torch.randn(2, 4, 6, 16), torch.randn(2, 2, 6, 16)
    angles = torch.outer(torch.arange(32.0), 1.0 / 10000 ** (torch.arange(0, 16, 2) / 16))
    cos, sin = (torch.cat([turn, turn], -1) for turn in (angles.cos(), angles.sin()))
    places = torch.arange(6)[None].expand(2, -1) if positions is None else positions

    def turned(values):
        half = values.shape[-1] // 2
        return values * cos[places][:, None] + torch.cat([-values[..., half:], values[..., :half]], -1) * sin[places][:, None]

    mine, own = leaves(query, key), leaves(query, key)
    plain = [turned(one) for one in mine]
    slopes = [torch.randn_like(one) for one in plain]
    torch.autograd.backward(plain, slopes)
    found = fast_rope_embedding(own[0] * 1, own[1] * 1, cos, sin, positions)
    torch.autograd.backward(found, [slope.clone() for slope in slopes])
    compare(name, (*found, own[0].grad, own[1].grad), (*plain, mine[0].grad, mine[1].grad))


def cross_entropy(name, vocabulary):
    torch.manual_seed(3)
    logits = torch.randn(1, 4, vocabulary)
    labels = torch.tensor([[5, -100, vocabulary - 1, 0]])
    (mine,), (own,) = leaves(logits), leaves(logits)
    plain = torch.nn.functional.cross_entropy(mine[0], labels[0], ignore_index=-100)
    plain.backward()
    found = fast_cross_entropy_loss(own * 1, labels)
    found.backward()
    compare(name, (found, own.grad), (plain, mine.grad))


def lora(width, out):
    """A frozen matrix [out, width] and LoRA's A [4, width], B [out, 4]."""
    return torch.randn(out, width) / width**0.5, torch.randn(4, width) / width**0.5, torch.randn(out, 4) / 2


def adapted(hidden, weight, down, up, scale=0.5):
    return hidden @ weight.T + hidden @ down.T @ up.T * scale


def lora_layers():
    torch.manual_seed(4)
    hidden, layers = torch.randn(2, 5, 32), [lora(32, 48), lora(32, 48), lora(48, 32)]
    slope = torch.randn(2, 5, 32)
    mine, own = ([leaves(hidden)[0], *[leaf for _, down, up in layers for leaf in leaves(down, up)]] for _ in range(2))

    def words(values, chosen):
        return [part for place in chosen for part in (layers[place][0], None, values[1 + 2 * place], values[2 + 2 * place], 0.5)]

    def parts(values, place):
        return layers[place][0], values[1 + 2 * place], values[2 + 2 * place]

    gate, up = adapted(mine[0], *parts(mine, 0)), adapted(mine[0], *parts(mine, 1))
    plain = adapted(torch.nn.functional.silu(gate) * up, *parts(mine, 2))
    plain.backward(slope)
    found = LoRA_MLP.apply(own[0] * 1, *words(own, (0, 1, 2)), swiglu_fg_kernel, swiglu_DWf_DW_dfg_kernel, True)
    found.backward(slope.clone())
    compare("lora_mlp", (found, *[one.grad for one in own]), (plain, *[one.grad for one in mine]))

    layers[2] = lora(32, 24)
    mine, own = ([leaves(hidden)[0], *[leaf for _, down, up in layers for leaf in leaves(down, up)]] for _ in range(2))
    plain = [adapted(mine[0], *parts(mine, place)) for place in range(3)]
    slopes = [torch.randn_like(one) for one in plain]
    torch.autograd.backward(plain, slopes)
    found = LoRA_QKV.apply(own[0] * 1, *words(own, (0, 1, 2)), True)
    torch.autograd.backward(list(found), [slope.clone() for slope in slopes])
    compare("lora_qkv", (*found, *[one.grad for one in own]), (*plain, *[one.grad for one in mine]))

    mine, own = ([*leaves(hidden), *leaves(*layers[2][1:])] for _ in range(2))
    plain = adapted(mine[0], layers[2][0], mine[1], mine[2])
    slope = torch.randn_like(plain)
    plain.backward(slope)
    found = LoRA_W.apply(own[0] * 1, layers[2][0], None, own[1], own[2], 0.5)
    found.backward(slope.clone())
    compare("lora_w", (found, *[one.grad for one in own]), (plain, *[one.grad for one in mine]))


rms_norm()
swiglu()
rope("rope", None)
rope("rope_with_positions", torch.tensor([[0, 1, 2, 0, 1, 2], [5, 6, 7, 8, 9, 10]], dtype=torch.int32))
cross_entropy("cross_entropy", 4096)
cross_entropy("cross_entropy_in_pieces", 100_000)
lora_layers()
print(json.dumps(FOUND))
