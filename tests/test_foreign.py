"""`doitune plan --simulate` for architectures that the closed form does not know: the simulator's figures,
and clear words for the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_plan_command import FORM, run

from doitune.errors import ModelError, UsageError
from doitune.memory.cards import Card
from doitune.memory.shape import find_shape
from doitune.memory.simulation.case import Case
from doitune.memory.simulation.foreign import ForeignPlan, plan_foreign
from doitune.memory.simulation.simulate import count_weights, simulate_case, simulate_config
from doitune.recipe.resolve import resolve
from doitune.system.units import GIB

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
KINDS: dict[str, dict[str, Any]] = {
    "gemma2": {"head_dim": 64, "sliding_window": 64},
    "phi3": {"pad_token_id": 0},
    "mixtral": {"num_local_experts": 4},
    "gpt_neox": {},
}


def folder_of(folder: Path, kind: str, **more: Any) -> str:
    """A folder that holds the config.json of a tiny model, and nothing else."""
    config = {"model_type": kind, **SIZES, **KINDS.get(kind, {}), **more}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


def planned(
    folder: Path,
    kind: str,
    gib: float = 24.0,
    sets: tuple[str, ...] = (),
    vocab_size: int = 1000,
    **options: Any,
) -> ForeignPlan:
    sets = ("train.tokens_per_micro_batch=256", "train.max_tokens=256", *sets)
    return plan_foreign(
        resolve("reconstruct", model=folder_of(folder, kind, vocab_size=vocab_size), overrides=sets),
        Card(gib),
        **options,
    )


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS])
def test_a_plan_is_what_is_simulated(kind: str, tmp_path: Path) -> None:
    """One sum of terms: the simulated peak, context and fragmentation. Trap: a term counted twice, or by
    the closed form of another block."""
    plan = planned(tmp_path, kind)
    config = {"model_type": kind, **SIZES, **KINDS[kind]}
    peak = simulate_config(config, kind, Case(16, 256)).peak_bytes
    outside = sum(term.nominal for term in plan.terms if term.name in ("context", "fragmentation"))
    assert plan.gib(1) * GIB == pytest.approx(peak + outside, abs=1) and plan.gib(0) < plan.gib(1) < plan.gib(
        2
    )
    assert plan.fits and plan.parameters == count_weights(config, kind)[0] > 10**6
    experts = {term.name: term.nominal for term in plan.terms}["norms"]
    assert (experts > GIB / 200) == (kind == "mixtral") == any("mixture" in text for text in plan.findings)


@pytest.mark.slow
def test_what_is_asked_for_is_what_is_simulated(tmp_path: Path) -> None:
    more = [
        planned(tmp_path, "phi3", sets=(one,))
        for one in ("lora.rank=64", "lora.dropout=0.1", "model.quantise=none", "train.optimizer=adamw")
    ]
    assert min(one.gib(1) for one in more) > planned(tmp_path, "phi3").gib(1)


def test_what_a_base_cannot_be_is_said(tmp_path: Path) -> None:
    base_alone = planned(tmp_path, "mixtral", gib=1.0, vocab_size=200_000)
    assert (
        not base_alone.fits
        and base_alone.way_out == "no change of settings is enough: take a smaller model or a card of 8 GiB"
    )
    adapter = planned(
        tmp_path, "mixtral", gib=1.2, sets=("lora.rank=1024", "train.tokens_per_micro_batch=1024")
    )
    assert not adapter.fits and adapter.way_out == "try a smaller lora.rank or train.max_tokens"
    with pytest.raises(UsageError, match="hf backend alone"):
        planned(tmp_path, "phi3", backend="unsloth")
    with pytest.raises(UsageError, match="no --what-if"):
        planned(tmp_path, "phi3", what_if=["full-logits"])
    for kind, more, said in (
        ("nosuch", {}, "cannot build a 'nosuch' model"),
        ("deepseek_v3", {"num_key_value_heads": 2}, "does not run with these sizes"),
        ("phi3", {"quantization_config": {"quant_method": "gptq"}}, "quantised already"),
    ):
        with pytest.raises(ModelError, match=said):
            plan_foreign(resolve("reconstruct", model=folder_of(tmp_path, kind, **more)), Card(24.0))
    with pytest.raises(ModelError) as unknown:
        find_shape(resolve("reconstruct", model=folder_of(tmp_path, "gpt_neox")).recipe.model)
    assert "simulates any" in unknown.value.hint


@pytest.mark.parametrize("kind", ["mamba", "rwkv"])
def test_a_model_without_attention_gets_one_sentence(kind: str, tmp_path: Path) -> None:
    """Trap: peft's or transformers' own words, about modules that no user has named."""
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": kind, "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 300})
    )
    with pytest.raises(ModelError, match="linear attention or state spaces alone"):
        plan_foreign(resolve("reconstruct", model=str(tmp_path)), Card(24.0))


def test_a_model_of_more_than_text_is_read_by_its_text_part(tmp_path: Path) -> None:
    """Gemma 3 as it is published, the language model's sizes under `text_config`. Trap: AttributeError at
    vocab_size."""
    text = {
        "model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "gemma3", "text_config": text, "vision_config": vision})
    )
    done = run("plan", "demo", "--model", str(tmp_path), "--card", "24gb", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["fits"] and set(found) >= FORM
    assert found["backend"] == "hf" and found["max_tokens_per_micro_batch"], (
        "the closed form knows its text part"
    )


def test_the_model_of_the_engine_is_not_taken_for_what_it_is_not() -> None:
    """Trap: Unsloth's engine is modelled in 4 bits, with every adapter and recomputed; a case that asks
    for less was counted as if it were that."""
    shape = find_shape(resolve("baseline", model="7b").recipe.model).architecture
    for more in (
        {"targets": ("q_proj",)},
        {"dropout": 0.1},
        {"quantise": "none"},
        {"gradient_checkpointing": False},
    ):
        with pytest.raises(UsageError, match="Unsloth's engine"):
            simulate_case(shape, Case(8, 64, "unsloth", **more))


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """The form that scripts rely on, exit 78 on a card that is too small, and a sentence each on the
    screen."""
    base = folder_of(tmp_path, "mixtral", vocab_size=200_000)
    done = run("plan", "reconstruct", "--model", base, "--card", "1", "--simulate", "--json")
    found = json.loads(done.stdout)
    assert (
        done.returncode == 78
        and set(found) >= FORM
        and not found["fits"]
        and found["max_tokens_per_micro_batch"] is None
    )
    text = run(
        "plan", "reconstruct", "--model", base, "--card", "8", "--simulate", "--set", "train.max_tokens=64"
    )
    assert text.returncode == 0 and "it fits" in text.stdout and "model_type 'mixtral'" in text.stdout
