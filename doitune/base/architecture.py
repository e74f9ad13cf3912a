"""Architecture: the sizes of a decoder, from its config.json or from a model recipe; enough to count every
byte without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doitune.errors import ModelError

GATED = ("llama", "mistral", "qwen2", "qwen3", "yi", "baichuan")
"""Model types whose block is q, k, v, o and a gated feed-forward (gate, up, down) between two norms: all
that the memory plan knows."""

LARGEST_SIZE = 10**9
"""No size of a model that can be had is larger; a config.json may hold any number."""

UNSAID = {
    "mistral": {"num_key_value_heads": 8},
    "qwen2": {"num_key_value_heads": 32},
    "qwen3": {"num_key_value_heads": 32, "head_dim": 128},
}
"""What transformers takes where a config.json of that kind leaves a size out; for the others as many
key-value heads as heads."""


@dataclass(frozen=True)
class Architecture:
    """A gated decoder. Widths in elements; `key_value` is the width of keys and values (key-value heads times
    head size), `query` of queries.

    `head_norms`: every head's query and key is normalised (qwen3). Biases: of q, k and v; of o; of the
    feed-forward's three layers.
    """

    model_type: str
    hidden: int
    intermediate: int
    layers: int
    query: int
    key_value: int
    vocabulary: int
    heads: int
    tied: bool = False
    attention_bias: bool = False
    head_norms: bool = False
    output_bias: bool = False
    mlp_bias: bool = False

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of each linear layer of a block, by its name in the weights. Baichuan's W_pack
        is query, key and value in one."""
        split = {
            "q_proj": (self.query, self.hidden),
            "k_proj": (self.key_value, self.hidden),
            "v_proj": (self.key_value, self.hidden),
        }
        return {
            **(
                split
                if self.model_type != "baichuan"
                else {"W_pack": (self.query + 2 * self.key_value, self.hidden)}
            ),
            "o_proj": (self.hidden, self.query),
            "gate_proj": (self.intermediate, self.hidden),
            "up_proj": (self.intermediate, self.hidden),
            "down_proj": (self.hidden, self.intermediate),
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of all blocks' linear layers: what is held in 4 bits."""
        return self.layers * sum(outputs * inputs for outputs, inputs in self.linears.values())

    @property
    def matrix_parameters(self) -> int:
        """Weights of the embedding and the head."""
        return (1 if self.tied else 2) * self.vocabulary * self.hidden

    @property
    def small_parameters(self) -> int:
        """Weights of norms and biases."""
        of_block = (self.query + 2 * self.key_value) * self.attention_bias + self.hidden * self.output_bias
        biases = self.layers * (of_block + (2 * self.intermediate + self.hidden) * self.mlp_bias)
        heads = self.layers * 2 * (self.query // self.heads) if self.head_norms else 0
        return (2 * self.layers + 1) * self.hidden + biases + heads

    @property
    def parameters(self) -> int:
        """All weights: linear layers, embedding, head, norms, biases."""
        return self.linear_parameters + self.matrix_parameters + self.small_parameters


def read_architecture(config: Mapping[str, Any], place: str) -> Architecture:
    """The architecture that a config.json states; `place` names the file. ModelError where a size is
    missing or cannot be, or the block is of another kind."""
    model_type = str(config.get("model_type", ""))
    if model_type not in GATED:
        known = ", ".join(GATED)
        cure = f"it knows {known}; `doitune plan --simulate --backend hf` runs the code of any that transformers has, and `doitune train` tries its "
        cure += "largest step before the first one in any case"
        raise ModelError(f"{place}: the memory plan does not know blocks of model_type {model_type!r}", cure)
    config = {**UNSAID.get(model_type, {}), **config}
    heads = _size(config, "num_attention_heads", place)
    hidden = _size(config, "hidden_size", place)
    head_size = _size(config, "head_dim", place) if config.get("head_dim") is not None else hidden // heads
    key_value_heads = (
        _size(config, "num_key_value_heads", place)
        if config.get("num_key_value_heads") is not None
        else heads
    )
    if not head_size or heads % key_value_heads:
        problem = f"{place}: {heads} heads with {key_value_heads} for keys and values cannot share a width of {hidden}"
        raise ModelError(problem, "copy the model's config.json again")
    biased = _switch(config, "attention_bias", place) and model_type in (
        "llama",
        "qwen3",
    )  # the others' code has no such switch
    return Architecture(
        model_type=model_type,
        hidden=hidden,
        intermediate=_size(config, "intermediate_size", place),
        layers=_size(config, "num_hidden_layers", place),
        query=heads * head_size,
        key_value=key_value_heads * head_size,
        vocabulary=_size(config, "vocab_size", place),
        heads=heads,
        tied=_switch(config, "tie_word_embeddings", place),
        attention_bias=biased or model_type == "qwen2",
        head_norms=model_type == "qwen3",
        output_bias=biased,
        mlp_bias=model_type == "llama" and _switch(config, "mlp_bias", place),
    )


def config_of(architecture: Architecture) -> dict[str, Any]:
    """A config.json with these sizes: qwen3 where heads have norms, qwen2 where q, k and v alone have
    biases, else llama."""
    size = architecture.query // architecture.heads
    alone = architecture.attention_bias and not architecture.output_bias
    return {
        "model_type": "qwen3" if architecture.head_norms else "qwen2" if alone else "llama",
        "hidden_size": architecture.hidden,
        "intermediate_size": architecture.intermediate,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.key_value // size,
        "head_dim": size,
        "vocab_size": architecture.vocabulary,
        "tie_word_embeddings": architecture.tied,
        "attention_bias": architecture.output_bias,
        "mlp_bias": architecture.mlp_bias,
    }


def _size(config: Mapping[str, Any], key: str, place: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIZE:
        raise ModelError(
            f"{place}: {key} is {repr(value)[:40]}, not a whole number from 1 to {LARGEST_SIZE:,}",
            "copy the model's config.json again",
        )
    return value


def _switch(config: Mapping[str, Any], key: str, place: str) -> bool:
    value = config.get(key, False)
    if value is not None and not isinstance(value, bool):
        raise ModelError(
            f"{place}: {key} is {repr(value)[:40]}, neither true nor false",
            "copy the model's config.json again",
        )
    return bool(value)
