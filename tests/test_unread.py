"""A base is loaded with all that its files hold, or the tensors left out are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_hf import model_of
from transformers import LlamaConfig, LlamaForCausalLM

from doitune.backends.unread import refuse_unread, unread_by
from doitune.errors import ModelError

Tensors = dict[str, torch.Tensor]


def spoilt(base: Path, folder: Path, change: Callable[[Tensors], None], **config: object) -> Path:
    """A copy of a base with other tensors and another config."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **config}))
    return folder


def biased(tensors: Tensors) -> None:
    for layer in (0, 1):
        tensors[f"model.layers.{layer}.self_attn.q_proj.bias"] = torch.ones(64)


def scored(tensors: Tensors) -> None:
    tensors["score.weight"] = torch.ones(1, 64)


SPOILT = {
    "fewer layers in the config": (
        lambda tensors: None,
        {"num_hidden_layers": 1},
        "9 tensors.*model.layers.1.",
    ),
    "biases that the config leaves out": (biased, {}, "2 tensors.*layers.0.self_attn.q_proj.bias"),
    "a head of another kind": (scored, {}, "1 tensors.*score.weight"),
}


@pytest.mark.parametrize("name", list(SPOILT))
def test_tensors_that_nobody_reads_are_refused_by_name(tiny_base: Path, tmp_path: Path, name: str) -> None:
    change, config, said = SPOILT[name]
    folder = spoilt(tiny_base, tmp_path / "base", change, **config)
    with pytest.raises(ModelError, match=said) as caught:
        model_of(folder)
    assert caught.value.exit_code == 65 and "config.json" in caught.value.hint


def test_buffers_that_a_model_computes_itself_are_no_fault(tiny_base: Path, tmp_path: Path) -> None:
    def with_buffers(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    model_of(spoilt(tiny_base, tmp_path / "base", with_buffers))


def test_other_parts_than_text_are_no_fault_where_only_text_is_loaded() -> None:
    names = ["vision_tower.a.weight", "model.visual.b.weight", "model.multi_modal_projector.c"]
    refuse_unread(Path("x"), names, {"text_config": {}})
    with pytest.raises(ModelError, match="3 tensors"):
        refuse_unread(Path("x"), names, {})


def test_names_are_compared_where_a_library_reports_none(tmp_path: Path) -> None:
    """What is stored beside a 4-bit weight belongs to it."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "vocab_size": 64}
    model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes))
    q = "model.layers.0.self_attn.q_proj"
    beside = {f"{q}.weight.absmax": torch.ones(1), f"{q}.weight.quant_state.bitsandbytes__nf4": torch.ones(1)}
    save_file(
        {**beside, f"{q}.weight": torch.ones(1), f"{q}.bias": torch.ones(1)}, tmp_path / "m.safetensors"
    )
    assert unread_by(model, tmp_path) == [f"{q}.bias"]
