"""tests/gpu/card.sh without a card: with stand-ins for nvidia-smi and for the processes that it starts. Each step
leaves its files, none stops another, a second call goes on; and what it types is what doitune takes."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from patience import HANGS

from doitune.cli.app import app
from doitune.selftest import gpu_part

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "tests" / "gpu"
STEPS = (
    "machine", "33b-unsloth", "33b-hf", "profile-unsloth", "profile-hf", "learn-hf", "learn-unsloth", "kernels", "7b-unsloth", "7b-hf", "13b-unsloth", "13b-hf",
    "train-demo", "train-smollm2", "evaluate", "pressure-24", "pressure-12", "limited-train", "tests",
)  # fmt: skip
"""In the order of what they are worth."""

NVIDIA_SMI = """#!/usr/bin/env bash
case "$*" in
*query-gpu=name*) echo "NVIDIA Stand-in" ;;
*memory.total*) echo 24576 ;;
*-lms*) while :; do echo 2048; sleep 0.1; done ;;
*memory.used*) echo 2048 ;;
esac
"""
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
"-c "*) exit "$NO_CARD" ;;
*card_summary.py*) exec "$REAL" "$@" ;;
esac
printf '%q ' "$@" >>"$CALLS"; echo >>"$CALLS"
case "$*" in
*gpu_part*)
  name=$(basename "${@: -1}" .json)
  [ "$name" = "$FAILS" ] && { echo '{"error": "planted"}' >"${@: -1}"; exit 0; }
  [ "$name" = "$HANGS" ] && sleep 60
  echo '{"losses": [3.0, 2.0], "reserved_gib": 19.5}' >"${@: -1}" ;;
*"train demo"*--card*) ;;
*"train demo"*)
  while [ "$1" != --runs ]; do shift; done
  mkdir -p "$2/demo/one/checkpoints/step-000001" && touch "$2/demo/one/metrics.jsonl"
  exec sleep 60 ;;
esac
"""


