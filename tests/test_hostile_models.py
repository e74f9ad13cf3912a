"""Model folders that are broken or mean harm: exit 65 within 10 s and 1 GiB, whatever they claim."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hostile_models import CONFIGS, FOLDERS, TOKENIZERS, WEIGHTS, make
from limited import Outcome, assert_refused, command, limited

from doitune.backends.tokenizer_trial import refuse_wild
from doitune.base.find import find_base
from doitune.demo.folder import BASE
from doitune.errors import ModelError

FEW = ("empty vocabulary", "id 1e9", "Replace nothing", "Prepend 10 MB", "regex of nested runs", "no JSON")


def test_what_config_index_and_headers_say_is_decided_before_anything_is_loaded(tmp_path: Path) -> None:
    """Trap: a library that believes `head_dim` 1e9 allocates it, and follows `../` to other weights."""
    kept: dict[str, Path] = {
        name: make(tmp_path / str(number), spoil)
        for number, (name, spoil) in enumerate({**CONFIGS, **WEIGHTS}.items())
    }

    def refuse_all() -> None:
        for name, folder in kept.items():
            try:
                find_base(str(folder))
            except ModelError as error:
                assert error.problem and error.hint, name
            else:
                raise AssertionError(f"{name} is taken")

    found = limited(refuse_all)
    assert found.code == 0, found.said[-1500:]
    assert found.mebibytes < 256


@pytest.mark.parametrize(
    "name", [one if one in FEW else pytest.param(one, marks=pytest.mark.hostile) for one in TOKENIZERS]
)
def test_a_wild_tokenizer_is_refused_by_its_trial(name: str, tmp_path: Path) -> None:
    """Trap: a normalizer that makes gigabytes of a word, a regular expression that never ends."""
    folder = make(tmp_path / "base", TOKENIZERS[name])
    with pytest.raises(ModelError, match=r"tokenizer\.json|tokenizer"):
        refuse_wild(find_base(str(folder)).folder)


def test_an_honest_tokenizer_passes_its_trial_and_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doitune.backends import tokenizer_trial

    folder = tmp_path / "base"
    shutil.copytree(BASE, folder)
    asked: list[bytes] = []
    answer = tokenizer_trial._answer
    monkeypatch.setattr(tokenizer_trial, "_answer", lambda wish: asked.append(wish) or answer(wish))
    refuse_wild(folder)
    refuse_wild(folder)
    assert len(asked) == 1
    TOKENIZERS["id 1e9"](folder)
    with pytest.raises(ModelError, match="id 1,000,000,000"):
        refuse_wild(folder)
    assert len(asked) == 2


def test_a_panic_of_a_library_is_named() -> None:
    """Trap: pyo3's PanicException is no Exception, so nothing that catches errors saw it."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    def panic() -> None:
        from doitune.cli import app as cli

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
        cli.app = lambda standalone_mode: tokenizer.encode("a" * 40 + "!")  # type: ignore[assignment]
        from doitune.__main__ import main

        main()

    found = limited(panic)
    assert found.code == 65 and "error: the code of a library" in found.said and "retry-limit" in found.said


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one, marks=pytest.mark.hostile if number % 10 else pytest.mark.slow)
        for number, one in enumerate(FOLDERS)
    ],
)
def test_a_training_on_a_hostile_folder_is_one_message(name: str, tmp_path: Path) -> None:
    import transformers  # noqa: F401  # once, in this process

    folder = make(tmp_path / "base", FOLDERS[name])
    found: Outcome = command("train", "demo", "--model", str(folder), "--dry-run", folder=tmp_path)
    assert_refused(found, (65,), name)
