"""What the loop costs: `Training.advance` beside a bare PyTorch loop over the same micro-batches of the same
model.
    python tests/bench/bench_step.py [--pairs 12] [--hidden 256] [--examples 16]

The bare loop: forward, backward, clip, optimiser step, with the micro-batches ready in memory; the forward is
the same. Pairs alternate in order, so that a busy machine slows both alike. Target: a median ratio of at most
1.05.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from conftest import make_tiny_base

from doitune.backends.optimiser import build_optimiser
from doitune.prompt.batch import Batch, arrange, trained_tokens
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.model import load_model
from doitune.train.arrangement import choose_arrangement
from doitune.train.loop import Training
from doitune.train.plan import plan_training
from doitune.train.setup import Setup


def make_base(folder: Path, hidden: int) -> None:
    """The tests' tiny base, widened to four layers of `hidden`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    make_tiny_base(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=262, hidden_size=hidden, intermediate_size=hidden * 11 // 4 // 64 * 64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def make_corpus(root: Path, rows: int) -> None:
    """Rows of log-normal length (median 90 tokens, sigma 1); a letter is a token of the tiny base."""
    dice = random.Random(0)
    path = root / "curated" / "1000" / "math_1000.json"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            length = min(1000, max(8, round(dice.lognormvariate(math.log(90), 1))))
            texts = ["".join(dice.choices("abcdefghij", k=length // 2)) + f" {number}" for _ in range(2)]
            messages = [
                {"role": role, "content": text}
                for role, text in zip(("user", "assistant"), texts, strict=True)
            ]
            stream.write(json.dumps({"messages": messages, "type": "math", "idx": number}) + "\n")


def open_training(root: Path, hidden: int, examples: int) -> Training:
    """A training over the tiny world, before its first step."""
    rows = examples * 8
    make_base(root / "base", hidden)
    make_corpus(root / "corpus", rows)
    (root / "bench.yaml").write_text(
        f"summary: bench\nmodel:\n  name: {root / 'base'}\ndata:\n  corpus: {root / 'corpus'}\n  budget:\n    math: {rows}\n"
        f"train:\n  examples_per_step: {examples}\n  epochs: 1000\n",
        encoding="utf-8",
    )
    plan = plan_training(resolve(str(root / "bench.yaml")))
    _, model = load_model(plan.recipe, plan.base, 0, training=True)
    (root / "run" / "checkpoints").mkdir(parents=True)
    training = Training(Setup(Run(root / "run"), plan.recipe, plan.material, model))
    choose_arrangement(training)
    return training


def bare_step(training: Training, optimiser: torch.optim.Optimizer, batches: list[Batch], total: int) -> None:
    """The loop as anyone would write it."""
    for batch in batches:
        training.setup.model.loss(batch, total).value.backward()
    torch.nn.utils.clip_grad_norm_([parameter for _, parameter in training.weights.parameters], 1.0)
    optimiser.step()
    optimiser.zero_grad()


def main(pairs: int, hidden: int, examples: int) -> None:
    """Print the median ratio over `pairs` alternating pairs."""
    with tempfile.TemporaryDirectory() as folder:
        training = open_training(Path(folder), hidden, examples)
        optimiser = build_optimiser(
            training.weights.parameters, training.setup.recipe.train, training.setup.model.device
        )
        ratios, ours, bare = [], [], []
        for pair in range(pairs + 1):
            encoded = [
                training.setup.material.encoded[place]
                for place in training.gradients.course.members(training.at.step)
            ]
            batches = arrange(encoded, training.at.tokens_per_micro_batch, packed=training.at.packed)
            times = {}
            for name in ("ours", "bare") if pair % 2 else ("bare", "ours"):
                started = time.perf_counter()
                if name == "ours":
                    training.advance()
                else:
                    training.setup.model.training(True)
                    bare_step(training, optimiser, batches, trained_tokens(encoded))
                times[name] = time.perf_counter() - started
            if pair:  # the first pair warms up
                ours.append(times["ours"])
                bare.append(times["bare"])
                ratios.append(times["ours"] / times["bare"])
        packed = "packed" if training.at.packed else "sorted"
        print(
            f"{examples} examples a step, {packed}, hidden {hidden}, 4 layers, nf4, {torch.get_num_threads()} thread(s); {pairs} alternating pairs"
        )
        print(f"advance {statistics.median(ours):.3f} s, bare loop {statistics.median(bare):.3f} s (medians)")
        print(
            f"ratio: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}; load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--examples", type=int, default=16)
    given = parser.parse_args()
    main(given.pairs, given.hidden, given.examples)
