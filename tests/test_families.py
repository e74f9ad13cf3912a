"""The table of families, from a plan to a merged model: each on random weights under the demo's tokenizer,
through the real commands. `pytest -s -m slow tests/test_families.py` prints it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Desk
from peft import AutoPeftModelForCausalLM
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar

from doitune.backends import hf
from doitune.backends.four_bits import nested_nf4
from doitune.base.families import FAMILIES
from doitune.demo.folder import BASE
from doitune.run.layout import ORIGIN

disable_progress_bar()
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 2154, "max_position_embeddings": 1024,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 256, "rope_theta": 500000.0}  # fmt: skip
WINDOWS = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("llama", {"num_key_value_heads": 4}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama3.2": ("llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True, "head_dim": 32}),
    "mistral": ("mistral", {"sliding_window": 32}),
    "qwen2": ("qwen2", {}),
    "qwen2.5, tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    "gemma2": ("gemma2", {"head_dim": 16, **WINDOWS}),
    "gemma3": ("gemma3_text", {"head_dim": 16, **WINDOWS}),
    "gemma3, with eyes": ("gemma3", {"head_dim": 16, **WINDOWS}),
    "phi3": ("phi3", {"sliding_window": 32}),
    "phi4-mini": ("phi3", {"partial_rotary_factor": 0.75, "tie_word_embeddings": True}),
    "glm": ("glm", {"head_dim": 16}),
    "glm4": ("glm4", {"head_dim": 16}),
    "qwen2_moe": ("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 96}),
    "qwen3_moe": ("qwen3_moe", {**EXPERTS, "head_dim": 16}),
    "gpt_oss": ("gpt_oss", {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **WINDOWS}),
}
"""Each family's kind in transformers and what its published models have beside sizes. Yi and DeepSeek's
distillates are llama and qwen2 by their config.json."""

REASONS = {
    "internlm2, internlm3": "no code of theirs in transformers, and none from a model's folder is run",
    "baichuan2": "the same; converted to llama's names it is trained as a llama",
    "gpt_oss as published": "its experts are in MXFP4: take a copy in 16 bits",
}


def made(folder: Path, kind: str, more: dict[str, Any]) -> Path:
    """A base of random weights with the demo's tokenizer."""
    torch.manual_seed(0)
    if kind == "gemma3":
        text = {**SIZES, **more, "model_type": "gemma3_text"}
        images = {
            "image_token_index": 2153,
            "boi_token_index": 2152,
            "eoi_token_index": 2151,
            "mm_tokens_per_image": 4,
        }
        config = AutoConfig.for_model(kind, text_config=text, vision_config=VISION, **images)
        model = AutoModelForImageTextToText.from_config(config)
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **more}))
    for one in model.parameters():
        if one.dim() == 3:  # transformers leaves some experts empty
            torch.nn.init.normal_(one, std=0.02)
    model.save_pretrained(folder)
    if kind == "qwen2":  # transformers cuts texts for it as for Qwen, whatever tokenizer.json says
        byte_level(folder)
    else:
        for path in BASE.glob("tokenizer*"):
            shutil.copy(path, folder)
    return folder


def byte_level(folder: Path) -> None:
    """A tokenizer of Qwen's kind: byte pairs of bytes, trained on a few sentences."""
    found = ByteLevelBPETokenizer()
    special = ["<unk>", "<s>", "</s>", "<pad>", "<reserved_0>", "<reserved_1>"]
    found.train_from_iterator(["这是一个问题，答案是十五。" * 3], vocab_size=300, special_tokens=special)
    ends = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=found._tokenizer, additional_special_tokens=special[4:], **ends
    )
    fast.save_pretrained(folder)


def walked(folder: Path, kind: str, more: dict[str, Any]) -> list[str]:
    """What each step came to: plan, train, resume, eval, export, peft alone."""
    folder.mkdir()
    base, desk, said = made(folder / "base", kind, more), Desk(folder), []
    sets = ("train.max_steps=3", "train.max_tokens=128", "train.tokens_per_micro_batch=256")
    asked = ("--model", str(base), *(word for one in sets for word in ("--set", one)))
    runs = ("--runs", str(folder / "runs"))

    def step(name: str, *command: str, code: int = 0, fault: str = "") -> str:
        ended = desk.do(*command, fault=fault)
        assert ended.code == code, f"{name}: {ended.code} {ended.said[-1500:]}"
        return ended.said

    planned = step("plan", "plan", str(desk.recipe), "--card", "24gb", "--backend", "hf", "--json", *asked)
    plan = json.loads(planned[planned.index("{") :])
    said.append("closed form" if plan["max_tokens_per_micro_batch"] else "simulated")
    step("train", *desk.train("runs", *asked), code=-9, fault="step.logged:2:kill")
    step("resume", *desk.resume("runs"))
    run = desk.run("runs")
    assert run is not None and run.done()
    wide = json.loads((run.folder / ORIGIN).read_text(encoding="utf-8"))["wide_gib"]
    said.append("nf4" if not wide else f"nf4, {'eyes' if kind == 'gemma3' else 'experts'} in 16 bits")
    step("eval", "eval", "last", "--suite", "doit-valid", "--limit", "4", *runs)
    out = folder / "merged"
    step(
        "export",
        "export",
        "last",
        "--checkpoint",
        "last",
        "--out",
        str(out),
        "--questions",
        "0",
        "--dtype",
        "fp32",
        *runs,
    )
    said.append(
        "same" if json.loads((out / "export.json").read_text(encoding="utf-8"))["same"] else "another"
    )
    ids = torch.tensor([[5, 90, 300, 41, 1000]])
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)(input_ids=ids).logits
        checkpoint = sorted((run.folder / "checkpoints").glob("step-*"))[-1]
        adapted = AutoPeftModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.float32, quantization_config=nested_nf4(torch.float32)
        )
        hf._keep_fp32_kernels(adapted)
        alone = adapted(input_ids=ids).logits
        with adapted.disable_adapter():
            before = adapted(input_ids=ids).logits
    apart = float((alone - merged).abs().max())
    said.append(f"{apart:.0e}")
    assert apart < 1e-3 < float((alone - before).abs().max()), "the merged model is peft's, and not the base"
    return said


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    """Head and foot of the printed table."""
    print(f"\n{'family':18} {'engines':12} plan, base in training, export, peft alone apart from it")
    yield
    print("\n".join(f"{name:31} {why}" for name, why in REASONS.items()))


@pytest.mark.parametrize(
    "name", [one if one == "phi3" else pytest.param(one, marks=pytest.mark.slow) for one in TABLE]
)
def test_a_family_goes_all_the_way(name: str, tmp_path: Path) -> None:
    """Traps: a family that trains and cannot be exported; a merged model, or an adapter under plain peft, that
    is another than the trained one."""
    kind, more = TABLE[name]
    engine = "unsloth, hf" if kind in FAMILIES and FAMILIES[kind].unsloth else "hf"
    said = walked(tmp_path / "world", kind, more)
    print(f"{name:18} {engine:12} {', '.join(said)}")
