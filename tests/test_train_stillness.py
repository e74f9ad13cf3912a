"""A training in which nothing moves, or a base that is not finite, is an error that names the value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import make_tiny_base

from doitune.backends.finite import refuse_not_finite
from doitune.backends.hf import load
from doitune.backends.loaded import LoadRequest
from doitune.base.find import find_base
from doitune.errors import DivergedError, ModelError
from doitune.recipe.resolve import resolve
from doitune.run.find import list_runs
from doitune.train.session import resume, start


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("train.learning_rate=1e-12", "train.learning_rate is 1e-12"),
        ("train.clip_norm=1e-30", "train.clip_norm 1e-30"),
        ("lora.alpha=1e-20", "lora.alpha 1e-20"),
    ],
)
def test_a_training_that_moves_nothing_stops_with_70(
    tiny_recipe: Path, tmp_path: Path, change: str, named: str
) -> None:
    """Trap: it ended with exit 0, a best checkpoint and a score, all of them the base's."""
    resolved = resolve(str(tiny_recipe), overrides=[change])
    with pytest.raises(DivergedError, match="nothing") as caught:
        start(resolved, runs=tmp_path / "runs", scorer=None, on_event=lambda event: None)
    assert caught.value.exit_code == 70 and named in caught.value.hint
    run = list_runs(tmp_path / "runs")[0]
    assert run.done() is None
    with pytest.raises(DivergedError, match="nothing"):
        resume(run, scorer=None, on_event=lambda event: None)


@pytest.mark.parametrize("change", ["train.learning_rate=1e-6", "train.max_steps=1", "train.clip_norm=1e-3"])
def test_a_training_that_moves_little_goes_on(tiny_recipe: Path, tmp_path: Path, change: str) -> None:
    resolved = resolve(str(tiny_recipe), overrides=[change])
    run = start(resolved, runs=tmp_path / "runs", scorer=None, on_event=lambda event: None)
    assert run.done() is not None


def _spoil_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _spoil_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps({**config, "rms_norm_eps": float("nan")}), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_spoil_weight, r"layers\.1\.mlp\.up_proj\.weight holds"),
        (_spoil_config, "`rms_norm_eps`.* is nan"),
    ],
)
@pytest.mark.parametrize("quantise", ["nf4", "none"])
def test_what_is_not_finite_in_a_base_is_named(
    tmp_path: Path, spoil: object, named: str, quantise: str
) -> None:
    """Trap: it was explained as an architecture that changes its logits."""
    make_tiny_base(tmp_path / "base")
    assert callable(spoil)
    spoil(tmp_path / "base")
    with pytest.raises(ModelError, match=named):
        load(LoadRequest(find_base(str(tmp_path / "base")), quantise=quantise, compute_dtype="fp32", rank=4))


def test_an_overflow_is_said_to_be_one(tiny_base: Path) -> None:
    import torch

    model = load(LoadRequest(find_base(str(tiny_base)), quantise="none", compute_dtype="fp32", rank=4))
    refuse_not_finite(model.base, "base", torch.zeros(1, 2, 3))
    with pytest.raises(ModelError, match="its weights are") as caught:
        refuse_not_finite(model.base, "base", torch.full((1, 2, 3), float("inf")))
    assert "compute_dtype" in caught.value.hint
