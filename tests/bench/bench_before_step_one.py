"""What a run does before its first step, in steps' worth: the proofs of batches and of packing, and the trial,
each beside a step of the same run.
    python tests/bench/bench_before_step_one.py MODEL_FOLDER [--pairs 3] [--examples 16]

MODEL_FOLDER: SmolLM2-135M, as the project's script makes it. Rows are log-normal (median 130 tokens, sigma 0.85: a
mean of about 190), a step has `--examples` of them. Parts and steps take turns, so that a busy machine slows both
alike; loading, which is no matter of steps, is said in seconds.
Target: proofs and trial together at most two steps' worth (median).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

from doitune.evals.suites.doit import validation_score
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.model import load_model
from doitune.train.loop import Training
from doitune.train.packing import prove_packing
from doitune.train.plan import plan_training
from doitune.train.setup import Setup
from doitune.train.trial import try_out

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "they",
    "you",
]
MEDIAN, SIGMA, SHORTEST, LONGEST = 130, 0.85, 24, 800


def make_corpus(root: Path, examples: int) -> None:
    """Eight steps' rows, and eight validation questions with a written answer; a word is about a token."""
    dice = random.Random(0)
    for split, amount in (("1000", 8 * examples), ("valid", 8)):
        path = root / "curated" / split / f"math_{split}.json"
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8") as stream:
            for number in range(amount):
                length = min(LONGEST, max(SHORTEST, round(dice.lognormvariate(math.log(MEDIAN), SIGMA))))
                texts = [" ".join(dice.choices(WORDS, k=length // 2)) for _ in range(2)]
                messages = [
                    {"role": "user", "content": f"{texts[0]} {split} {number}"},
                    {"role": "assistant", "content": texts[1]},
                ]
                row = {
                    "messages": messages,
                    "type": "math",
                    "idx": f"{split}-{number}",
                    "question_format": 0,
                    "answer": "1",
                }
                stream.write(json.dumps(row) + "\n")


def open_training(root: Path, model: str, examples: int) -> Training:
    """A training over the corpus, before everything that is timed."""
    make_corpus(root / "corpus", examples)
    (root / "bench.yaml").write_text(
        f"summary: bench\nmodel:\n  name: {model}\ndata:\n  corpus: {root / 'corpus'}\n  budget:\n"
        f"    math: {8 * examples}\ntrain:\n  examples_per_step: {examples}\n  epochs: 1000\n"
        "  validation_rows_per_ability: 4\n",
        encoding="utf-8",
    )
    plan = plan_training(resolve(str(root / "bench.yaml")))
    _, loaded = load_model(plan.recipe, plan.base, plan.material.template.new_rows, training=True)
    (root / "run" / "checkpoints").mkdir(parents=True)
    return Training(Setup(Run(root / "run"), plan.recipe, plan.material, loaded, validation_score))


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(model: str, pairs: int, examples: int) -> None:
    """Print each part in seconds and in steps' worth: medians over `pairs`."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        training = open_training(Path(folder), model, examples)
        setup, loading = training.setup, time.perf_counter() - started
        parts: dict[str, Callable[[], object]] = {
            "padded rows against each alone": training.retention.probes.prove_batches,
            "packed rows against each alone": lambda: prove_packing(setup.model, setup.material.encoded),
            "trial": lambda: try_out(training),
        }
        training.advance()  # warms up
        took: dict[str, list[float]] = {name: [] for name in ("step", *parts)}
        for _ in range(pairs):
            took["step"].append(seconds(training.advance))
            for name, part in parts.items():
                took[name].append(seconds(part))
    mean = statistics.mean(len(one.ids) for one in setup.material.encoded)
    print(
        f"{setup.model.name}: {examples} examples a step, mean {mean:.0f} tokens, {torch.get_num_threads()} thread(s)"
    )
    print(f"loading, with all imports: {loading:.1f} s")
    worth = {name: [one / step for one, step in zip(took[name], took["step"], strict=True)] for name in took}
    for name in took:
        print(
            f"{name:32}{statistics.median(took[name]):8.2f} s{statistics.median(worth[name]):8.2f} steps' worth"
        )
    together = [sum(one) for one in zip(*(worth[name] for name in parts), strict=True)]
    print(
        f"ratio: median {statistics.median(together):.2f} of {pairs}, from {min(together):.2f} to {max(together):.2f};"
        f" load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="the folder of SmolLM2-135M")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16)
    given = parser.parse_args()
    main(given.model, given.pairs, given.examples)
