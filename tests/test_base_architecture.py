"""A base's sizes are read from its config, and its model recipe says the same sizes: the published numbers
of parameters come out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from doitune.base.architecture import read_architecture
from doitune.errors import ModelError, RecipeError
from doitune.memory.cards import Card
from doitune.memory.shape import find_config, find_shape
from doitune.memory.suggest import planned_for
from doitune.recipe.fields import ModelSection
from doitune.recipe.files import list_models
from doitune.recipe.resolve import resolve

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
PUBLISHED = {
    "7b": 6_885_486_592,
    "13b": 13_199_703_040,
    "33b": 32_767_933_952,
    "baichuan2-7b": 7_505_973_248,
    "baichuan2-13b": 13_896_668_160,
    "qwen1.5-7b": 7_721_324_544,
    "qwen1.5-14b": 14_167_290_880,
    "qwen1.5-32b": 32_512_218_112,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "llama-3.1-8b": 8_030_261_248,
    "gemma-3-4b": 3_880_099_328 + 64 * 2560,
    "gemma-3-12b": 11_765_788_416 + 64 * 3840,
    "mistral-7b-v0.3": 7_248_023_552,
    "phi-4": 14_659_507_200,
}
"""Weights of each base with its own vocabulary; Qwen, Baichuan, Llama 3, Mistral and Phi as their model
cards' files count, LLaMA with 49,953 rows; Gemma's text part as keras-hub's presets count it, with the 64 rows
more that its published files have."""


def test_every_model_recipe_has_its_published_number_of_weights() -> None:
    models = {one.name for one in list_models()}
    tuned = {name for name in models if name.endswith("-instruct")}
    assert len(tuned) > 5 and models == {*PUBLISHED, *tuned, "demo"}
    for name in models - {"demo"}:
        found = find_shape(resolve("baseline", model=name).recipe.model)
        assert found.architecture.parameters == PUBLISHED[name.removesuffix("-instruct")], name


def test_a_model_fits_the_card_that_its_recipe_names() -> None:
    """By the verdict of a plan. Trap: a card that holds the weights and no step, or what is expected and not
    the most."""
    cards = {one.name: re.search(r"\ban? (\d+) GB card", one.summary) for one in list_models()}
    assert sum(found is not None for found in cards.values()) == len(cards) - 1
    for name, found in cards.items():
        if found is None:
            assert name == "demo"
            continue
        planned = planned_for(resolve("own", model=name), Card(float(found[1])))
        assert planned is not None and planned.fits, name
    lower = [one.name for one in list_models() if one.summary.endswith("or 24 GB at rank 8")]
    assert lower == ["qwen1.5-32b", "qwen3-32b"]
    for name in lower:
        planned = planned_for(resolve("own", model=name, overrides=["lora.rank=8"]), Card(24.0))
        assert planned is not None and planned.fits, name


def test_a_model_tuned_for_chat_speaks_in_its_own_turns() -> None:
    """And a base in doit's; a recipe of one's own, too."""
    tuned = [one.name for one in list_models() if "tuned for chat" in one.summary]
    assert {"phi-4", "qwen3-32b"} < {*tuned} and len(tuned) > 7
    for one in list_models():
        prompt = resolve("own", model=one.name, corpus="x.jsonl").recipe.prompt
        assert prompt.template == ("model" if one.name in tuned else "doit"), one.name


def test_the_shape_of_the_demo_is_its_files() -> None:
    """Its sizes stand in its config.json only, and count what the weights hold."""
    from safetensors import safe_open

    from doitune.demo.folder import BASE

    shape = find_shape(resolve("demo").recipe.model)
    with safe_open(BASE / "model.safetensors", "pt") as weights:
        total = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    assert shape.architecture.parameters == total
    assert shape.place.endswith("config.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"model_type": "mamba"}, "does not know"),
        ({"head_dim": 0}, "head_dim is 0"),
        ({"vocab_size": True}, "vocab_size"),
        ({"num_hidden_layers": -2}, "num_hidden_layers is -2"),
        ({"vocab_size": 10**400}, "vocab_size is 1000"),
        ({"hidden_size": [64]}, "hidden_size is .64"),
        ({"num_attention_heads": 128}, "cannot share a width of 64"),
        ({"num_key_value_heads": 3}, "4 heads with 3"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'"),
        ({"model_type": "gemma3n", "text_config": LLAMA}, "'gemma3n'"),
        ({"text_config": {"hidden_size": 0}}, "hidden_size is 0"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_architecture({**LLAMA, **change}, "folder/config.json")


def quantised(folder: Path, **how: object) -> ModelSection:
    """A model section whose base says this of its quantisation."""
    (folder / "config.json").write_text(
        json.dumps({**LLAMA, "quantization_config": how} if how else LLAMA), encoding="utf-8"
    )
    return resolve("demo", model=str(folder)).recipe.model


def test_how_a_base_is_quantised_is_counted_or_refused(tmp_path: Path) -> None:
    """Trap: a base that is quantised in another way planned as if it were all NF4 with
    nested scales."""
    nf4 = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "llm_int8_skip_modules": ["lm_head"],
    }
    assert not find_shape(quantised(tmp_path)).quantised
    whole = find_shape(quantised(tmp_path, **nf4, bnb_4bit_use_double_quant=True))
    assert whole.quantised and whole.nested
    assert not find_shape(quantised(tmp_path, **nf4)).nested
    for how, said in (
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({**nf4, "bnb_4bit_quant_type": "fp4"}, "not in NF4"),
    ):
        with pytest.raises(ModelError, match=said):
            find_shape(quantised(tmp_path, **how))


def test_a_folder_and_a_name_that_are_not_there(tmp_path, monkeypatch) -> None:
    (tmp_path / "模型 一").mkdir()
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        find_config(str(tmp_path / "模型 一"))
    (tmp_path / "模型 一" / "config.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ModelError, match="not an object"):
        find_config(str(tmp_path / "模型 一"))
    (tmp_path / "模型 一" / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert find_config(str(tmp_path / "模型 一"))[0] == LLAMA
    with pytest.raises(ModelError, match="no model folder"):
        find_config("bases/none")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        ModelError, match="neither in the cache nor to be had"
    ):  # HF_HUB_OFFLINE is set for all tests
        find_config("nobody/nothing-of-that-name")


def test_half_an_architecture_is_refused() -> None:
    """A recipe that says some sizes and not others would be counted by a mixture."""
    with pytest.raises(RecipeError, match="an architecture without intermediate"):
        resolve("demo", overrides=["model.architecture.hidden=64"])
    sizes = ["hidden=64", "intermediate=128", "layers=2", "heads=4", "vocabulary=100"]
    recipe = resolve(
        "demo", overrides=["model.family=llama", *(f"model.architecture.{size}" for size in sizes)]
    ).recipe
    assert find_shape(recipe.model).architecture == read_architecture(LLAMA, "x")
