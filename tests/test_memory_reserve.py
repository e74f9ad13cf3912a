"""`high` beside what the driver saw: a plan that says "fits" must not run out.

Two tables. fms-acceleration's runs on one A100 of 80 GB (scripts/benchmarks/refs/a100_80gb.csv at 04702cc5 and
a100_80gb_liger.csv at 12ebdb90, transcribed): peak_torch_mem_alloc_in_bytes and nvidia_mem_reserved in MiB;
rank 16 on q, k, v and o, torch's AdamW, rows of 4,096 tokens. Unsloth's own notebooks: the "peak reserved
memory" that they print; their token counts are guessed, 2 x 2,048 for long sets and 2 x 256 for Alpaca, with
all logits at once as releases of then made them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from test_memory_published import FULL, L31_8, L33_70, MISTRAL, PEFT, RUNS, UPCAST, decoder

from doitune.base.architecture import Architecture
from doitune.memory.cards import Card
from doitune.memory.levers import high_gib
from doitune.memory.plan import document, outlook, plan_memory
from doitune.memory.setting import Setting
from doitune.memory.terms import allocated_bytes, count, wide_bytes
from doitune.recipe.resolve import resolve
from doitune.system.units import GIB

LLAMA_2_70 = decoder(8192, 28672, 80, 64, 8, 32000)
QWEN_3_32 = Architecture("qwen3", 5120, 25600, 64, 8192, 1024, 151936, 64)
QWEN_3_14 = Architecture("qwen3", 5120, 17408, 40, 5120, 1024, 151936, 40)
FUSED = PEFT | {"fused-loss"}


@dataclass(frozen=True)
class Measured:
    """`allocated`: bytes; `driver`: MiB, as nvidia-smi counts them."""

    name: str
    setting: Setting
    allocated: int
    driver: int

    @property
    def planned(self) -> float:
        return allocated_bytes(count(self.setting), 1) / self.allocated


def fms(
    name: str,
    shape: Architecture,
    rows: int,
    found: tuple[int, int],
    what_if: frozenset[str] = PEFT,
    dropout: float = 0.0,
) -> Measured:
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    one = Setting(
        shape, "hf", 16, 4096 * rows, optimizer="adamw", targets=targets, dropout=dropout, what_if=what_if
    )
    return Measured(f"{name}, {rows} rows", one, *found)


FMS = [
    fms("Mistral-7B", MISTRAL, 4, (15860019712, 19931), FULL),
    fms("Mistral-7B", MISTRAL, 8, (26849751552, 34355), FULL),
    fms("Mistral-7B, fp32 upcast", MISTRAL, 4, (22825932800, 27023), UPCAST),
    fms("Mistral-7B, fp32 upcast", MISTRAL, 8, (40278956032, 47145), UPCAST),
    fms("Llama-3-8B, Liger", L31_8, 4, (14411297792, 15527), dropout=0.1),
    fms("Llama-3-8B, Liger", L31_8, 8, (22936744960, 24359), dropout=0.1),
    fms("Llama-3-8B, Liger", L31_8, 16, (39987639296, 42409), dropout=0.1),
    fms("Llama-3-8B, Liger", L31_8, 32, (74089427968, 78505), dropout=0.1),
    fms("Llama-3-8B, fused cross-entropy", L31_8, 4, (27259280384, 41221), FUSED, 0.1),
    fms("Llama-3-8B, fused cross-entropy", L31_8, 8, (48632712192, 75995), FUSED, 0.1),
    fms("Llama-2-70B", LLAMA_2_70, 4, (68159977472, 72829), FULL),
]  # fmt: skip

NOTEBOOKS = [
    ("Llama-3.3-70B", 42.79, Setting(L33_70, tokens=4096, what_if=FULL)),
    ("Qwen3-32B, rank 32", 24.53, Setting(QWEN_3_32, rank=32, tokens=4096, what_if=FULL)),
    ("Llama-3.1-8B, Alpaca", 7.92, Setting(L31_8, tokens=512, what_if=FULL)),
]

EXTRAPOLATED = "Unsloth 8B", "Unsloth's HF", "Unsloth 70B", "Unsloth Mistral"
"""Lines that Unsloth's blog extrapolates by its own account: nobody saw these."""


