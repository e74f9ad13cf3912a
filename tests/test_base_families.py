"""The table of model families: a row for each, read from a tiny config.json and compared with the model that
transformers builds of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from doitune.base.architecture import config_of, read_architecture
from doitune.base.families import FAMILIES, stated
from doitune.base.tensors import expected_shapes
from doitune.memory.setting import Setting
from doitune.memory.shape import find_shape
from doitune.memory.terms import count
from doitune.recipe.resolve import resolve

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 101,
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "llama": [{}, {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2}, {"head_dim": 32}],
    "mistral": [
        {"tie_word_embeddings": True, "num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"num_attention_heads": 16},
    ],
    "qwen2": [
        {"num_key_value_heads": 2},
        {"attention_bias": False, "num_key_value_heads": 4},
        {"num_attention_heads": 32},
    ],
    "qwen3": [
        {"head_dim": 32, "num_key_value_heads": 4},
        {"attention_bias": True, "num_key_value_heads": 2},
        {"num_attention_heads": 32},
    ],
    "gemma2": [
        {"head_dim": 32, "num_key_value_heads": 2},
        {"tie_word_embeddings": False, "attention_bias": True, "num_key_value_heads": 4, "head_dim": 16},
        {"num_attention_heads": 8, "vocab_size": 103},
    ],
    "gemma3_text": [{"head_dim": 32, "num_key_value_heads": 2}, {"attention_bias": True}],
    "gemma3": [{"head_dim": 32, "num_key_value_heads": 2}],
    "phi3": [{"num_key_value_heads": 2}, {"tie_word_embeddings": True}],
    "glm": [{"num_key_value_heads": 4, "head_dim": 32}, {"attention_bias": False}],
    "glm4": [{"num_key_value_heads": 4, "head_dim": 32}, {"attention_bias": False}],
    "yi": [{"num_key_value_heads": 2}],
    "baichuan": [{}],
}
"""Configs of each family beside SIZES: its switches on and off, heads wider than hidden / heads, and what it
leaves out."""


def test_every_family_has_a_row() -> None:
    assert FAMILIES and ROWS.keys() == FAMILIES.keys()
    for name, family in FAMILIES.items():
        assert bool(family.model_class) != bool(family.same_blocks), name
        assert family.same_blocks in ("", *FAMILIES), name
        assert not FAMILIES[family.same_blocks or name].same_blocks, (
            f"{name}: stands for one that stands for another"
        )


@pytest.mark.parametrize(("kind", "more"), [(kind, more) for kind, rows in ROWS.items() for more in rows])
def test_a_family_is_read_and_counted_as_transformers_builds_it(kind: str, more: dict[str, Any]) -> None:
    """Traps: biases that a switch gives and a switch that is none, head norms, a shared matrix, sizes that are left
    out; a plan that counts another model than the one that is trained."""
    config = {**SIZES, **more, "model_type": kind}
    found = read_architecture(config, "x")
    model = _built(config_of(found) if found.family.same_blocks else config)
    parameters = dict(model.named_parameters())
    total = sum(one.numel() for one in parameters.values())
    assert found.parameters == total
    terms = {term.name: term.nominal for term in count(Setting(found, quantise="none"))}
    assert terms["weights"] + terms["embeddings"] + terms["norms"] == 2 * total
    again = read_architecture(config_of(found), "x")
    assert again.parameters == total and again.query == found.query and again.key_value == found.key_value
    if found.family.assembled and not (found.output_bias or found.mlp_bias):
        assert expected_shapes(found) == {name: tuple(one.shape) for name, one in parameters.items()}


@pytest.mark.parametrize("kind", [kind for kind, family in FAMILIES.items() if not family.same_blocks])
def test_an_adapter_goes_to_the_layers_that_the_table_names(kind: str) -> None:
    """Trap: a plan that counts adapters on other layers than the backend puts them on."""
    import torch

    found = read_architecture({**SIZES, **ROWS[kind][0], "model_type": kind}, "x")
    model = _built(config_of(found))
    assert type(model).__name__ == found.family.model_class
    block = model.get_decoder().layers[0]
    layers = {
        name: (one.out_features, one.in_features)
        for name, one in block.named_modules()
        if isinstance(one, torch.nn.Linear)
    }
    assert layers == {f"{one.part}.{one.name}": found.linears[one.name] for one in found.family.linears}


def test_eyes_are_counted_beside_the_text() -> None:
    """Trap: a plan that leaves out what is loaded and never trained. The published files of Gemma 3 hold as
    many weights as its recipes say."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14, "vision_use_head": False}
    text = {
        **SIZES,
        "head_dim": 16,
        "num_key_value_heads": 2,
        "model_type": "gemma3_text",
        "pad_token_id": None,
    }
    config = {"model_type": "gemma3", "text_config": text, "vision_config": vision}
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**config))
    found = read_architecture(config, "x")
    assert (
        found.parameters + found.beside == sum(one.numel() for one in model.parameters()) > found.parameters
    )
    published = {"gemma-3-4b": 4_300_079_472, "gemma-3-12b": 12_187_325_040}
    for name, total in published.items():
        shape = find_shape(resolve("baseline", model=name).recipe.model).architecture
        assert shape.parameters + shape.beside == total
        own, without = (count(Setting(one, backend="hf")) for one in (shape, replace(shape, beside=0)))
        more = sum(term.nominal for term in own) - sum(term.nominal for term in without)
        assert 0.5 * shape.beside < more < 0.53 * shape.beside


def test_a_size_is_found_by_its_noun() -> None:
    """Also in a config of more than text, of a family that is not known, and where it is left out."""
    assert stated({"model_type": "llama", "vocab_size": 5}, "vocabulary") == 5
    assert (
        stated({"model_type": "gemma3", "text_config": {"model_type": "x", "vocab_size": 7}}, "vocabulary")
        == 7
    )
    assert stated({"text_config": None}, "positions") is None


def _built(config: dict[str, Any]) -> Any:
    """The model that transformers builds from a config, without storage."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**{"pad_token_id": None, **config}))
