"""A mixture of experts from its training to its export: what is in 16 bits is said, and the run can be taken
away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from doitune.export.merged import Wish, export_merged
from doitune.recipe.resolve import resolve
from doitune.run.layout import ORIGIN
from doitune.train.session import start


@pytest.mark.parametrize("kind", ["mixtral", "phi3"])
def test_what_was_trained_can_be_taken_away(
    kind: str, tiny_recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Trap: `export` asked the memory plan, which knows neither."""
    sizes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 262, "max_position_embeddings": 512, "pad_token_id": 3,
    }  # fmt: skip
    torch.manual_seed(0)
    experts = {"num_local_experts": 4} if kind == "mixtral" else {}
    base = tmp_path / "base"
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **experts)).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(base)
    resolved = resolve(str(tiny_recipe), overrides=["train.max_steps=2"], model=str(base))
    said: list[str] = []
    run = start(resolved, runs=tmp_path / "runs", scorer=None, on_event=lambda event: said.append(str(event)))
    wide = json.loads((run.folder / ORIGIN).read_text(encoding="utf-8"))["wide_gib"]
    assert (wide > 0) == (kind == "mixtral") == any("experts of a mixture" in text for text in said)
    export_merged(Wish(run, tmp_path / "merged"))  # ParityError where it is not the trained model
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert model.config.model_type == kind
