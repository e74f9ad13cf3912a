"""The table of model families: what a config.json of each states and under which names, the form of its
block, which engines compute it, and how it is assembled.

A new family is one entry of FAMILIES and one row of tests/test_base_families.py: the memory plan, the
backends, `doitune base` and the estimates of time ask this table and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Names:
    """The name under which a config.json states each size; `positions` is the longest context."""

    hidden: str = "hidden_size"
    intermediate: str = "intermediate_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    key_value_heads: str = "num_key_value_heads"
    head_size: str = "head_dim"
    vocabulary: str = "vocab_size"
    tied: str = "tie_word_embeddings"
    positions: str = "max_position_embeddings"

    def config(self, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """Sizes by their nouns, as a config.json states them."""
        return {name: sizes[noun] for noun, name in asdict(self).items() if noun in sizes}


@dataclass(frozen=True)
class Linear:
    """A linear layer of a block. `part`: the module of the block that it lies in. Widths are named after
    Architecture's (hidden, intermediate, query, key_value); several outputs lie one behind the other."""

    name: str
    part: str
    inputs: str
    outputs: tuple[str, ...]


_OUTPUT = Linear("o_proj", "self_attn", "query", ("hidden",))
_ATTENTION = (
    Linear("q_proj", "self_attn", "hidden", ("query",)),
    Linear("k_proj", "self_attn", "hidden", ("key_value",)),
    Linear("v_proj", "self_attn", "hidden", ("key_value",)),
    _OUTPUT,
)
_DOWN = Linear("down_proj", "mlp", "intermediate", ("hidden",))
_FEED_FORWARD = (
    Linear("gate_proj", "mlp", "hidden", ("intermediate",)),
    Linear("up_proj", "mlp", "hidden", ("intermediate",)),
    _DOWN,
)
_FUSED_FEED_FORWARD = (Linear("gate_up_proj", "mlp", "hidden", ("intermediate", "intermediate")), _DOWN)
_QKV = ("query", "key_value", "key_value")

SEPARATE = (*_ATTENTION, *_FEED_FORWARD)
"""Queries, keys and values by a layer each, gate and up too, as in LLaMA."""
PACKED = (Linear("W_pack", "self_attn", "hidden", _QKV), _OUTPUT, *_FEED_FORWARD)
"""Queries, keys and values by one layer, as in Baichuan."""
FUSED = (Linear("qkv_proj", "self_attn", "hidden", _QKV), _OUTPUT, *_FUSED_FEED_FORWARD)
"""Queries, keys and values by one layer, gate and up by another, as in Phi-3."""
GATE_AND_UP = (*_ATTENTION, *_FUSED_FEED_FORWARD)
"""Gate and up alone by one layer, as in GLM-4."""


@dataclass(frozen=True)
class Family:
    """One kind of gated decoder: attention and a gated feed-forward between two norms.

    `model_class`: its class in transformers; or `same_blocks`: the family whose code computes the same
    blocks, which simulations then run. `unsaid`: what transformers takes where a config.json leaves a key
    out (for key-value heads, without an entry: as many as heads). Biases (of q, k and v; of o; of the
    feed-forward): always, never, or the key that switches them. `head_norms`: every head's query and key is
    normalised. `norms`: of hidden width in a block. `fp32_norms`: a norm scales its output before it is
    rounded, so that it keeps fp32 copies (Gemma's). `capped_scores`: attention is made head by head, as its
    scores end in a tanh. `unsloth`: Unsloth computes it by kernels of its own, called as `backends/` calls
    them. `assembled`: `doitune base make` knows the names of its tensors. `language_loras`: what makes a
    known base of the published one, by the model recipe's name. `tokens_a_character`: of mostly Chinese text,
    about, for estimates.
    """

    model_class: str = ""
    same_blocks: str = ""

    names: Names = Names()
    linears: tuple[Linear, ...] = SEPARATE
    unsaid: Mapping[str, Any] = field(default_factory=dict)
    attention_bias: bool | str = False
    output_bias: bool | str = False
    mlp_bias: bool | str = False
    head_norms: bool = False
    norms: int = 2
    fp32_norms: bool = False
    capped_scores: bool = False
    unsloth: bool = False
    assembled: bool = False
    language_loras: Mapping[str, str] = field(default_factory=dict)
    tokens_a_character: float = 1.0

    @property
    def packs_values(self) -> bool:
        """Whether queries, keys and values are made by one layer."""
        return any(one.outputs == _QKV for one in self.linears)

    @property
    def fuses_gate(self) -> bool:
        """Whether gate and up are made by one layer."""
        return any(one.outputs.count("intermediate") == 2 for one in self.linears)


