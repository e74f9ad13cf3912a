"""The test of a card as far as a CPU shows it: the refusal, failing and late parts, the document, and
random 4-bit weights under hf."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS

from doitune.base.architecture import Architecture
from doitune.doctor.diagnosis import Diagnosis
from doitune.errors import FitError
from doitune.memory.cards import Card
from doitune.selftest import gpu, gpu_part
from doitune.selftest.gpu import Part, assemble, judge, plan_parts, run_parts

LEARNT = {"losses": [3.0, 2.0], "packed": True, "seconds": 1.0}
MEASURED = {
    "losses": [9.0], "ratio": 1.02, "allocated_gib": 5.1, "reserved_gib": 5.2, "planned_gib": 5.0, "planned_high_gib": 5.5,
    "tokens_per_second": 900, "share_of_roof": None, "seconds": 2.0,
}  # fmt: skip


def test_without_a_card_it_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "find_card", lambda: None)
    with pytest.raises(FitError) as refused:
        gpu.selftest_gpu(tmp_path)
    assert refused.value.exit_code == 78


def test_a_part_that_fails_or_is_late_stops_no_other(tmp_path: Path) -> None:
    late = Part("late", {"part": "learn"}, 0.05)
    bad = Part("bad", {"part": "measure", "size": "nine"}, 60.0)
    found = dict(run_parts([late, bad], tmp_path))
    assert "within 0.05 s" in found["late"]["error"] and found["bad"]["error"]
    assert not assemble(Card(24.0), found, {})["passed"]


FIRST = """
import sys
from pathlib import Path
import doitune.backends.pick
from doitune.base.architecture import Architecture
from doitune.selftest import gpu_part
class Begun(Exception): pass
def begin(wanted, base):
    print(wanted, [name for name in ("transformers", "peft", "trl") if name in sys.modules])
    raise Begun
doitune.backends.pick.begin = begin
folder = Path(sys.argv[1])
setting = gpu_part.setting_for(Architecture("llama", 64, 128, 2, 64, 32, 8192, 4), "unsloth", 32)
for part in (lambda: gpu_part.measure(setting, folder / "base", None), lambda: gpu_part.learn("unsloth", "demo", folder / "adapter")):
    try: part()
    except Begun: pass
"""


@pytest.mark.slow
def test_unsloth_is_begun_before_transformers_in_every_part(tmp_path: Path) -> None:
    """Trap: a helper that imports transformers before `begin`: Unsloth refuses to come second, and no part
    of it would run on any card."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=True,
    )
    assert done.stdout.splitlines() == ["unsloth []", "unsloth []"]


def test_the_document_is_there_after_each_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trap: a card that hangs in the last part, and an hour's figures that nobody has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "find_card", lambda: Card(24.0))
    monkeypatch.setattr(gpu, "diagnose", lambda runs: Diagnosis((), {"backends": {"hf": None}}))
    answers = {"learn hf": {"losses": [3.0, 2.0], "packed": True}}

    def stopped(parts: list[Part], *_: Any) -> Any:
        yield "learn hf", answers["learn hf"]
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "run_parts", stopped)
    written: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):
        gpu.selftest_gpu(tmp_path, quick=True, on_document=written.append)
    (document,) = written
    assert document["verdict"] == "unfinished" and not document["passed"]
    assert (
        document["parts"]["learn hf"]["verdict"] == "passed"
        and "still to come: plan 7b hf" in document["said"]
    )


