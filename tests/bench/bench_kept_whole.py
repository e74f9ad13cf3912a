"""What a forward pass takes on a CPU where the base's matrices are made anew for each product, and where they are
kept; and what a micro-batch of a step does, forward and back: CPU seconds of both ways, alternated, and the same bits.
    python tests/bench/bench_kept_whole.py [MODEL_FOLDER] [--repeats 7]

MODEL_FOLDER: any base (the demo's without one), loaded into NF4, in fp32 on one thread. One position is a written
token; more are a row of a batch. Baseline: bitsandbytes' own layers, in the same process.
Target: a token in at most half the time for SmolLM2-135M (the demo's base has little to multiply and no target).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

from doitune.backends import hf
from doitune.backends.kept_whole import keep_whole
from doitune.backends.loaded import LoadedModel, LoadRequest
from doitune.base.find import find_base
from doitune.prompt.batch import Batch, pad
from doitune.prompt.encoded import IGNORED, Encoded

POSITIONS = (1, 32, 200)
TARGET = 2.0


def are_kept(model: LoadedModel) -> bool:
    """Whether its matrices are."""
    return any("forward" in vars(module) for module in model.adapter.peft.modules())


def answered(model: LoadedModel, batch: Batch) -> torch.Tensor:
    """The hidden states of a batch."""
    with torch.no_grad():
        return model.hidden(batch)


def stepped(model: LoadedModel, batch: Batch) -> torch.Tensor:
    """The gradient of a batch, as one vector."""
    model.loss(batch, 1).value.backward()
    found = [parameter.grad.flatten() for _, parameter in model.trainable() if parameter.grad is not None]
    for _, parameter in model.trainable():
        parameter.grad = None
    return torch.cat(found)


def compared(
    model: LoadedModel, work: Callable[[LoadedModel, Batch], torch.Tensor], positions: int, repeats: int
) -> tuple[float, bool]:
    """How many times as fast `work` is with matrices that are kept (the median), and whether its bits are the
    same."""
    ids = tuple(range(10, 10 + positions))
    if work is stepped:  # rows of two lengths: a padded batch's gradients lie otherwise than a single row's
        half = positions // 2
        batch = pad([Encoded(row, row) for row in (ids[:half], ids[half + 3 :])])
    else:
        batch = pad([Encoded(ids, (IGNORED,) * positions)])
    took: dict[str, list[float]] = {"anew": [], "kept": []}
    found = {}
    for _ in range(repeats + 1):
        for way, share in (("anew", 0.0), ("kept", 1.0)):
            keep_whole(model.base, share)
            assert are_kept(model) is (way == "kept"), "there is no room to keep them"
            started = time.process_time()
            found[way] = work(model, batch)
            took[way].append(time.process_time() - started)
    ratios = [one / other for one, other in zip(took["anew"][1:], took["kept"][1:], strict=True)]
    same = torch.equal(found["anew"], found["kept"])
    print(
        f"{work.__name__:8} {positions:4} positions: {statistics.median(took['anew'][1:]):.3f} s anew, "
        f"{statistics.median(took['kept'][1:]):.3f} s kept, {statistics.median(ratios):.2f} times as fast "
        f"({min(ratios):.2f} to {max(ratios):.2f}); {'the same bits' if same else 'OTHER VALUES'}",
        flush=True,
    )
    return statistics.median(ratios), same


def main(model_name: str, repeats: int) -> int:
    """Print the ratio for each width; 1 where the target is missed or the values differ."""
    model = hf.load(LoadRequest(find_base(model_name)))
    model.training(False)
    found = [compared(model, answered, positions, repeats) for positions in POSITIONS]
    found += [compared(model, stepped, positions, repeats) for positions in POSITIONS[1:]]
    print(f"load {os.getloadavg()[0]:.1f}")
    good = all(same for _, same in found) and (model_name == "demo" or found[0][0] >= TARGET)
    print("target met" if good else "TARGET MISSED")
    return int(not good)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    sys.exit(main(chosen.model, chosen.repeats))
