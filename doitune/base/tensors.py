"""The tensors of a base in LLaMA's layout, by name and shape: what `base make` writes, and what the bases of
random weights consist of."""

from __future__ import annotations

from doitune.base.architecture import Architecture

EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
BIASED = ("query", "key_value")
"""Widths of the outputs that a bias of q, k and v belongs to."""


def expected_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor by its name, embedding first, then block by block; biases of q, k and v alone."""
    hidden, vocabulary = architecture.hidden, architecture.vocabulary
    found: dict[str, tuple[int, ...]] = {EMBEDDING: (vocabulary, hidden)}
    for layer in range(architecture.layers):
        block = f"model.layers.{layer}"
        found[f"{block}.input_layernorm.weight"] = (hidden,)
        for one in architecture.family.linears:
            shape = architecture.linears[one.name]
            found[f"{block}.{one.part}.{one.name}.weight"] = shape
            if architecture.attention_bias and set(one.outputs) <= set(BIASED):
                found[f"{block}.{one.part}.{one.name}.bias"] = shape[:1]
        if architecture.family.head_norms:
            head = (architecture.head_size,)
            found |= {f"{block}.self_attn.{name}_norm.weight": head for name in ("q", "k")}
        found[f"{block}.post_attention_layernorm.weight"] = (hidden,)
    found[NORM] = (hidden,)
    return found if architecture.tied else {**found, HEAD: (vocabulary, hidden)}


def is_linear(name: str, architecture: Architecture) -> bool:
    """Whether a tensor is the matrix of a block's linear layer."""
    parts = name.split(".")
    return parts[-1] == "weight" and parts[-2] in architecture.linears
