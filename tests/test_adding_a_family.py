"""Adding a model family is one entry in the table: with it every command knows a base that none knew before."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from doitune.__main__ import main
from doitune.backends import unsloth
from doitune.base.families import FAMILIES, Family, Names
from doitune.base.folder import find_whole

NAMES = Names(
    hidden="n_embd",
    intermediate="n_inner",
    layers="n_layer",
    heads="n_head",
    key_value_heads="n_head_kv",
    head_size="d_head",
    vocabulary="n_vocab",
    positions="n_ctx",
)
SIZES = {
    "n_embd": 64,
    "n_inner": 96,
    "n_layer": 3,
    "n_head": 4,
    "n_head_kv": 2,
    "d_head": 16,
    "n_vocab": 262,
    "n_ctx": 512,
}
ENTRY = Family(
    model_class="House",
    names=NAMES,
    attention_bias="attention_bias",
    output_bias="attention_bias",
    unsloth=True,
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[tuple[Path, int]]:
    """A base of a made-up family, LLaMA's block under names of its own, and its number of weights."""
    import torch
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    class HouseConfig(LlamaConfig):  # type: ignore[misc]
        model_type = "house"
        attribute_map = {  # noqa: RUF012
            "hidden_size": "n_embd",
            "intermediate_size": "n_inner",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "num_key_value_heads": "n_head_kv",
            "head_dim": "d_head",
            "vocab_size": "n_vocab",
            "max_position_embeddings": "n_ctx",
        }

    class House(LlamaForCausalLM):  # type: ignore[misc]
        config_class = HouseConfig

    AutoConfig.register("house", HouseConfig)
    AutoModelForCausalLM.register(HouseConfig, House)
    folder = tmp_path_factory.mktemp("house") / "base"
    shutil.copytree(tiny_base, folder)
    torch.manual_seed(0)
    model = House(HouseConfig(**SIZES, bos_token_id=1, eos_token_id=2))
    model.save_pretrained(folder)
    assert not {"hidden_size", "vocab_size"} & set(find_whole(folder).config), "its names are its own"
    yield folder, sum(one.numel() for one in model.parameters())
    CONFIG_MAPPING._extra_content.pop("house")
    AutoModelForCausalLM._model_mapping._extra_content.pop(HouseConfig)


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Types a command in an empty folder and gives its JSON; any other exit code than `code` fails."""
    monkeypatch.chdir(tmp_path)

    def type_(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["doitune", *arguments, "--json"])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        assert left.value.code == code, shown.err
        return shown.out + shown.err if code else json.loads(shown.out)

    return type_


def test_one_entry_and_the_commands_know_it(
    house: tuple[Path, int], tiny_recipe: Path, desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the entry its plan is a simulation alone; with it, it is planned, checked and trained."""
    folder, weights = house
    recipe = str(tiny_recipe)
    alone = desk("plan", recipe, "--model", str(folder), "--backend", "hf", "--card", "24gb")
    assert "does not know blocks of model_type 'house'" in str(alone) and not alone["levers"]
    assert "no kernels for model_type 'house'" in str(unsloth._why_not_base(find_whole(folder)))

    monkeypatch.setitem(FAMILIES, "house", ENTRY)
    planned = desk("plan", recipe, "--model", str(folder), "--backend", "hf", "--simulate", "--card", "24gb")
    assert planned["parameters"] == weights and planned["fits"]
    assert abs(planned["simulation"]["apart"]) < 0.1, "a model as small as this, to a tenth"
    assert unsloth._why_not_base(find_whole(folder)) is None
    assert desk("base", "check", str(folder))["files"] == 5
    dry = desk("train", recipe, "--model", str(folder), "--dry-run")
    assert dry["schema"] == "doitune.dry-run/1"
    done = desk(
        "train", recipe, "--model", str(folder), "--set", "train.max_steps=1", "--set", "model.backend=hf"
    )
    assert done["done"]["final_step"] == 1
