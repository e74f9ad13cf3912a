"""What a checkpoint costs: a 100 MB state saved and verified as a run does it, beside safetensors' bare
`save_file`, in the same process.
    python tests/bench/bench_checkpoint.py [--mb 100] [--times 5] [--dir FOLDER]

Prints one line a way: seconds (median, worst), and the share of a run that saves every ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from doitune.run.checkpoints import keep
from doitune.run.folder import create_run, save_checkpoint

INTERVAL_SECONDS = 600


def tensors(megabytes: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """An adapter in fp32 and moments in 8 bits, in the shares that a run has: two bytes of moments for
    four of weights."""
    dice = torch.Generator().manual_seed(0)
    weights = {f"layer.{n}": torch.randn(1 << 18, generator=dice) for n in range(megabytes * 2 // 3)}
    moments = {
        f"layer.{n}/state": torch.randint(0, 255, (1 << 19,), dtype=torch.uint8, generator=dice)
        for n in range(megabytes * 2 // 3)
    }
    return weights, moments


def measure(name: str, times: int, work: Callable[[int], None], size: int) -> float:
    """Median seconds of `work`."""
    seconds = []
    for number in range(times):
        os.sync()
        began = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    share = 100 * median / INTERVAL_SECONDS
    print(
        f"{name:44} {median:.3f} s median, {max(seconds):.3f} s worst, {size / median / 2**20:,.0f} MiB/s, {share:.3f} % of ten minutes"
    )
    return median


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=None)
    given = parser.parse_args()
    weights, moments = tensors(given.mb)
    size = sum(one.numel() * one.element_size() for part in (weights, moments) for one in part.values())
    root = Path(tempfile.mkdtemp(dir=given.dir))
    run = create_run(root / "runs", "bench")

    def fill(folder: Path) -> None:
        save_file(weights, folder / "adapter_model.safetensors")
        save_file(moments, folder / "state.safetensors")
        (folder / "state.json").write_text(json.dumps({"step": 1}))

    def bare(number: int) -> None:
        (root / "bare").mkdir(exist_ok=True)
        fill(root / "bare")

    def saved(number: int) -> None:
        save_checkpoint(run, number + 1, fill, size)
        keep(run.checkpoints, {number, number + 1})

    print(f"state of {size / 1e6:.0f} MB on {given.dir or tempfile.gettempdir()}, {given.times} times")
    plain = measure("safetensors save_file, nothing flushed", given.times, bare, size)
    whole = measure("save, flush, publish, verify, clear away", given.times, saved, size)
    measure(
        "verify (as a resume does)",
        given.times,
        lambda number: _verify(run.checkpoints.all()[-1].verify()),
        size,
    )
    print(
        f"safety costs {whole - plain:.3f} s a checkpoint; under 1 s: {'yes' if whole < 1 else 'NO'}; under 0.5 %: {'yes' if whole < 3 else 'NO'}"
    )
    shutil.rmtree(root)


def _verify(wrong: list[str]) -> None:
    assert not wrong


if __name__ == "__main__":
    main()
