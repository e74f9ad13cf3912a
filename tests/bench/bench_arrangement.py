"""How much of the work is useful: packed, sorted, and random padded batches of 8, on 2,048 rows of realistic
length, 64 a step.
    python tests/bench/bench_arrangement.py

Useful = tokens / (positions computed + 128 for each micro-batch, the price of dequantising the base once).
Counts, not times: the same on every machine. Below the table: the probe's packed-against-separate difference
on a tiny base. Targets: packed 0.92, sorted 0.78.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from doitune.prompt.batch import MICRO_BATCH_COST_TOKENS, Batch, arrange, pad
from doitune.prompt.encoded import IGNORED, Encoded

ROWS, STEP, MEDIAN, SIGMA, CAP = 2048, 64, 90, 1.0, 2048


def realistic(rows: int, seed: int, cap: int = CAP, vocabulary: int = 262) -> list[Encoded]:
    """Examples of log-normal length; the later half of each is trained."""
    dice = random.Random(seed)
    found = []
    for _ in range(rows):
        length = min(cap, max(8, round(dice.lognormvariate(math.log(MEDIAN), SIGMA))))
        ids = tuple(dice.randrange(6, vocabulary) for _ in range(length))
        found.append(Encoded(ids, (*[IGNORED] * (length // 2), *ids[length // 2 :])))
    return found


def useful(batches: Sequence[Batch]) -> tuple[int, int]:
    """Useful tokens, and positions with the price of each micro-batch."""
    return sum(sum(batch.lengths) for batch in batches), sum(
        batch.ids.numel() + MICRO_BATCH_COST_TOKENS for batch in batches
    )


def random_padded(step: Sequence[Encoded], size: int = 8) -> list[Batch]:
    """What a plain data loader makes of a step: batches of 8 in random order."""
    return [pad(step[start : start + size]) for start in range(0, len(step), size)]


def measure(encoded: Sequence[Encoded], budget: int) -> dict[str, tuple[float, float]]:
    """Share of useful work and micro-batches a step, by arrangement."""
    makers = {
        "packed": lambda step: arrange(step, budget, packed=True),
        "sorted": lambda step: arrange(step, budget, packed=False),
        "random padded, 8 a batch": random_padded,
    }
    found = {}
    for name, make in makers.items():
        steps = [make(encoded[start : start + STEP]) for start in range(0, len(encoded), STEP)]
        counts = [useful(batches) for batches in steps]
        assert sum(tokens for tokens, _ in counts) == sum(len(one.ids) for one in encoded)
        found[name] = (
            sum(a for a, _ in counts) / sum(b for _, b in counts),
            sum(map(len, steps)) / len(steps),
        )
    return found


def probe_difference() -> str:
    """The proof of a run's start on a tiny random base."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import make_tiny_base

    from doitune.backends import hf
    from doitune.backends.loaded import LoadRequest
    from doitune.base.find import find_base
    from doitune.train.packing import prove_packing

    with tempfile.TemporaryDirectory() as folder:
        make_tiny_base(Path(folder))
        proof = prove_packing(hf.load(LoadRequest(find_base(folder), rank=4)), realistic(64, seed=1, cap=300))
    return f"losses {proof.loss_difference:.1e}, gradient {proof.gradient_difference:.1e}, allowed {proof.allowed:.0e}: exact {proof.exact}"


def main(budget: int, seeds: int) -> None:
    """Print the table over some seeds, and the probe's difference."""
    print(
        f"{ROWS} rows, log-normal, median {MEDIAN}, sigma {SIGMA}, cap {CAP}; {STEP} a step; {budget} tokens a micro-batch"
    )
    print(f"{'arrangement':28}{'useful, each seed':28}{'micro-batches a step':>20}")
    runs = [measure(realistic(ROWS, seed), budget) for seed in range(seeds)]
    for name in runs[0]:
        shares = "  ".join(f"{run[name][0]:.3f}" for run in runs)
        print(f"{name:28}{shares:28}{sum(run[name][1] for run in runs) / seeds:20.1f}")
    print("packed against separate, relative difference:", probe_difference())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=int, default=4096, help="tokens a micro-batch")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    main(given.budget, given.seeds)
