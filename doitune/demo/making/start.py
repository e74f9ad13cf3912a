"""The weights that pre-training starts from: a seeded draw in which some attention heads already look where
list-reading needs them.

A model this small would spend most of its half hour only to find out that the word before, or the label three
tokens back ("A", ".", " ", "森林"), is worth looking at, and that an entry named again is worth finding.
Starting heads near such patterns is known as mimetic initialisation (Trockman and Kolter 2023, arXiv
2305.09828); training is free to change them.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaForCausalLM

LOOK_BACK_TOKENS = (1, 2, 3)
"""How far the first heads of the first layer look back at the start."""
SHARPNESS = 20.0
"""Attention score of a look-back head at its distance, before softmax."""
EMBEDDING_SCALE = 0.08
"""Standard deviation of an embedding's entries, and the size of the part that all embeddings share."""
PASSED_ON = 0.25
"""Output scale of the heads that look up a label and pass it on."""
LIKENESS = 0.20
"""Standard deviation of the shared query and key weights of heads that find the same word again."""


@torch.no_grad()
def head_start(model: LlamaForCausalLM, generator: torch.Generator) -> None:
    """Overwrite embeddings and attention: look-back heads in the first layer, finding-again heads in the
    two after it."""
    config: Any = model.config
    shared = EMBEDDING_SCALE * torch.ones(config.hidden_size)
    embedding: Any = model.get_input_embeddings().weight
    embedding.copy_(shared + EMBEDDING_SCALE * torch.randn(embedding.shape, generator=generator))
    label = torch.linalg.qr(torch.randn(config.hidden_size, config.head_dim, generator=generator)).Q
    layers: Any = model.model.layers
    for number, layer in enumerate(layers):
        attention: Any = layer.self_attn
        _copying(attention, config.num_attention_heads, generator)
        if number < 3:
            _pass_on(attention, (2,) if number == 0 else (0, 1), label)
        if number == 0:
            for head, tokens in enumerate(LOOK_BACK_TOKENS):
                _look_back(attention, head, tokens, config.rope_parameters["rope_theta"])
        elif number < 3:
            for head in range(2):
                _find_again(attention, head, label, generator)


def _copying(attention: Any, heads: int, generator: torch.Generator) -> None:
    """Each head writes what it reads: output weights are the transposed value weights, whose rows are
    orthonormal in a head."""
    value, output = attention.v_proj.weight, attention.o_proj.weight
    size = value.shape[0] // heads
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        basis = torch.linalg.qr(torch.randn(value.shape[1], size, generator=generator)).Q
        value[rows] = basis.T
        output[:, rows] = EMBEDDING_SCALE * basis


def _pass_on(attention: Any, heads: tuple[int, ...], basis: torch.Tensor) -> None:
    """Let these heads read and write one common subspace, `basis` [width, head size]: what one of them
    writes the next passes on."""
    size = attention.head_dim
    for head in heads:
        rows = slice(head * size, (head + 1) * size)
        attention.v_proj.weight[rows] = basis.T
        attention.o_proj.weight[:, rows] = PASSED_ON * basis


def _look_back(attention: Any, head: int, tokens: int, theta: float) -> None:
    """Queries and keys from the shared part of the embeddings only, keys turned ahead by `tokens` in the
    three fastest rotary pairs."""
    size, width = attention.head_dim, attention.q_proj.weight.shape[1]
    query, key = torch.zeros(size, width), torch.zeros(size, width)
    direction = torch.ones(width) / width**0.5
    strength = (SHARPNESS * size**0.5 / 3 / (width / 2)) ** 0.5
    for pair in range(3):
        turn = torch.tensor(tokens * theta ** (-2 * pair / size))
        query[pair] = strength * direction
        key[pair] = strength * turn.cos() * direction
        key[pair + size // 2] = strength * turn.sin() * direction
    attention.q_proj.weight[head * size : (head + 1) * size] = query
    attention.k_proj.weight[head * size : (head + 1) * size] = key


def _find_again(attention: Any, head: int, label: torch.Tensor, generator: torch.Generator) -> None:
    """The same weights for queries and keys, in the slow rotary pairs only, blind to labels and to the
    shared part of the embeddings."""
    size, width = attention.head_dim, attention.q_proj.weight.shape[1]
    alike = LIKENESS * torch.randn(size, width, generator=generator)
    alike -= alike @ label @ label.T
    alike -= alike.mean(dim=1, keepdim=True)
    fast = size // 5
    alike[:fast], alike[size // 2 : size // 2 + fast] = 0.0, 0.0
    rows = slice(head * size, (head + 1) * size)
    attention.q_proj.weight[rows] = alike
    attention.k_proj.weight[rows] = alike
