"""A family on Ray: a cluster of two workers, one of them lost midway, makes what this machine makes alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS, wait_for
from test_cli_grow import PROGRAM, grow, plan, results

from doitune.growth.folder import GROWTH
from doitune.run.layout import METRICS

__all__ = ["plan"]  # the fixture


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores, and two workers with one each."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'doitune[cluster]'")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    try:
        yield made
    finally:
        made.shutdown()


@pytest.mark.slow
def test_a_worker_that_is_lost_midway_changes_no_byte(cluster: Any, plan: Path, tmp_path: Path) -> None:
    workers = [cluster.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
    quiet = grow(plan, "--name", "quiet", "--at-once", "2", cwd=tmp_path)
    assert quiet.returncode == 0, quiet.stderr
    there = subprocess.Popen(
        [*PROGRAM, "grow", str(plan), "--on", "ray", "--json"],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    growth = tmp_path / "runs" / "small"
    wait_for(lambda: len([*growth.glob(f"*/{METRICS}")]) > 1 or there.poll() is not None)  # both at work
    cluster.remove_node(workers[0], allow_graceful=False)
    out, said = there.communicate(timeout=HANGS)
    assert there.returncode == 0, said
    assert "will be retried" in said, "no task was lost"
    assert not json.loads(out)["unfinished"]
    assert results(growth) == results(tmp_path / "runs" / "quiet")


def test_without_ray_it_says_what_to_install(plan: Path, tmp_path: Path) -> None:
    """Nothing is begun but the family's record, which the same command goes on with elsewhere."""
    code = "import sys; sys.modules['ray'] = None; from doitune.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "grow", str(plan), "--on", "ray"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 78 and "doitune[cluster]" in done.stderr, done.stderr
    assert [path.name for path in (tmp_path / "runs" / "small").glob("*.json")] == [GROWTH]
