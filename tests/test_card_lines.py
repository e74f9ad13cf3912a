"""Lines that only a card reaches: each is reached under a stand-in for torch.cuda, or stands in a list with its
reason, which a new one has to join."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from doitune.errors import FitError
from doitune.system.units import GIB

ROOT = Path(__file__).parents[1]
HERE, NO_CODE = "this file", "a word in a record"
ON_BOTH = "the same lines on either device"
CARD_ONLY = "Triton compiles for a card alone: tests/gpu/card.sh"
REACHED = {
    "backends/hf.py load": HERE,
    "backends/optimiser.py build_optimiser": HERE,
    "backends/out_of_memory.py free_cache": HERE,
    "backends/precision.py compute_dtype": HERE,
    "backends/probe.py place_of": HERE,
    "backends/unsloth.py why_not": "test_unsloth_backend.py",
    "backends/unsloth_load.py base_options": "test_unsloth_backend.py",
    "backends/unsloth_load.py load_base_and_adapter": "test_unsloth_backend.py",
    "base/make.py _add": ON_BOTH,
    "base/make.py _ingredients": NO_CODE,
    "base/nf4.py stored": ON_BOTH,
    "base/nf4.py rounded": ON_BOTH,
    "doctor/ask.py answer": HERE,
    "doctor/engines.py torch_checks": HERE,
    "export/measure.py _lacking_memory": HERE,
    "export/measure.py _release": HERE,
    "memory/limit.py limit_process": "test_card_limit.py",
    "memory/start.py _own_gib": "test_plan_command.py",
    "prepare/origin.py _device": HERE,
    "prompt/batch.py sent": "test_card_waits.py",
    "run/model.py _checkpoints_gradients": HERE,
    "selftest/gpu_part.py _ready": HERE,
    "selftest/gpu_part.py _reserved": HERE,
    "selftest/gpu_part.py kernels": CARD_ONLY,
    "selftest/gpu_part.py measure": HERE,
    "selftest/step_profile.py _timed": HERE,
    "selftest/step_profile.py step_profile": HERE,
    "train/joining.py _take_card": HERE,
    "train/joining.py joined": HERE,
    "train/peak.py card_gib": HERE,
    "train/peak.py peak_memory_gib": HERE,
    "train/peak.py reset_peak": HERE,
    "train/session.py _setup": HERE,
    "train/trial.py same_random_state": HERE,
}
"""Function by function: the test that reaches its line for a card, or why none does."""


def card_functions() -> Iterator[str]:
    """Functions of doitune that ask torch.cuda or name the device."""
    for path in sorted((ROOT / "doitune").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(map(_is_cards, ast.walk(function))):
                yield f"{path.relative_to(ROOT / 'doitune').as_posix()} {function.name}"


def _is_cards(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and (node.value == "cuda" or node.value.startswith("cuda:"))
    return (
        isinstance(node, ast.Attribute) and node.attr == "cuda" and getattr(node.value, "id", "") == "torch"
    )


def test_every_line_for_a_card_is_reached_or_has_a_reason() -> None:
    """Trap: a branch for a card that runs for the first time on the first user's."""
    found = set(card_functions())
    assert len(found) > 20 and found == set(REACHED), found ^ set(REACHED)
    for reason in REACHED.values():
        assert reason in (HERE, NO_CODE, ON_BOTH, CARD_ONLY) or (ROOT / "tests" / reason).is_file()


