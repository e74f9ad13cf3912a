"""Architecture: the sizes of a decoder, from its config.json or from a model recipe; enough to count every
byte without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from doitune.base.families import FAMILIES, Family, decoder_part
from doitune.errors import ModelError

LARGEST_SIZE = 10**9
"""No size of a model that can be had is larger; a config.json may hold any number."""


@dataclass(frozen=True)
class Architecture:
    """A gated decoder of a known family. Widths in elements; `key_value` is the width of keys and values
    (key-value heads times head size), `query` of queries. Biases: of q, k and v; of o; of the feed-forward.
    `beside`: weights of what is loaded with it and takes no part in text (Gemma 3's eyes), in no other count.
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
    output_bias: bool = False
    mlp_bias: bool = False
    beside: int = 0

    @property
    def family(self) -> Family:
        """Its entry in the table."""
        return FAMILIES[self.model_type]

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.query // self.heads

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of each linear layer of a block, by its name in the weights."""
        return {
            one.name: (sum(getattr(self, width) for width in one.outputs), getattr(self, one.inputs))
            for one in self.family.linears
        }

    @property
    def linear_parameters(self) -> int:
        """Weights of all blocks' linear layers: what is kept in 4 bits."""
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
        heads = self.layers * 2 * self.head_size if self.family.head_norms else 0
        return (self.family.norms * self.layers + 1) * self.hidden + biases + heads

    @property
    def parameters(self) -> int:
        """All weights: linear layers, embedding, head, norms, biases."""
        return self.linear_parameters + self.matrix_parameters + self.small_parameters


def read_architecture(config: Mapping[str, Any], place: str) -> Architecture:
    """The architecture that a config.json states; `place` names the file. ModelError where a size is
    missing or cannot be, or the family is not in the table."""
    model_type = str(config.get("model_type", ""))
    family = FAMILIES.get(model_type)
    if family is None:
        raise ModelError(
            f"{place}: the memory plan does not know blocks of model_type {model_type!r}",
            f"it knows {', '.join(FAMILIES)}; `doitune plan --backend hf` simulates any "
            "that transformers has, and `doitune train` tries its largest step before the first one in any "
            "case",
        )
    names, config = family.names, {**family.unsaid, **decoder_part(config)}
    heads = _size(config, names.heads, place)
    hidden = _size(config, names.hidden, place)
    head_size = _size(config, names.head_size, place, hidden // heads)
    key_value_heads = _size(config, names.key_value_heads, place, heads)
    if not head_size or heads % key_value_heads:
        raise ModelError(
            f"{place}: {heads} heads with {key_value_heads} for keys and values cannot share "
            f"a width of {hidden}",
            "copy the model's config.json again",
        )
    return Architecture(
        model_type=model_type,
        hidden=hidden,
        intermediate=_size(config, names.intermediate, place),
        layers=_size(config, names.layers, place),
        query=heads * head_size,
        key_value=key_value_heads * head_size,
        vocabulary=_size(config, names.vocabulary, place),
        heads=heads,
        tied=_switch(config, names.tied, place),
        attention_bias=_switch(config, family.attention_bias, place),
        output_bias=_switch(config, family.output_bias, place),
        mlp_bias=_switch(config, family.mlp_bias, place),
        beside=_eyes(config, hidden) if isinstance(config.get("vision_config"), Mapping) else 0,
    )


def _eyes(config: Mapping[str, Any], hidden: int) -> int:
    """Weights of a SigLIP tower and of what brings its output to a width of `hidden`, by the sizes that a
    config.json states, else by transformers' defaults. Source: transformers' siglip and gemma3."""
    unsaid = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_channels": 3}
    said = {**unsaid, "image_size": 224, "patch_size": 16, **config["vision_config"]}
    place = "vision_config"
    width, inner, layers = (
        _size(said, key, place) for key in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    patch, image, channels = (_size(said, key, place) for key in ("patch_size", "image_size", "num_channels"))
    block = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    ends = width * (channels * patch * patch + 1) + (image // patch) ** 2 * width + 2 * width
    return layers * block + ends + width * hidden + width


def config_of(architecture: Architecture) -> dict[str, Any]:
    """A config.json with these sizes, of the family whose code in transformers computes these blocks."""
    model_type = architecture.family.same_blocks or architecture.model_type
    family = FAMILIES[model_type]
    key_value_heads = architecture.key_value // architecture.head_size
    sizes = {name: getattr(architecture, name) for name in ("hidden", "intermediate", "layers", "heads")}
    sizes |= {name: getattr(architecture, name) for name in ("head_size", "vocabulary", "tied")}
    switches = {
        key: getattr(architecture, name)
        for name in ("attention_bias", "output_bias", "mlp_bias")
        if isinstance(key := getattr(family, name), str)
    }
    return {
        "model_type": model_type,
        "pad_token_id": None,  # some families' default is beyond a small vocabulary
        **family.names.config({**sizes, "key_value_heads": key_value_heads}),
        **switches,
    }


def _size(config: Mapping[str, Any], key: str, place: str, unsaid: int | None = None) -> int:
    """A whole number of a config; `unsaid` is taken where the key is absent or null."""
    value = config.get(key)
    if value is None and unsaid is not None:
        return unsaid
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_SIZE:
        raise ModelError(
            f"{place}: {key} is {repr(value)[:40]}, not a whole number from 1 to {LARGEST_SIZE:,}",
            "copy the model's config.json again",
        )
    return value


def _switch(config: Mapping[str, Any], key: str | bool, place: str) -> bool:
    """A switch of a config, off where it is absent or null; `key` True or False: none asks the config."""
    if isinstance(key, bool):
        return key
    value = config.get(key, False)
    if value is not None and not isinstance(value, bool):
        raise ModelError(
            f"{place}: {key} is {repr(value)[:40]}, neither true nor false",
            "copy the model's config.json again",
        )
    return bool(value)