def rehearse(folder: Path, **given: str) -> str:
    """What a call says; `folder` holds its stand-ins and OUT."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in {"nvidia-smi": NVIDIA_SMI, "python3": PYTHON}.items():
        (folder / "bin" / name).write_text(text, encoding="utf-8")
        (folder / "bin" / name).chmod(0o755)
    (folder / "smollm2").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "REAL": sys.executable,
        "CALLS": str(folder / "calls"),
        "OUT": str(folder / "out"),
        "WORK": str(folder / "work"),
        "WHEELS": str(folder / "none"),
        "SMOLLM2": str(folder / "smollm2"),
        "NO_CARD": "0",
        "FAILS": "",
        "HANGS": "",
        **given,
    }
    done = subprocess.run(
        ["bash", str(SCRIPTS / "card.sh")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=HANGS,
        check=True,
    )
    return done.stdout + done.stderr


def calls(folder: Path) -> list[list[str]]:
    return [shlex.split(line) for line in (folder / "calls").read_text(encoding="utf-8").splitlines()]


def ended(folder: Path) -> dict[str, int]:
    return {path.stem: int(path.read_text(encoding="utf-8")) for path in (folder / "out").glob("*.rc")}


def test_every_step_runs_whatever_fails_or_hangs_and_a_second_call_skips_what_is_done(tmp_path: Path) -> None:
    said = rehearse(tmp_path, FAILS="33b-hf", HANGS="7b-hf", MOST="3")
    assert re.findall(r"^### (\S+) at ", said, re.M) == list(STEPS)
    assert ended(tmp_path) == dict.fromkeys(STEPS, 0) | {"33b-hf": 1, "7b-hf": 124}
    for name in STEPS:
        assert (tmp_path / "out" / f"{name}.log").exists() and (
            tmp_path / "out" / f"{name}.driver_mib"
        ).exists()
    summary = (tmp_path / "out" / "summary.txt").read_text(encoding="utf-8")
    assert "33b-hf: exit 1" in summary and "planted" in summary
    assert "33b-unsloth: exit 0; driver 2.00 GiB at most; reserved_gib 19.5" in summary
    assert "losses of unsloth and hf: 0.000 % apart" in summary
    assert "killed after" in (tmp_path / "out" / "train-demo.log").read_text(encoding="utf-8")
    (tmp_path / "calls").unlink()
    again = rehearse(tmp_path, MOST="3")
    assert again.count("done before") == len(STEPS) and not (tmp_path / "calls").exists()
    rehearse(tmp_path, MOST="3", AGAIN="1")
    assert set(ended(tmp_path).values()) == {0} and len(calls(tmp_path)) == 2, "only what had failed"


def test_a_step_is_begun_only_where_its_time_is_left(tmp_path: Path) -> None:
    """Trap: a step cut in half by the end of a loan, and taken for done."""
    said = rehearse(tmp_path, BUDGET="100", ONLY="33b-hf kernels learn-hf")
    assert set(ended(tmp_path)) == {"33b-hf", "learn-hf"} or set(ended(tmp_path)) == {"learn-hf"}
    assert "left for another call: " in said and "kernels" in said.splitlines()[-1]


def test_without_a_card_it_says_so_and_works_in_the_demos_size(tmp_path: Path) -> None:
    said = rehearse(tmp_path, NO_CARD="1", ONLY="33b-hf pressure-24")
    assert "no card" in said and set(ended(tmp_path)) == {"33b-hf", "pressure-24"}
    for one in calls(tmp_path):
        words = json.loads(one[2])
        assert words["size"] == "demo" and words["gib"] is None


def test_what_it_types_is_what_doitune_takes(tmp_path: Path) -> None:
    """Trap: an option or a part that was renamed, found out in the first of fifteen minutes."""
    rehearse(tmp_path, MOST="3")
    command = typer.main.get_command(app)
    commands = [one[2:] for one in calls(tmp_path) if one[:2] == ["-m", "doitune"]]
    parts = [json.loads(one[2]) for one in calls(tmp_path) if one[1] == "doitune.selftest.gpu_part"]
    assert {one[0] for one in commands} == {"doctor", "train", "resume", "eval"} and len(parts) == 13
    for words in commands:
        context = command.make_context("doitune", list(words))
        name, chosen, rest = command.resolve_command(context, words)  # type: ignore[attr-defined]
        chosen.make_context(name, rest, parent=context)
    for part in parts:
        assert part["part"] in ("kernels", "learn", "measure", "pressure", "profile")
        if "size" in part:
            assert gpu_part.architecture_of(part["size"]).layers > 1 and part["tokens"] == 2048


@pytest.mark.parametrize("part", ["measure", "pressure"])
def test_parts_of_a_rehearsal_run_on_the_cpu(tmp_path: Path, part: str) -> None:
    words: dict[str, Any] = {"part": part, "size": "demo", "backend": "hf", "tokens": 16, "gib": None}
    found = gpu_part.run({**words, "layers": 1, "folder": str(tmp_path / "base")})
    assert all(0 < loss < 30 for loss in found["losses"])
    assert part == "measure" or (found["fitted_tokens"] == 64 and found["lacked_tokens"] is None)


def test_a_profile_says_what_a_steps_time_goes_to(tmp_path: Path) -> None:
    """On the CPU: its operations stand in the kernels' place. Trap: names of the profiler that a release changed."""
    words = {"part": "profile", "size": "demo", "layers": 1, "backend": "hf", "tokens": 16, "gib": None}
    found = gpu_part.run({**words, "folder": str(tmp_path / "base")})
    assert found["kernels"] > 100 and 0 < found["busy_ms"] <= found["profiled_ms"]
    (longest, count, _), *rest = found["top"]
    assert longest >= rest[0][0] > 0 and count >= 1
    assert any(name == "aten::mm" for _, _, name in found["top"])


def test_a_slim_wheel_is_one_that_an_installer_takes(tmp_path: Path) -> None:
    """Trap: a RECORD that names what was left out."""
    names = (
        "pkg/a.py",
        "pkg/libcuda118.so",
        "pkg/libcuda130.so",
        "pkg-1.dist-info/METADATA",
        "pkg-1.dist-info/RECORD",
    )
    with zipfile.ZipFile(tmp_path / "whole.whl", "w") as whole:
        for name in names:
            whole.writestr(name, f"content of {name}")
    words = [str(tmp_path / "whole.whl"), str(tmp_path / "small.whl"), "libcuda", "+libcuda130"]
    subprocess.run([sys.executable, str(SCRIPTS / "slim.py"), *words], check=True, timeout=HANGS)
    with zipfile.ZipFile(tmp_path / "small.whl") as small:
        assert sorted(small.namelist()) == sorted(name for name in names if "118" not in name)
        lines = list(csv.reader(small.read("pkg-1.dist-info/RECORD").decode().splitlines()))
        assert {line[0] for line in lines} == set(small.namelist())
        for name, digest, size in lines:
            content = small.read(name)
            if name.endswith("RECORD"):
                continue
            own = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={own}", len(content))


def test_the_unsloth_that_is_packed_is_one_that_the_backend_takes() -> None:
    from doitune.backends.unsloth import VERSIONS

    text = (SCRIPTS / "wheels.sh").read_text(encoding="utf-8")
    for name in ("unsloth", "unsloth_zoo"):
        (found,) = re.findall(rf"[\" ]{name}==([0-9.]+)", text)
        assert VERSIONS[name][0] <= found <= VERSIONS[name][1]