@pytest.mark.parametrize("one", FMS, ids=[one.name for one in FMS])
def test_high_is_above_what_nvidia_smi_saw(one: Measured) -> None:
    """Trap: a verdict by the tensors, to which the allocator adds up to three quarters of what comes and
    goes."""
    assert one.driver / 1024 <= high_gib(one.setting), f"{high_gib(one.setting):.2f} GiB"
    assert one.planned == pytest.approx(1, abs=0.10), "allocated beside allocated"


def test_high_is_above_what_others_measured() -> None:
    seen = [one for one in RUNS if not one.source.startswith(EXTRAPOLATED)]
    assert len(seen) >= 23
    below = {one.source: high_gib(one.setting) for one in seen if high_gib(one.setting) < one.published}
    assert not below


@pytest.mark.parametrize(("name", "reserved", "setting"), NOTEBOOKS, ids=[name for name, _, _ in NOTEBOOKS])
def test_high_is_above_what_unsloths_notebooks_reserved(name: str, reserved: float, setting: Setting) -> None:
    context = next(term.high for term in count(setting) if term.name == "context") / GIB
    assert reserved <= high_gib(setting) - context


def test_the_mean_error_over_all_runs_is_under_12_percent() -> None:
    errors = [abs(one.error) for one in RUNS] + [abs(one.planned - 1) for one in FMS]
    assert sum(errors) / len(errors) < 0.12


def test_allocated_reserved_and_seen_are_apart_and_the_last_is_judged() -> None:
    resolved = resolve("reconstruct", model="33b")
    plan = plan_memory(resolved, Card(24))
    found = document(plan, outlook(resolved.recipe, plan))
    for place in range(3):
        assert found["allocated_gib"][place] <= found["reserved_gib"][place] < found["driver_gib"][place]
    assert found["driver_gib"][2] == found["high_gib"] and plan.fits
    tight = replace(plan.card, free_gib=(plan.reserved_gib(2) + plan.gib(2)) / 2)
    assert not plan_memory(resolved, tight).fits, "what torch reserves would fit, the context does not"


def test_layers_in_16_bits_of_a_ready_made_4_bit_base_are_counted(tmp_path: Path) -> None:
    """As Unsloth's dynamic bases state them; a vision tower's blocks are not the decoder's. Trap: 2.2 GiB
    more on Qwen3-14B than the plan said."""
    sizes = QWEN_3_14.family.names.config(
        {
            name: getattr(QWEN_3_14, name)
            for name in ("hidden", "intermediate", "layers", "heads", "vocabulary")
        }
        | {"head_size": 128, "key_value_heads": 8, "tied": False}
    )
    how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    plans = []
    for skipped in (
        ["lm_head", "visual.blocks.3", "vision_tower.encoder.layers.2.mlp"],
        [
            "lm_head",
            "model.layers.3.mlp",
            "model.layers.39.self_attn.q_proj",
            "language_model.model.layers.4",
        ],
        ["down_proj", "model.layers.99.mlp"],
    ):
        stored = {**how, "llm_int8_skip_modules": skipped}
        config = {"model_type": "qwen3", **sizes, "quantization_config": stored}
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        plans.append(plan_memory(resolve("reconstruct", model=str(tmp_path)), Card(48)))
    none, some, down = plans
    assert none.setting.wide == () and not none.findings
    assert dict(some.setting.wide) == {
        "q_proj": 2, "k_proj": 1, "v_proj": 1, "o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 2,
    }  # fmt: skip
    kept = 5120 * (2 * 5120 + 2 * 1024 + 5120 + 6 * 17408)
    assert wide_bytes(some.setting) == 2 * kept
    assert some.gib(1) - none.gib(1) == pytest.approx((2 - 0.51587) * kept / GIB, rel=1e-3)
    assert any("stay in 16 bits" in text for text in some.findings)
    assert dict(down.setting.wide) == {"down_proj": 40}
