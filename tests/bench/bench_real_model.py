"""Useful tokens a second on a real model: a step arranged as a run arranges it, beside random padded batches
of 8 of the same examples.
    python tests/bench/bench_real_model.py MODEL_FOLDER [--pairs 3] [--examples 32] [--cap 2048]

MODEL_FOLDER: SmolLM2-135M, as the project's script makes it. NF4 base, LoRA rank 16 on every linear layer,
forward and backward of a whole step. Lengths are log-normal, median 90, sigma 1. Pairs alternate in order.
Target: a median of the paired ratios of at least 1.7.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from bench_arrangement import random_padded, realistic

from doitune.backends import hf
from doitune.backends.hf_model import HfModel
from doitune.backends.loaded import LoadRequest
from doitune.base.find import find_base
from doitune.prompt.batch import Batch, arrange, trained_tokens
from doitune.train.packing import prove_packing
from doitune.train.setup import DEFAULT_MICRO_BATCH_TOKENS


def seconds(model: HfModel, batches: Sequence[Batch], total: int) -> float:
    """Forward and backward of one step."""
    started = time.perf_counter()
    for batch in batches:
        model.loss(batch, total).value.backward()
    for _, parameter in model.trainable():
        parameter.grad = None
    return time.perf_counter() - started


def main(folder: str, pairs: int, examples: int, cap: int) -> None:
    """Print useful tokens a second both ways, and the median of the paired ratios."""
    model = hf.load(LoadRequest(find_base(folder), rank=16))
    proof = prove_packing(model, realistic(12, seed=99, cap=120, vocabulary=model.head.vocabulary_rows))
    print(
        f"{model.name}, nf4, {model.compute_dtype}, {torch.get_num_threads()} thread(s), packed exact: {proof.exact} ({proof.gradient_difference:.1e})"
    )
    model.training(True)
    warm = realistic(4, seed=98, cap=60, vocabulary=model.head.vocabulary_rows)
    seconds(model, arrange(warm, 4096, packed=proof.exact), 1)
    ratios = []
    for pair in range(pairs):
        step = realistic(examples, seed=pair, cap=cap, vocabulary=model.head.vocabulary_rows)
        total, tokens = trained_tokens(step), sum(len(one.ids) for one in step)
        ways = {
            "ours": arrange(step, DEFAULT_MICRO_BATCH_TOKENS, packed=proof.exact),
            "random padded": random_padded(step),
        }
        order = list(ways) if pair % 2 else list(ways)[::-1]
        took = {name: seconds(model, ways[name], total) for name in order}
        ratios.append(took["random padded"] / took["ours"])
        positions = {name: sum(batch.ids.numel() for batch in batches) for name, batches in ways.items()}
        shown = ", ".join(
            f"{name} {tokens / took[name]:.1f} useful tokens/s ({positions[name]} positions)" for name in ways
        )
        print(f"pair {pair + 1}: {tokens} tokens: {shown}, ratio {ratios[-1]:.2f}", flush=True)
    print(
        f"ratio: median {statistics.median(ratios):.2f} of {pairs}, from {min(ratios):.2f} to {max(ratios):.2f}; load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="the folder of SmolLM2-135M")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--cap", type=int, default=2048)
    given = parser.parse_args()
    main(given.model, given.pairs, given.examples, given.cap)
