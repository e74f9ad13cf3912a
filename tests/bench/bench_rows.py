"""Rows a second and peak memory from a file of one's own to the first step, the first time and from the cache.
    python tests/bench/bench_rows.py [rows ...] [--model FOLDER] [--file JSONL]

Rows of two turns, about 150 Chinese characters (log-normal), under the recipe's turns (`doit`) and under the model's
own chat template. Each figure is of a process of its own, which reads, parts, draws, looks for leaks, encodes, proves
and orders an epoch, as a training does before its weights are loaded; its children (the template's renderer) are named
apart. `cpu` is of all threads: on a machine that is busy with other things, rows a second of the clock are fewer.
Memory is the process's own, looked at every 50 ms; in brackets with the pages of files that it maps, which the
system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

SMOLLM2 = Path("~/.cache/doitune-dev/smollm2-135m").expanduser()
ROWS = (20_000, 160_000, 1_000_000)


def write_rows(path: Path, count: int, source: Path | None) -> None:
    """`count` rows into a file: new ones, or the first of `source`."""
    if source:
        with source.open("rb") as lines, path.open("wb") as file:
            file.writelines(islice(lines, count))
        return
    from bench_encode import Writer

    writer = Writer(1)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            size = 450 * writer.dice.lognormvariate(-0.125, 0.5)
            texts = [writer.text(size * 0.4), writer.text(size * 0.6)]
            turns = [
                {"role": role, "content": text}
                for role, text in zip(("user", "assistant"), texts, strict=True)
            ]
            row = {"messages": turns, "ability": ("qa", "writing")[number % 2]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def watch(own: list[int], over: threading.Event) -> None:
    """Keep the most anonymous memory of this process, in bytes."""
    while not over.wait(0.05):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        [now] = [int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")]
        own[0] = max(own[0], now)


def once(path: str, model: str, template: str) -> None:
    """Prepare once and print what it took, as JSON."""
    import torch  # noqa: F401  # a training has it in memory, too

    from doitune.recipe.resolve import resolve
    from doitune.train.plan import plan_training

    sets = [f"prompt.template={template}", "data.on_overlong=drop"]
    own, over = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(own, over))
    watcher.start()
    resolved = resolve("own", corpus=path, model=model, overrides=sets)
    wall, cpu = time.perf_counter(), time.process_time()
    material = plan_training(resolved).material
    material.course.members(0)
    over.set()
    watcher.join()
    took = {
        "rows": len(material.examples),
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "own": own[0] / 2**30,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "child": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
        "cached": any("taken from the cache" in note for note in material.notes),
    }
    print(json.dumps(took))


def main() -> None:
    """Run the bench and print plain figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    parser.add_argument("--file", type=Path, help="take rows from here")
    parser.add_argument("--templates", nargs="*", default=("doit", "model"))
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        once(*asked.once)
        return
    for count in asked.rows:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "rows.jsonl"
            write_rows(path, count, asked.file)
            environment = {**os.environ, "XDG_CACHE_HOME": scratch}
            for template in asked.templates:
                for when in ("first", "again"):
                    load = os.getloadavg()[0]
                    command = [sys.executable, __file__, "--once", str(path), str(asked.model), template]
                    found = json.loads(
                        subprocess.run(command, env=environment, check=True, capture_output=True).stdout
                    )
                    assert found["cached"] == (when == "again")
                    print(
                        f"{count:>9,} rows, {path.stat().st_size / 1e6:.0f} MB, {template:5} {when}: "
                        f"{found['wall']:.1f} s, {found['rows'] / found['wall']:,.0f} rows/s; cpu {found['cpu']:.1f} s "
                        f"({1e6 * found['cpu'] / found['rows']:.0f} µs a row); memory {found['own']:.2f} GiB "
                        f"({found['peak']:.2f}), "
                        f"a child {found['child']:.2f} GiB; load {load:.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
