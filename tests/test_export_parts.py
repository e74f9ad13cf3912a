"""What can be trained can be taken away: an adapter on a base that the table of families does not know is
merged to the numbers that peft makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from doitune.errors import ModelError
from doitune.export.parts import open_parts
from doitune.memory.simulation.fake_model import quantised_weights

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300, "pad_token_id": 0,
}  # fmt: skip
KINDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "gemma2": ({"head_dim": 16}, ["q_proj", "down_proj"]),
    "phi3": ({}, ["qkv_proj", "gate_up_proj"]),
    "glm4": ({"head_dim": 16}, ["q_proj", "gate_up_proj"]),
    "mixtral": ({"num_local_experts": 4}, ["q_proj", "o_proj"]),
    "llama": ({"mlp_bias": True, "attention_bias": True}, ["q_proj", "down_proj"]),
}


def base_and_adapter(folder: Path, kind: str) -> tuple[Path, Path, dict[str, torch.Tensor]]:
    """Both folders, and the merged weights by peft."""
    more, targets = KINDS[kind]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **more), dtype=torch.float32)
    model.save_pretrained(folder / "base")
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    for name, one in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(one, std=0.1)
    adapted.save_pretrained(folder / "adapter")
    adapted.merge_and_unload().save_pretrained(folder / "merged")
    return folder / "base", folder / "adapter", weights_of(folder / "merged")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_asks_no_memory_plan(kind: str, tmp_path: Path) -> None:
    """Trap: a run of Gemma, Phi, GLM or a mixture that can be trained and not taken away, or with a tensor
    left out."""
    base, adapter, merged = base_and_adapter(tmp_path, kind)
    parts = open_parts(base, adapter, rounded=False)
    assert {one.name for one in parts.targets} == set(merged) and parts.vocabulary == 300
    before = weights_of(base)
    for target in parts.targets:
        made = torch.cat([parts.rows(target, 0, 1), parts.rows(target, 1, target.shape[0])])
        assert torch.allclose(made.float(), merged[target.name], atol=1e-6), target.name
    changed = [name for name in merged if not torch.equal(merged[name], before[name])]
    assert len(changed) == 2 * len(KINDS[kind][1])


def test_layers_that_training_quantises_are_rounded_and_no_others(tmp_path: Path) -> None:
    base, adapter, _ = base_and_adapter(tmp_path, "phi3")
    parts = open_parts(base, adapter, rounded=True)
    before, plain = weights_of(base), open_parts(base, adapter, rounded=False)
    for target, other in zip(parts.targets, plain.targets, strict=True):
        rounded = target.name.startswith("model.layers") and "proj" in target.name
        assert target.linear == rounded, target.name
        one, two = (
            made.rows(which, 0, which.shape[0]).float() for made, which in ((parts, target), (plain, other))
        )
        assert torch.equal(one, two) != rounded
    assert set(before) == {one.name for one in parts.targets}


def test_names_that_are_others_in_the_files_are_refused(tmp_path: Path) -> None:
    """Trap: a tensor that is merged into nothing."""
    base, adapter, _ = base_and_adapter(tmp_path, "gemma2")
    other, _, _ = base_and_adapter(tmp_path / "other", "phi3")
    with pytest.raises(ModelError, match="not in the base's files"):
        open_parts(other, adapter, rounded=False)
    assert "lm_head.weight" not in quantised_weights({"model_type": "phi3", **SIZES}, str(base))
