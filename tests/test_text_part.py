"""A model of more than text, as Gemma 3 is published: its language model is trained, asked and exported, and
nothing else of it is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Desk
from safetensors.torch import load_file
from test_hf import model_of
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from doitune.backends.lora import beside_text
from doitune.backends.tokenizer import tokenizer_template
from doitune.base.families import with_sizes
from doitune.base.find import find_base
from doitune.recipe.fields import PromptSection

WEIGHTS = "model.safetensors"
TEXT = {
    "model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 32, "vocab_size": 262,
}  # fmt: skip
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
TOKENS = {"image_token_index": 261, "boi_token_index": 260, "eoi_token_index": 259, "mm_tokens_per_image": 4}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """Random weights, with nothing in config.json but what Gemma 3's has."""
    folder = tmp_path_factory.mktemp("gemma") / "base"
    torch.manual_seed(0)
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, **TOKENS)  # type: ignore[arg-type]
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    said = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "dtype": "float32"}
    parts = {"text_config": TEXT, "vision_config": VISION, "eos_token_id": [2], **TOKENS}
    (folder / "config.json").write_text(json.dumps({**said, **parts}), encoding="utf-8")
    for path in tiny_base.glob("tokenizer*"):
        shutil.copy(path, folder)
    assert any(name.startswith("language_model.model.") for name in load_file(folder / WEIGHTS))
    return folder


def test_adapters_are_put_into_the_text_part_alone(gemma: Path) -> None:
    """Trap: an image tower has a q_proj, too; its adapter is saved, and nothing ever trains it."""
    model = model_of(gemma)
    names = [name for name, _ in model.trainable()]
    assert names and all("language_model.layers" in name for name in names)
    assert len(names) == 2 * 7 * 2 and len(beside_text(model.base)) > 0


def test_a_vocabulary_that_the_config_leaves_out_is_counted(gemma: Path, tmp_path: Path) -> None:
    """Trap: 0 rows, and new tokens numbered from there."""
    folder = tmp_path / "base"
    shutil.copytree(gemma, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["text_config"]["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    base = find_base(str(folder))
    assert base.size("vocabulary") == 262 and base.size("positions") == 0
    template = tokenizer_template(base, PromptSection(tokens="new"))
    assert (template.user_id, template.assistant_id, template.end_id) == (262, 263, 264)


def test_sizes_are_written_where_the_config_keeps_them() -> None:
    assert with_sizes({"model_type": "x", "text_config": {"a": 1}}, {"vocabulary": 5}) == {
        "model_type": "x",
        "text_config": {"a": 1, "vocab_size": 5},
    }
    assert with_sizes({"model_type": "llama", "vocab_size": 3}, {"vocabulary": 5})["vocab_size"] == 5


def _greedy(folder: Path, ids: list[int]) -> torch.Tensor:
    """[T, V]: what transformers alone makes of a text."""
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), id="nf4"),
        pytest.param(("prompt.tokens=new", "model.quantise=none"), id="new tokens", marks=pytest.mark.slow),
    ],
)
def test_every_command_reads_the_text_part(gemma: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Trap: trained for hours under names that its files do not have, and no export."""
    desk = Desk(tmp_path)
    base = tmp_path / "base"
    shutil.copytree(gemma, base)
    sets: list[Any] = ["train.tokens_per_micro_batch=512", "train.max_tokens=256", "train.max_steps=3", *more]
    asked = ("--model", str(base), *(word for one in sets for word in ("--set", one)))
    runs, out = ("--runs", str(tmp_path / "runs")), tmp_path / "merged"
    commands = {
        "plan": ("plan", str(desk.recipe), "--card", "24gb", *asked),
        "base check": ("base", "check", str(base)),
        "train": (*desk.train("runs"), *asked),
        "eval": ("eval", "last", "--suite", "doit-valid", *runs),
        "export": ("export", "last", "--out", str(out), "--questions", "0", "--dtype", "fp32", *runs),
    }
    for name, command in commands.items():
        ended = desk.do(*command)
        assert ended.code == 0, f"{name}: {ended.said}"
    assert json.loads((out / "export.json").read_text(encoding="utf-8"))["same"]
    before, after = load_file(base / WEIGHTS), load_file(out / WEIGHTS)
    assert set(before) == set(after)
    beside = [name for name in before if not name.startswith("language_model.")]
    assert beside and all(torch.equal(before[name], after[name]) for name in beside), "it sees as before"
    changed = [
        name for name in before if not torch.equal(before[name].float(), after[name][: len(before[name])])
    ]
    assert {name.split(".")[-2] for name in changed} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    said = _greedy(out, [10, 20, 30])
    rows = 262 + 3 * ("prompt.tokens=new" in more)
    assert said.shape == (3, rows) and (said[:, :262] - _greedy(base, [10, 20, 30])).abs().max() > 1e-4
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["text_config"]["vocab_size"] == rows and "vocab_size" not in config
