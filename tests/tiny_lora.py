"""A tiny LLaMA in 16 bits and a language LoRA for it that peft wrote: more rows of vocabulary, an
embedding and a head of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from conftest import make_tiny_base
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

ADDED = 11
"""Rows that the LoRA's vocabulary has more."""


def make_parts(
    folder: Path, *, dtype: torch.dtype = torch.float16, seed: int = 0, **lora: Any
) -> tuple[Path, Path]:
    """`folder`/llama and `folder`/lora; the LoRA holds the tokenizer with the added tokens."""
    base, adapter = folder / "llama", folder / "lora"
    make_tiny_base(base, tied=False, seed=seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    model.save_pretrained(base)
    model = model.float()
    torch.manual_seed(seed + 1)
    model.resize_token_embeddings(model.config.vocab_size + ADDED, mean_resizing=False)
    wanted: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 12,
        "target_modules": "all-linear",
        "modules_to_save": ["embed_tokens", "lm_head"],
        **lora,
    }
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **wanted))
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1 if "lora_" in name else 0.5)
    adapted.save_pretrained(adapter)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / name).write_bytes((base / name).read_bytes())
    tokenizer = json.loads((adapter / "tokenizer.json").read_text(encoding="utf-8"))
    more = [chr(ord("一") + number) for number in range(ADDED)]
    tokenizer["model"]["vocab"].update(
        {text: len(tokenizer["model"]["vocab"]) + number for number, text in enumerate(more)}
    )
    (adapter / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    return base, adapter


def merged_by_peft(base: Path, adapters: list[Path], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every tensor of the base with the adapters merged into it by peft, in fp64, rounded once to `dtype`."""
    from safetensors import safe_open

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    for adapter in adapters:
        with safe_open(adapter / "adapter_model.safetensors", framework="pt") as opened:
            rows = {opened.get_slice(name).get_shape()[0] for name in opened.keys() if "lm_head" in name}  # noqa: SIM118
        if rows:
            model.resize_token_embeddings(rows.pop(), mean_resizing=False)
        model = PeftModel.from_pretrained(model, adapter).double().merge_and_unload()
    return {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}
