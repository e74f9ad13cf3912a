"""`doitune plan` as a user and a script call it: exit codes, JSON, speed without torch; and `doitune
train`, which plans before it downloads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from patience import HANGS

import doitune.memory.start
from doitune.errors import FitError
from doitune.memory.cards import Card
from doitune.memory.known import KNOWN
from doitune.memory.start import allowance, refuse_before_download
from doitune.recipe.resolve import resolve
from doitune.system.units import GIB

CHECKOUT = Path(__file__).parents[1]
FORM = {
    "schema", "card_gib", "usable_gib", "fits", "low_gib", "nominal_gib", "high_gib", "terms", "max_tokens_per_micro_batch", "levers", "ram_gib",
    "disk_gib", "hours",
}  # fmt: skip
"""What scripts rely on."""


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "CUDA_VISIBLE_DEVICES": "", **variables}
    return subprocess.run(
        [sys.executable, "-m", "doitune", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=HANGS,
        check=False,
    )


def planned(*arguments: str, code: int = 0) -> dict[str, Any]:
    done = run("plan", "reconstruct", *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_33b_on_24_gb() -> None:
    found = planned("--model", "33b", "--card", "24gb")
    assert set(found) >= FORM and found["schema"] == "doitune.plan/1"
    assert found["fits"] and found["high_gib"] <= 22.5 == found["usable_gib"]
    assert (
        found["left_gib"] == pytest.approx(found["usable_gib"] - found["high_gib"], abs=1e-3)
        and found["left_gib"] > 1
    )
    assert all(set(lever) >= {"set", "saves_gib", "fits"} for lever in found["levers"])
    assert set(found["hours"]) == {one.name for one in KNOWN if one.gib == 24} >= {"RTX 3090", "RTX 4090"}


def test_what_does_not_fit_ends_with_78() -> None:
    """The document is still printed, and its way out leads to 0 through the same command."""
    found = planned(
        "--model", "33b", "--card", "24gb", "--set", "lora.rank=64", "--set", "train.optimizer=adamw", code=78
    )
    assert not found["fits"] and found["hours"] == {}
    way = [part for lever in found["way_out"] for part in ("--set", lever["set"])]
    assert way and planned("--model", "33b", "--card", "24gb", "--set", "lora.rank=64", *way)["fits"]
    text = run("plan", "reconstruct", "--model", "33b", "--card", "24gb", "--what-if", "trained-embeddings")
    assert (
        text.returncode == 78
        and "the cheapest way out: leave out --what-if trained-embeddings" in text.stdout
    )
    assert planned("--model", "33b", "--card", "48gb", "--set", "lora.rank=64")["fits"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--card", "big"), 2, "--card 'big'"),
        (("--what-if", "magic"), 2, "full-logits"),
        (("--backend", "jax"), 2, "unsloth or hf"),
        (("--model", "no/such-model"), 65, "config.json of 'no/such-model'"),
        (("--set", "lora.targets=[wrong]"), 65, "no linear layers"),
        (("--simulate", "--what-if", "full-logits"), 2, "--simulate"),
    ],
)
def test_what_cannot_be_planned(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = run("plan", "reconstruct", *arguments)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr


def test_a_folder_of_ones_own_needs_its_config_only(tmp_path: Path) -> None:
    folder = tmp_path / "我的 模型"
    folder.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 49953,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found, known = planned("--model", str(folder), "--card", "12"), planned("--model", "7b", "--card", "12")
    assert found["nominal_gib"] == known["nominal_gib"] and found["architecture"] == str(
        folder / "config.json"
    )


def test_a_plan_is_light() -> None:
    """Without torch, transformers or the hub's library; how long it takes, tests/bench/bench_plan.py says."""
    program = (
        "import sys; sys.argv = ['doitune', 'plan', 'reconstruct', '--model', '33b', '--card', '24gb', '--json']\n"
        "from doitune.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'peft', 'bitsandbytes', 'numpy', 'huggingface_hub', 'tokenizers', 'safetensors'}\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        check=True,
    )
    assert json.loads(done.stdout)["fits"] and done.stderr.strip().splitlines()[-1] == "[]"


def test_lists_state_the_closed_form() -> None:
    done = run("recipes", "list", "--json")
    needs = {one["name"]: one["expected_memory_gib"] for one in json.loads(done.stdout)["models"]}
    assert needs["33b"] == pytest.approx(planned("--model", "33b", "--card", "24gb")["nominal_gib"], abs=0.05)


@pytest.mark.slow
def test_simulated_beside_the_closed_form() -> None:
    found = planned("--model", "qwen3-4b", "--card", "24gb", "--backend", "hf", "--simulate")
    assert abs(found["simulation"]["apart"]) < 0.01
    assert found["simulation"]["model_part_gib"] == pytest.approx(found["model_part_gib"], rel=0.01)


# doitune train


def test_train_refuses_before_it_downloads(tmp_path: Path) -> None:
    """The base is not here and could not be had: the plan's word comes first, and no run directory is
    made."""
    started = time.monotonic()
    done = run("train", "reconstruct", "--model", "33b", "--card", "16gb", "--runs", str(tmp_path / "runs"))
    assert done.returncode == 78, done.stderr
    assert "15.0 GiB are usable" in done.stderr and "a card of 24 GiB" in done.stderr
    assert not (tmp_path / "runs").exists() and time.monotonic() - started < 60


def test_a_card_here_is_planned_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a card nothing is planned; with one, the recipe must fit it, and its micro-batches are as
    large as it holds."""
    resolved = resolve("reconstruct", model="33b", overrides=["lora.rank=64", "model.backend=hf"])
    monkeypatch.setattr(doitune.memory.start, "find_card", lambda: None)
    refuse_before_download(resolved, None)
    assert allowance(resolved, "hf") is None
    monkeypatch.setattr(doitune.memory.start, "find_card", lambda: Card(24, "RTX 3090", 23.5))
    with pytest.raises(FitError, match="RTX 3090"):
        refuse_before_download(resolved, None)
    small = resolve("reconstruct", model="33b", overrides=["model.backend=hf"])
    refuse_before_download(small, None)
    with pytest.raises(FitError):
        refuse_before_download(small, Card(16))
    found = allowance(small, "hf")
    assert found is not None and 2048 <= found.tokens < 4096 and 20 < found.planned_gib < 22.5
    fixed = allowance(
        resolve("reconstruct", model="33b", overrides=["train.tokens_per_micro_batch=2048"]), "unsloth"
    )
    assert fixed is not None and fixed.tokens == 2048
    enough = allowance(resolve("reconstruct", model="7b"), "unsloth")
    assert enough is not None and enough.tokens == 8192, "more would gain nothing"


def test_a_base_that_lies_on_the_card_is_not_taken_for_another_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run asks what it is allowed when its base is loaded. Trap: its own 18 GiB missing from what is
    free, and every run on a card in the smallest micro-batches."""
    resolved = resolve("reconstruct", model="33b")
    monkeypatch.setattr(doitune.memory.start, "find_card", lambda: Card(24, "RTX 3090", 5.2))
    small = allowance(resolved, "unsloth")
    assert small is not None and small.tokens == 2048, "18 GiB are others'"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: int(17.6 * GIB))
    loaded = allowance(resolved, "unsloth")
    assert loaded is not None and loaded.tokens > 4096


def test_an_unknown_architecture_is_left_to_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}', encoding="utf-8")
    monkeypatch.setattr(doitune.memory.start, "find_card", lambda: Card(24))
    refuse_before_download(resolve("demo", model=str(tmp_path)), None)
    assert allowance(resolve("demo", model=str(tmp_path)), "hf") is None