def test_bases_of_holes_do_not_lie_in_main_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trap: the system's temporary folder is main memory on many machines, and 33b's 17 GB of holes take
    their room there as they are read."""
    seen: list[Path] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gpu, "find_card", lambda: Card(24.0))
    monkeypatch.setattr(gpu, "diagnose", lambda runs: Diagnosis((), {"backends": {"hf": None}}))
    monkeypatch.setattr(
        gpu,
        "run_parts",
        lambda parts, folder, on_part: seen.append(folder) or [("learn hf", {"losses": [3.0, math.nan]})],
    )
    document = gpu.selftest_gpu(tmp_path, quick=True)
    assert seen[0].parent == tmp_path / "cache" / "doitune" and not seen[0].exists(), (
        "and nothing of it is left"
    )
    assert document["verdict"] == "FAILED" and json.loads(json.dumps(document, allow_nan=False))["parts"][
        "learn hf"
    ]["losses"] == [3.0, "nan"]


def test_the_verdict_needs_curves_that_agree_and_a_peak_near_the_plan() -> None:
    whole = assemble(
        Card(24.0, "A"),
        {"learn unsloth": LEARNT, "learn hf": {**LEARNT, "losses": [3.0, 2.03]}, "plan 7b hf": MEASURED},
        {},
    )
    assert whole["passed"] and json.loads(json.dumps(whole)) == whole
    for name, wrong in (
        ("plan 7b hf", {**MEASURED, "ratio": 1.2}),
        ("learn hf", {**LEARNT, "losses": [3.0, 2.1]}),
        ("learn hf", {**LEARNT, "packed": False}),
    ):
        document = assemble(
            Card(24.0),
            {"learn unsloth": LEARNT, "learn hf": LEARNT, "plan 7b hf": MEASURED} | {name: wrong},
            {},
        )
        assert document["verdict"] == "FAILED", wrong
    assert not assemble(Card(24.0), {}, {})["passed"], "nothing tested is nothing passed"


def test_the_document_holds_no_folders_and_no_secrets() -> None:
    text = json.dumps(
        assemble(
            Card(24.0),
            {
                "learn hf": {
                    "error": "no /home/ming/x/y.py with hf_abcdefghijklmnopqrstuvwxyz012345",
                    "seconds": 1,
                }
            },
            {},
        )
    )
    assert "ming" not in text and "hf_abc" not in text and ".../y.py" in text


def test_only_sizes_that_fit_are_measured(tmp_path: Path) -> None:
    small, large = (plan_parts(Card(gib), ["unsloth", "hf"], tmp_path, quick=False) for gib in (8.0, 80.0))
    assert "plan 33b unsloth" in [one.name for one in large] and "plan 33b unsloth" not in [
        one.name for one in small
    ]
    assert large[0].name == "kernels" and "kernels" not in [
        one.name for one in plan_parts(Card(80.0), ["hf"], tmp_path, quick=True)
    ]


@pytest.mark.parametrize(
    ("fp32", "bf16", "verdict"),
    [
        ({"a": 1e-6}, {"a": 1e-2}, "passed"),
        ({"a": 1e-6}, {"a": math.nan}, "FAILED"),
        ({"a": 1e-2}, {"a": 1e-2}, "FAILED"),
        ({}, {}, "FAILED"),
    ],
)
def test_a_kernel_that_is_far_or_not_a_number_fails(
    fp32: dict[str, float], bf16: dict[str, float], verdict: str
) -> None:
    """Trap: NaN is not greater than any bound; in Triton's interpreter bf16 gives just that."""
    assert judge({"kernels": {"fp32": fp32, "bf16": bf16}})[0] == verdict


def test_random_weights_take_the_bytes_that_the_plan_counts(tmp_path: Path) -> None:
    """Through hf's own load; on a disk the folder is holes."""
    shape = Architecture("llama", 64, 128, 2, 64, 32, 8192, 4)
    found = gpu_part.measure(gpu_part.setting_for(shape, "hf", 32, number_bytes=4), tmp_path / "base", None)
    assert found["frozen_bytes"] == found["planned_frozen_bytes"]
    assert 0 < found["losses"][0] < 30


def test_hf_learns_on_the_cpu_too_and_a_second_time_the_same(tmp_path: Path) -> None:
    """The second start reads the first one's adapter: the curves of two backends have one origin."""
    first, again = (gpu_part.learn("hf", "demo", tmp_path / "adapter", steps=3) for _ in range(2))
    assert first["packed"] and first["losses"][-1] < first["losses"][0]
    assert again["losses"] == pytest.approx(first["losses"], rel=1e-5)
