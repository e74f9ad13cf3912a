"""What a forward pass takes on a CPU where the base's matrices are made anew for each product, and where they are kept
while the model answers: CPU seconds of both ways, alternated, and the same bits.
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

os.environ.setdefault("OMP_NUM_THREADS", "1")
import torch

from doitune.backends import hf
from doitune.backends.kept_whole import keep_whole, let_go
from doitune.backends.loaded import LoadRequest
from doitune.base.find import find_base
from doitune.prompt.batch import pad
from doitune.prompt.encoded import IGNORED, Encoded

POSITIONS = (1, 32, 200)
TARGET = 2.0


def main(model_name: str, repeats: int) -> int:
    """Print the ratio for each width; 1 where the target is missed or the values differ."""
    model = hf.load(LoadRequest(find_base(model_name)))
    model.training(False)
    kept = any("forward" in vars(module) for module in model.base.modules())
    assert kept, "there is no room to keep them"
    good, token = True, 0.0
    for positions in POSITIONS:
        batch = pad([Encoded(tuple(range(10, 10 + positions)), (IGNORED,) * positions)])
        took: dict[str, list[float]] = {"anew": [], "kept": []}
        found = {}
        for _ in range(repeats + 1):
            for way, ready in (("anew", let_go), ("kept", keep_whole)):
                ready(model.base)
                started = time.process_time()
                with torch.no_grad():
                    found[way] = model.hidden(batch)
                took[way].append(time.process_time() - started)
        ratios = [one / other for one, other in zip(took["anew"][1:], took["kept"][1:], strict=True)]
        same = torch.equal(found["anew"], found["kept"])
        print(
            f"{positions:4} positions: {statistics.median(took['anew'][1:]):.3f} s anew, "
            f"{statistics.median(took['kept'][1:]):.3f} s kept, {statistics.median(ratios):.2f} times as fast "
            f"({min(ratios):.2f} to {max(ratios):.2f}); {'the same bits' if same else 'OTHER VALUES'}"
        )
        good = good and same
        token = token or statistics.median(ratios)
    print(f"load {os.getloadavg()[0]:.1f}")
    good = good and (model_name == "demo" or token >= TARGET)
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
