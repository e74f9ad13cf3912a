"""On a CPU the matrices of a base in 4 bits are made once, for what a model answers and for its steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_hf import ROWS, STOPS, gradient, model_of, stir

from doitune.backends import kept_whole
from doitune.prompt.batch import pad, trained_tokens
from doitune.recipe.resolve import resolve
from doitune.train.session import resume, start

BATCH = pad(ROWS)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the matrices that bitsandbytes makes whole, as it makes them."""
    sizes: list[int] = []
    own = torch.ops.bitsandbytes.dequantize_4bit.default

    def counted(packed: torch.Tensor, *more: Any) -> torch.Tensor:
        sizes.append(packed.numel())
        return own(packed, *more)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.ops.bitsandbytes.dequantize_4bit, "default", counted)
    return sizes


def answers(model: Any) -> torch.Tensor:
    """Logits with a stirred adapter, and without it."""
    ids = range(6, 262)
    with model.without_adapter():
        plain = model.logits(BATCH, ids)
    return torch.cat([model.logits(BATCH, ids), plain])


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Says how many bytes of memory are free."""
    return lambda count: monkeypatch.setattr(kept_whole, "ram", lambda: (64.0, count / 2**30))


def test_no_matrix_is_made_twice(tiny_base: Path, made: list[int], free: Callable[[float], None]) -> None:
    """Answers and gradients are to the same bits as by the layers' own way. Trap: a second `training(False)`, or
    the step after it, that makes all anew."""
    model = model_of(tiny_base)
    stir(model)
    free(0)
    model.training(False)
    own = answers(model)
    model.training(True)
    before = gradient(model, BATCH, trained_tokens(ROWS))
    assert len(made) > len([*kept_whole._layers(model.base)]), "forward and back, a step makes the matrices"
    free(2**40)
    model.training(False)
    made.clear()
    model.training(False)
    assert torch.equal(answers(model), own)
    model.generate([ROWS[0].ids], max_new_tokens=5, stop_ids=STOPS)
    model.training(True)
    assert torch.equal(gradient(model, BATCH, trained_tokens(ROWS)), before)
    assert not made, "matrices were made whole again"


def test_what_has_no_room_is_made_for_each_product(
    tiny_base: Path, made: list[int], free: Callable[[float], None]
) -> None:
    """A quarter of what is free, a tenth for steps, and no byte more. Trap: what is kept already counted as
    taken, so that the next call lets go of it; or kept for steps that have no room for it."""
    model = model_of(tiny_base)
    needed = sum(4 * one.in_features * one.out_features for one in kept_whole._layers(model.base))

    def is_kept() -> bool:
        made.clear()
        answers(model)
        return not made

    free(0)
    model.training(False)  # what loading has left
    for training, share in ((False, 4), (True, 10)):
        free(share * needed - 16)
        model.training(training)
        assert not is_kept()
        free(share * needed)
        model.training(training)
        assert is_kept()
        free((share - 1) * needed)  # what they take is no longer free
        model.training(training)
        assert is_kept()
        free((share - 1) * needed - 16)
        model.training(training)
        assert not is_kept()


@pytest.mark.parametrize("arrangement", ["sorted", "packed"])
def test_a_training_ends_in_the_same_bytes_where_there_is_no_room(
    tiny_recipe: Path, tmp_path: Path, free: Callable[[float], None], arrangement: str
) -> None:
    """So does one that is resumed where less memory is free. Trap: products, or the order of a padded batch's
    gradients, that are otherwise where the matrices are kept."""
    words = ["train.max_steps=3", f"train.arrangement={arrangement}"]
    recipe, found = resolve(str(tiny_recipe), overrides=words), []
    for count in (0, 2**40):
        free(count)
        run = start(recipe, runs=tmp_path / f"{count} free", scorer=None, on_event=lambda event: None)
        saved = [one.folder / "state.safetensors" for one in run.checkpoints.all()]
        found.append([path.read_bytes() for path in saved])
    assert found[0] == found[1] and len(found[0]) > 1
    (run.folder / "done.json").unlink()
    shutil.rmtree(saved[-1].parent)
    free(0)
    resume(run, scorer=None, on_event=lambda event: None)
    assert saved[-1].read_bytes() == found[0][-1]


def test_a_base_in_16_bits_stays_as_it_is(tiny_base: Path) -> None:
    model = model_of(tiny_base, quantise="none")
    model.training(False)
    assert not any("forward" in vars(module) for module in model.base.modules())