_GEMMA = Family(
    model_class="Gemma2ForCausalLM",
    unsaid={
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 256_000,
        "tie_word_embeddings": True,
    },
    attention_bias="attention_bias",
    output_bias="attention_bias",
    norms=4,
    fp32_norms=True,
    tokens_a_character=0.7,
)

FAMILIES: dict[str, Family] = {
    "llama": Family(
        model_class="LlamaForCausalLM",
        attention_bias="attention_bias",
        output_bias="attention_bias",
        mlp_bias="mlp_bias",
        unsloth=True,
        assembled=True,
        language_loras={
            "7b": "hfl/chinese-llama-plus-lora-7b",
            "13b": "hfl/chinese-llama-plus-lora-13b",
            "33b": "hfl/chinese-llama-plus-lora-33b",
        },
        tokens_a_character=0.75,  # with the vocabulary of Chinese-LLaMA
    ),
    "mistral": Family(
        model_class="MistralForCausalLM", unsaid={"num_key_value_heads": 8}, unsloth=True, assembled=True
    ),
    "qwen2": Family(
        model_class="Qwen2ForCausalLM",
        unsaid={"num_key_value_heads": 32},
        attention_bias=True,
        unsloth=True,
        assembled=True,
        tokens_a_character=0.65,
    ),
    "qwen3": Family(
        model_class="Qwen3ForCausalLM",
        unsaid={"num_key_value_heads": 32, "head_dim": 128},
        attention_bias="attention_bias",
        output_bias="attention_bias",
        head_norms=True,
        unsloth=True,
        assembled=True,
        tokens_a_character=0.65,
    ),
    "gemma2": replace(_GEMMA, capped_scores=True),
    "gemma3_text": replace(
        _GEMMA,
        model_class="Gemma3ForCausalLM",
        unsaid={**_GEMMA.unsaid, "vocab_size": 262_208},
        head_norms=True,
    ),
    "gemma3": replace(
        _GEMMA,
        model_class="",
        same_blocks="gemma3_text",
        unsaid={**_GEMMA.unsaid, "vocab_size": 262_208},
        head_norms=True,
    ),
    "phi3": Family(model_class="Phi3ForCausalLM", linears=FUSED),
    "glm": Family(
        model_class="GlmForCausalLM",
        linears=GATE_AND_UP,
        unsaid={"num_key_value_heads": 2, "head_dim": 128, "attention_bias": True},
        attention_bias="attention_bias",
        tokens_a_character=0.65,
    ),
    "glm4": Family(
        model_class="Glm4ForCausalLM",
        linears=GATE_AND_UP,
        unsaid={"num_key_value_heads": 2, "head_dim": 128, "attention_bias": True},
        attention_bias="attention_bias",
        norms=4,
        tokens_a_character=0.65,
    ),
    "yi": Family(same_blocks="llama"),
    "baichuan": Family(linears=PACKED, same_blocks="llama", tokens_a_character=0.65),
}
"""Every family that the closed form of the memory plan knows, by the model_type of its config.json."""


def stated(config: Mapping[str, Any], size: str) -> Any:
    """What a config.json states for a size (a noun of Names), unchecked: by its family's name for it, by the
    usual one where the family is not known; None where it is left out."""
    return decoder_part(config).get(getattr(names_of(str(config.get("model_type", ""))), size))


def names_of(model_type: str) -> Names:
    """The names of a family's sizes; the usual ones where it is not known."""
    return FAMILIES[model_type].names if model_type in FAMILIES else Names()


def decoder_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with the keys of its language model at the top: models of more than text keep them
    under `text_config`."""
    inner = config.get("text_config")
    inner = inner if isinstance(inner, Mapping) else {}
    return {**config, **{name: value for name, value in inner.items() if name != "model_type"}}


def with_sizes(config: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with these sizes (by the nouns of Names), where it keeps those of its language model."""
    named = names_of(str(config.get("model_type", ""))).config(sizes)
    inner = config.get("text_config")
    return (
        {**config, "text_config": {**inner, **named}} if isinstance(inner, Mapping) else {**config, **named}
    )


def families(engine: str) -> tuple[str, ...]:
    """The families that `engine` (a field of Family: `unsloth`, `assembled`) serves."""
    return tuple(name for name, family in FAMILIES.items() if getattr(family, engine))