CUDA = torch.device("cuda", 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A card that torch finds; what it is asked to do. Libraries come before it: they look for one as they load."""
    import_module("doitune.backends.hf")
    done: list[str] = []

    def does(name: str, answer: Any = None) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            done.append(name)
            return answer

        return call

    for name, answer in {
        "is_available": True,
        "device_count": 2,
        "get_device_name": "NVIDIA Stand-in",
        "get_device_capability": (8, 9),
        "get_device_properties": SimpleNamespace(total_memory=24 * GIB),
        "is_bf16_supported": True,
        "empty_cache": None,
        "max_memory_reserved": 3 * GIB,
        "max_memory_allocated": 2 * GIB,
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "get_rng_state": "the card's state",
        "set_rng_state": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, does(name, answer))
    return done


MODEL: Any = SimpleNamespace(device=CUDA, compute_dtype="bfloat16")


def test_a_peak_is_the_cards(asked: list[str]) -> None:
    from doitune.train.peak import card_gib, peak_memory_gib, reset_peak

    reset_peak(MODEL)
    assert (card_gib(MODEL), peak_memory_gib(MODEL)) == (24.0, 3.0)
    assert "reset_peak_memory_stats" in asked


def test_a_trial_puts_the_cards_random_state_back(asked: list[str]) -> None:
    from doitune.train.trial import same_random_state

    with pytest.raises(KeyError), same_random_state(MODEL):
        raise KeyError
    assert asked == ["get_rng_state", "set_rng_state"]


def test_freed_memory_goes_back_to_the_card(asked: list[str]) -> None:
    from doitune.backends.out_of_memory import free_cache
    from doitune.export.measure import _release

    free_cache()
    _release()
    assert asked.count("empty_cache") == 2


def test_a_card_computes_in_what_it_has(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from doitune.backends.precision import compute_dtype

    assert compute_dtype("auto", CUDA) == compute_dtype("bf16", CUDA) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert compute_dtype("auto", CUDA) == compute_dtype("fp16", CUDA) == torch.float16
    with pytest.raises(FitError, match="only emulates"):
        compute_dtype("bf16", CUDA)


def test_records_name_the_card(asked: list[str]) -> None:
    from doitune.backends.probe import place_of
    from doitune.doctor.ask import answer
    from doitune.doctor.engines import torch_checks
    from doitune.prepare.origin import _device

    assert _device(MODEL) == "cuda: NVIDIA Stand-in"
    place = place_of(MODEL)
    assert (place["device"], place["processor"], place["threads"]) == ("cuda", "NVIDIA Stand-in", "")
    facts = answer()["torch"]
    (check,) = torch_checks({"torch": facts}, True)
    assert check.state == "ok" and check.text.count("NVIDIA Stand-in (sm_89, bf16)") == 2
    card = {"name": "NVIDIA Stand-in", "capability": "89", "bf16": True}
    assert facts["cuda"] and facts["cards"] == [card, card]


def test_a_card_checkpoints_gradients_and_has_paged_states(asked: list[str]) -> None:
    from bitsandbytes.optim import PagedAdamW8bit

    from doitune.backends.optimiser import build_optimiser
    from doitune.recipe.fields import TrainSection
    from doitune.run.model import _checkpoints_gradients

    recipe: Any = SimpleNamespace(train=TrainSection())
    assert _checkpoints_gradients(recipe)
    weights = [("w", torch.nn.Parameter(torch.ones(4)))]
    section = TrainSection(optimizer="paged_adamw_8bit")
    assert isinstance(build_optimiser(weights, section, CUDA), PagedAdamW8bit)
    assert not isinstance(build_optimiser(weights, section, torch.device("cpu")), PagedAdamW8bit)


def test_hf_loads_onto_the_card(asked: list[str], tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from doitune.backends import hf
    from doitune.backends.loaded import LoadRequest
    from doitune.base.find import find_base

    class Asked(Exception):
        pass

    def load(request: LoadRequest, device: torch.device, dtype: torch.dtype) -> Any:
        raise Asked(device.type, dtype)

    monkeypatch.setattr(hf, "_load_base", load)
    with pytest.raises(Asked) as found:
        hf.load(LoadRequest(find_base(str(tiny_base))))
    assert found.value.args == ("cuda", torch.bfloat16)


def test_a_model_in_fp32_lies_on_the_card_and_not_in_main_memory(
    asked: list[str], tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.base.find import find_base
    from doitune.export import measure

    monkeypatch.setattr(measure, "ram", lambda: (1.0, 1e-9))
    base = find_base(str(tiny_base))
    assert measure._lacking_memory(base) == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "are free" in measure._lacking_memory(base)


def test_each_process_takes_its_card_and_tensors_travel_by_nccl(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.train.joining import joined

    given = {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
    }
    for name, value in {**given, "CUDA_VISIBLE_DEVICES": "4, 7", "GLOO_SOCKET_IFNAME": "lo"}.items():
        monkeypatch.setenv(name, value)
    met: list[Any] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: met.append(backend))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: met.append("left"))
    with joined() as team:
        assert (team.rank, team.size, os.environ["CUDA_VISIBLE_DEVICES"]) == (1, 2, "7")
    assert met == ["cpu:gloo,cuda:nccl", "left"]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(FitError, match="process 2 has no card"), joined():
        pass


def test_a_run_on_a_card_is_allowed_what_the_plan_says(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.memory.limit import Limit
    from doitune.run.folder import Run
    from doitune.train import session
    from doitune.train.team import Team

    wanted: list[Any] = []
    monkeypatch.setattr(session, "allowance", lambda *words: wanted.append(words) or "allowed")
    plan: Any = SimpleNamespace(resolved="r", recipe="recipe", material="m")
    for device, found in ((CUDA, "allowed"), (torch.device("cpu"), None)):
        loaded = session._Loaded(plan, "hf", SimpleNamespace(device=device), Team(), Limit(24.0, "said"))  # type: ignore[arg-type]
        setup = session._setup(loaded, Run(tmp_path), None, lambda event: None, 0.0)
        assert setup.allowance == found
    assert wanted == [("r", "hf", 24.0)]


def test_a_measurement_has_the_cards_peak_and_pace_beside_the_plan(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model itself computes on the CPU here."""
    from doitune.backends import hf
    from doitune.base.architecture import Architecture
    from doitune.memory import limit
    from doitune.memory.cards import Card
    from doitune.selftest import gpu_part

    own = hf.load

    def load(request: Any) -> Any:
        with monkeypatch.context() as without:
            without.setattr(torch.cuda, "is_available", lambda: False)
            return own(request)

    monkeypatch.setattr(hf, "load", load)
    monkeypatch.setattr(limit, "limit_process", lambda card: limit.Limit(card.gib, "said", "A", 80.0, 21.95))
    shape = Architecture("llama", 64, 128, 2, 64, 32, 8192, 4)
    setting, card = (
        gpu_part.setting_for(shape, "hf", 8, number_bytes=4),
        Card(24.0, "NVIDIA GeForce RTX 4090"),
    )
    found = gpu_part.measure(setting, tmp_path / "measured", card)
    assert (found["allocated_gib"], found["reserved_gib"]) == (2.0, 3.0) and len(found["losses"]) == 2
    assert found["tokens_per_second"] > 0 and found["share_of_roof"] is not None
    monkeypatch.setattr(gpu_part, "MOST_DOUBLINGS", 1)
    pressed = gpu_part.pressure(setting, tmp_path / "pressed", card)
    assert pressed["limit"]["card_limit"]["card_gib"] == 24.0 and pressed["reserved_gib"] == 3.0


def test_a_profile_counts_the_cards_kernels_and_waits_before_it_looks_at_the_clock(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's profiler is played: it needs the card itself."""
    from doitune.selftest.step_profile import WARM, step_profile

    def event(device: str, key: str, count: int, microseconds: int) -> SimpleNamespace:
        kind = SimpleNamespace(name=device)
        return SimpleNamespace(
            device_type=kind, key=key, count=count, self_device_time_total=microseconds, self_cpu_time_total=9
        )

    class Profile:
        def __init__(self, activities: list[torch.profiler.ProfilerActivity]) -> None:
            assert torch.profiler.ProfilerActivity.CUDA in activities

        def __enter__(self) -> Profile:
            return self

        def __exit__(self, *problem: Any) -> None:
            pass

        def key_averages(self) -> list[SimpleNamespace]:
            kernels = [event("CUDA", "gemm", 2, 3000), event("CUDA", "copy", 5, 4000)]
            return [*kernels, event("CPU", "cudaLaunchKernel", 7, 0), event("CPU", "aten::mm", 2, 0)]

    monkeypatch.setattr(torch.profiler, "profile", Profile)
    found = step_profile(lambda: None)
    assert asked.count("synchronize") == WARM + 1
    assert (found["kernels"], found["busy_ms"], found["calls"]) == (7, 7.0, {"cudaLaunchKernel": 7})
    assert found["top"] == [[4.0, 5, "copy"], [3.0, 2, "gemm"]]
