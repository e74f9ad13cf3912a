"""A head that is the embedding, and one that is not: decided before anything is trained, and the same in
training and export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Desk
from safetensors.torch import load_file, save_file
from test_hf import model_of
from transformers import Gemma2Config, Gemma2ForCausalLM

from doitune.base import tied
from doitune.base.find import find_base
from doitune.errors import ModelError

EMBEDDING, HEAD, WEIGHTS = "model.embed_tokens.weight", "lm_head.weight", "model.safetensors"
Tensors = dict[str, torch.Tensor]


def changed(base: Path, tied: bool | None, change: Callable[[Tensors], Any]) -> Path:
    """The base with other tensors, and another word of its config on its head."""
    tensors = load_file(base / WEIGHTS)
    change(tensors)
    save_file(tensors, base / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config.pop("tie_word_embeddings", None)
    said = {} if tied is None else {"tie_word_embeddings": tied}
    (base / "config.json").write_text(json.dumps({**config, **said}), encoding="utf-8")
    return base


def other_head(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[EMBEDDING].clone()
    tensors[HEAD][-1, -1] += 0.5  # the last number alone


def same_head(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[EMBEDDING].clone()


def half_head(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[EMBEDDING].half()


def head_alone(tensors: Tensors) -> None:
    tensors[HEAD] = tensors.pop(EMBEDDING)


def nothing(tensors: Tensors) -> None:
    tensors.pop(HEAD, None)


REFUSED = {
    "another head": (True, other_head, "lm_head.weight with other values than model.embed_tokens.weight"),
    "a head of another type": (True, half_head, "with other values"),
    "no head": (False, nothing, "holds no head .*false"),
    "no head, and no word on it": (None, nothing, "holds no head .*left out"),
    "the head alone": (True, head_alone, "as lm_head.weight alone"),
}


@pytest.mark.parametrize("piece", [tied.PIECE, 1000])
@pytest.mark.parametrize("name", list(REFUSED))
def test_a_head_that_config_and_files_do_not_agree_on_is_refused(
    tiny_base: Path, tmp_path: Path, name: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: transformers trains on the stored head, with a warning; others would multiply by the
    embedding, and a lost head is filled with random numbers."""
    monkeypatch.setattr(tied, "PIECE", piece)
    word, change, said = REFUSED[name]
    shutil.copytree(tiny_base, tmp_path / "base")
    with pytest.raises(ModelError, match=said) as caught:
        find_base(str(changed(tmp_path / "base", word, change)))
    assert caught.value.exit_code == 65 and "embedding" in caught.value.hint
    find_base(str(changed(tmp_path / "base", True, lambda tensors: None) if name == "no head" else tiny_base))


def test_both_cures_are_named(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base")
    with pytest.raises(ModelError) as caught:
        find_base(str(changed(tmp_path / "base", True, other_head)))
    assert "tie_word_embeddings to false" in caught.value.hint
    assert "take lm_head.weight out" in caught.value.hint


@pytest.mark.parametrize("word", [None, True])
def test_a_family_that_ties_unasked_is_decided_at_load(
    tmp_path: Path, tiny_base: Path, word: bool | None
) -> None:
    """Trap: where config.json leaves the word out, only the family's code knows what it means."""
    torch.manual_seed(0)
    base = tmp_path / "base"
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 262}
    Gemma2ForCausalLM(Gemma2Config(**sizes, **heads)).save_pretrained(base)
    for path in tiny_base.glob("tokenizer*"):
        shutil.copy(path, base)
    assert model_of(changed(base, word, same_head)).name
    with pytest.raises(ModelError, match="other values than") as caught:
        model_of(changed(base, word, other_head))
    assert "tie_word_embeddings to false" in caught.value.hint


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = Desk(tmp_path_factory.mktemp("tied"))
    changed(made.folder / "world" / "base", True, other_head)
    return made


def test_nothing_is_trained_on_it_and_base_check_says_so(desk: Desk) -> None:
    base = str(desk.folder / "world" / "base")
    for command in (desk.train("none"), ("base", "check", base), desk.train("none", "--dry-run")):
        ended = desk.do(*command)
        assert ended.code == 65 and "with other values than" in ended.said, ended.said
        assert "Traceback" not in ended.said
    assert desk.run("none") is None


CURED: dict[str, tuple[bool, Callable[[Tensors], Any]]] = {
    "its own head": (False, lambda tensors: None),
    "the embedding": (True, nothing),
    "a copy of the embedding": (True, same_head),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name == "the embedding" else name for name in CURED],
)
def test_after_either_cure_what_is_trained_is_what_is_exported(desk: Desk, name: str) -> None:
    """And a head that is stored as a copy of the embedding is harmless."""
    word, change = CURED[name]
    base, out = desk.folder / "world" / "base", desk.folder / f"merged {name}"
    before = load_file(base / WEIGHTS)
    changed(base, word, change)
    stored = load_file(base / WEIGHTS)
    ended = desk.do(*desk.train(name, "--set", "train.max_steps=3"))
    assert ended.code == 0, ended.said
    asked = ("export", "last", "--out", str(out), "--questions", "0", "--dtype", "fp32")
    ended = desk.do(*asked, "--runs", str(desk.folder / name))
    assert ended.code == 0, ended.said
    merged = load_file(out / WEIGHTS)
    if word:
        assert HEAD not in merged
    else:
        assert torch.equal(merged[HEAD], stored[HEAD]) and not torch.equal(merged[HEAD], merged[EMBEDDING])
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert bool(config["tie_word_embeddings"]) == word
    assert json.loads((out / "export.json").read_text(encoding="utf-8"))["same"]
    save_file(before, base / WEIGHTS, metadata={"format": "pt"})
