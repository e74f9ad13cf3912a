"""A tiny world to train in: a random two-layer base with the demo's tokenizer, a few rows, a recipe.
Nothing is downloaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from doitune.base.architecture import read_architecture
from doitune.base.tensors import expected_shapes
from doitune.demo.folder import BASE as DEMO_BASE

HIDDEN, INNER, LAYERS, HEADS = 64, 128, 2, 4
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

RECIPE = """summary: the tiny training of the crash lab
model:
  name: {base}
lora:
  rank: 4
  alpha: 8
  dropout: 0.1
data:
  corpus: {corpus}
  budget:
    biology: 8
    history: 8
train:
  examples_per_step: 4
  epochs: 2
  learning_rate: 1e-2
  max_tokens: 64
  tokens_per_micro_batch: 64
  validation_rows_per_ability: 2
  checkpoint_minutes: 0.000000001
"""
"""Dropout, two epochs, several micro-batches a step, a validation an epoch, and a checkpoint after every
step: the worst case."""


@dataclass(frozen=True)
class World:
    """A recipe file that trains in about a second."""

    recipe: Path


def make_world(folder: Path) -> World:
    """Write base, corpus and recipe into `folder`."""
    base, corpus = folder / "base", folder / "corpus"
    _write_base(base)
    _write_corpus(corpus)
    recipe = folder / "lab.yaml"
    recipe.write_text(
        RECIPE.format(base=json.dumps(str(base)), corpus=json.dumps(str(corpus))), encoding="utf-8"
    )
    return World(recipe)


def _write_base(folder: Path) -> None:
    """A LLaMA of random weights under transformers' own names."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    for name in TOKENIZER:
        shutil.copyfile(DEMO_BASE / name, folder / name)
    config = json.loads((DEMO_BASE / "config.json").read_text(encoding="utf-8"))
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "head_dim": HIDDEN // HEADS,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    shapes = expected_shapes(read_architecture(config, str(folder)))
    dice = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=dice) * 0.05 if len(shape) > 1 else torch.ones(shape)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_corpus(folder: Path) -> None:
    """Two abilities, rows of different lengths. What is written is true or false, 8 tokens at most: random
    weights end no reply."""
    for split, first, count in (("1000", 0, 12), ("valid", 100, 2)):
        for ability in ("biology", "history"):
            path = folder / "curated" / split / f"{ability}_{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [_row(ability, number, split) for number in range(first, first + count)]
            path.write_text(
                "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
            )


def _row(ability: str, number: int, split: str) -> dict[str, object]:
    if ability == "biology":
        question, answer = (
            f"{number}小明河边" + "看见云狐" * (number % 5) + "\nA. 春\nB. 夏\nC. 秋\nD. 冬",
            "ABCD"[number % 4],
        )
    else:
        question, answer = f"{number}>{number % 7}对吗？", "对" if number > number % 7 else "错"
    row: dict[str, object] = {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "type": ability,
        "idx": number,
    }
    return row | ({"question_format": 0} if split == "valid" else {})
