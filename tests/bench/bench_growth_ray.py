"""A family on a Ray cluster of two workers, one of which is killed midway, against the same family on this machine.
    python tests/bench/bench_growth_ray.py [PLAN] [--runs DIR] [--after MEMBERS]

PLAN: `demo` with --quick where none is named. Prints the seconds of both and how many adapters, and answers, are equal
to the byte; ends with 1 where one is not, or where no task was lost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

PROGRAM = [sys.executable, "-m", "doitune", "grow"]


def made(family: Path) -> dict[str, str]:
    """The sha256 of every adapter and of every file of outcomes, by its path in the family."""
    files = [*family.rglob("adapter_model.safetensors"), *family.rglob("outcomes.jsonl")]
    return {
        str(path.relative_to(family)): sha256(path.read_bytes()).hexdigest()
        for path in files
        if not path.is_symlink() and not any(part.is_symlink() for part in path.parents)
    }


def finished(family: Path) -> int:
    """How many members have been asked."""
    return len({path.relative_to(family).parts[0] for path in family.rglob("outcomes.jsonl")})


def on_ray(words: list[str], runs: Path, after: int) -> tuple[float, str]:
    """Seconds of the family on a cluster that loses a worker once `after` members are asked; what it said."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    try:
        workers = [cluster.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
        started = time.perf_counter()
        command = [*PROGRAM, *words, "--name", "on-ray", "--runs", str(runs), "--on", "ray"]
        with (runs / "ray.log").open("w", encoding="utf-8") as log:
            there = subprocess.Popen(
                command, env={**os.environ, "RAY_ADDRESS": cluster.address}, stdout=log, stderr=log
            )
            while there.poll() is None and finished(runs / "on-ray") < after:
                time.sleep(0.2)
            cluster.remove_node(workers[0], allow_graceful=False)
            there.wait()
        said = (runs / "ray.log").read_text(encoding="utf-8")
        assert there.returncode == 0, said[-3000:]
        return time.perf_counter() - started, said
    finally:
        cluster.shutdown()


def main() -> None:
    """Make both and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", nargs="?", default="")
    parser.add_argument("--runs", type=Path, default=Path("runs-bench-ray"))
    parser.add_argument(
        "--after", type=int, default=4, help="members that are asked before a worker is killed"
    )
    asked = parser.parse_args()
    asked.runs.mkdir(parents=True, exist_ok=True)
    words = [asked.plan] if asked.plan else ["demo", "--quick"]
    seconds, said = on_ray(words, asked.runs, asked.after)
    print(f"on Ray: {seconds:.0f} s, tasks lost and done again: {said.count('will be retried')}", flush=True)
    started = time.perf_counter()
    here = [*PROGRAM, *words, "--name", "here", "--runs", str(asked.runs), "--at-once", "2"]
    subprocess.run(here, check=True, stdout=subprocess.DEVNULL)
    print(f"on this machine: {time.perf_counter() - started:.0f} s", flush=True)
    there, local = made(asked.runs / "on-ray"), made(asked.runs / "here")
    assert local and there.keys() == local.keys(), there.keys() ^ local.keys()
    equal = sum(there[name] == local[name] for name in local)
    adapters = sum(name.endswith("safetensors") for name in local)
    print(f"{equal} of {len(local)} files are equal to the byte ({adapters} of them adapters)")
    sys.exit(equal != len(local) or "will be retried" not in said)


if __name__ == "__main__":
    main()
