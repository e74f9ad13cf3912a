"""A row that a base cannot read is refused before it is loaded, and nothing asked beyond its context is a
score."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_hf import model_of, rows, stir

from doitune.backends.loaded import LoadedModel
from doitune.base.context import Context, context_of
from doitune.errors import DataError
from doitune.evals.suites import doit
from doitune.prompt.batch import pad
from doitune.recipe.resolve import resolve
from doitune.train.plan import describe, plan_training

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [64.0] * 8, "factor": 4.0}

STATED: dict[str, tuple[dict[str, Any], Context | None]] = {
    "rotary of a known family": (
        {"model_type": "llama", "max_position_embeddings": 2048},
        Context(2048, "unseen"),
    ),
    "rotary of another": (
        {"model_type": "phi", "max_position_embeddings": 2048, "rope_theta": 1e4},
        Context(2048, "unseen"),
    ),
    "learned positions": ({"model_type": "opt", "max_position_embeddings": 2048}, Context(2048, "error")),
    "learned, by GPT-2's name": ({"model_type": "gpt2", "n_positions": 1024}, Context(1024, "error")),
    "none": ({"model_type": "bloom"}, None),
    "text part": ({"model_type": "x", "text_config": {"n_positions": 8}}, Context(8, "error")),
    "a fixed scaling": (
        {"model_type": "llama", "max_position_embeddings": 64, "rope_scaling": {"rope_type": "yarn"}},
        Context(64, "unseen"),
    ),
    "dynamic": (
        {"model_type": "llama", "max_position_embeddings": 64, "rope_scaling": {"type": "dynamic"}},
        Context(64, "switch"),
    ),
    "longrope as Phi-3 writes it": (
        {
            "model_type": "phi3",
            "max_position_embeddings": 131072,
            "original_max_position_embeddings": 4096,
            "rope_scaling": {"type": "longrope"},
        },
        Context(4096, "switch"),
    ),
    "by layer": (
        {
            "model_type": "x",
            "max_position_embeddings": 9,
            "rope_parameters": {"full": {"rope_type": "longrope", "original_max_position_embeddings": 7}},
        },
        Context(7, "switch"),
    ),
}


@pytest.mark.parametrize("name", list(STATED))
def test_the_context_that_a_config_states(name: str) -> None:
    config, context = STATED[name]
    assert context_of(config) == context


def base_with(tiny_base: Path, folder: Path, **config: Any) -> Path:
    shutil.copytree(tiny_base, folder)
    known = json.loads((folder / "config.json").read_text())
    for key in ("rope_parameters", "rope_scaling"):
        known.pop(key, None)
    (folder / "config.json").write_text(json.dumps({**known, **config}))
    return folder


def scaled(tiny_base: Path, folder: Path, switch: int) -> Path:
    scaling = {**LONGROPE, "original_max_position_embeddings": switch, "rope_theta": 1e4}
    return base_with(tiny_base, folder, rope_parameters=scaling)


def test_what_scaled_positions_do_beyond_their_switch(tiny_base: Path, tmp_path: Path) -> None:
    """Trap: a yardstick with the same effect. A row alone and beside a longer one differ only beyond."""
    model = model_of(scaled(tiny_base, tmp_path / "base", 40))
    stir(model)
    stir(model, 2)
    short, below, beyond = rows((20, 38, 60))

    def loss_of_short(*others: Any) -> float:
        with torch.no_grad():
            return float(model.loss(pad([short, *others]), 1).sums[0])

    assert loss_of_short(below) == pytest.approx(loss_of_short(), rel=1e-6)
    assert abs(loss_of_short(beyond) / loss_of_short() - 1) > 1e-5  # rounding is at 1e-7


def planned(base: Path, recipe: Path, *sets: str) -> Any:
    sets = (f"model.name={base}", "train.max_tokens=256", *sets)
    return plan_training(resolve(str(recipe), overrides=sets))


@pytest.mark.parametrize("kind", ["switch", "learned"])
def test_rows_beyond_the_base_are_refused_or_dropped(
    tiny_base: Path, tiny_recipe: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "switch":
        base = scaled(tiny_base, tmp_path / "base", 40)
    else:
        base = base_with(tiny_base, tmp_path / "base", model_type="opt", max_position_embeddings=40)
    with pytest.raises(DataError, match="tokens, more than the base's 40") as caught:
        planned(base, tiny_recipe)
    assert ".json:" in caught.value.problems[0].place and "on_overlong=drop" in caught.value.hint
    assert "max_tokens=" not in caught.value.hint
    material = planned(base, tiny_recipe, "data.on_overlong=drop").material
    kept = [*material.encoded, *(one for part in material.valid_encoded.values() for one in part)]
    assert kept and max(len(one.ids) for one in kept) <= 40
    assert {name: len(part) for name, part in material.valid.items()} == {
        name: len(part) for name, part in material.valid_encoded.items()
    }


def test_rows_beyond_rotary_positions_are_named_once_with_their_count(
    tiny_base: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    plan = planned(base_with(tiny_base, tmp_path / "base", max_position_embeddings=40), tiny_recipe)
    (note,) = describe(plan)["notes"]
    long = sum(len(one.ids) > 40 for one in plan.material.encoded)
    assert long and note.startswith(
        f"{long} of {len(plan.material.encoded)} rows are longer than the 40 tokens"
    )
    assert planned(tiny_base, tiny_recipe).material.notes == ()


def test_questions_of_which_none_fits_are_no_score_of_0(
    tiny_base: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    base = base_with(tiny_base, tmp_path / "base", max_position_embeddings=9)
    plan = planned(base, tiny_recipe)
    model: LoadedModel = model_of(base)
    assert model.context_tokens == 9
    with pytest.raises(DataError, match="none of the 12 questions fits the 9 tokens"):
        doit.validation_score(model, plan.material.template, plan.material.valid)
