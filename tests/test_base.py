"""A model folder is whole, or one clear message says what it lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from doitune.base.find import find_base
from doitune.base.folder import Base
from doitune.errors import ModelError, UsageError
from doitune.system.disk import file_sha256


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil; its name has a space and Chinese characters."""
    copy = tmp_path / "my 模型"
    shutil.copytree(tiny_base, copy)
    return copy


def test_a_whole_folder_is_found_and_described(folder: Path) -> None:
    base = find_base(str(folder))
    assert base == Base(str(folder), folder, "")
    assert base.config["model_type"] == "llama"
    digests = base.sha256()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(digests)
    assert list(digests) == sorted(digests)
    assert all(digests[path.name] == file_sha256(path) for path in base.files())


def _drop(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def _write(name: str, text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(text, encoding="utf-8")

    return spoil


def _both(*spoils: Callable[[Path], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for one in spoils:
            one(folder)

    return spoil


WRONG: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "no config": (_drop("config.json"), "holds no config.json", "has config.json in it"),
    "broken config": (_write("config.json", "{"), "config.json is not readable JSON", "again"),
    "a list as config": (_write("config.json", "[]"), "config.json is not readable JSON: not an object", "again"),
    "binary config": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is not readable JSON", "again"),
    "no weights": (_drop("model.safetensors"), r"holds no weights \(\*\.safetensors\)", "model.safetensors"),
    "pickled weights only": (
        _both(_drop("model.safetensors"), _write("pytorch_model.bin", "x")), "holds no weights", "pytorch_model.bin is not read.*safetensors",
    ),
    "a shard is missing": (
        _write("model.safetensors.index.json", json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}})),
        "lacks weights: model-00001-of-00002.safetensors", "missing files",
    ),
    "a broken index": (_write("model.safetensors.index.json", "[1]"), "not a readable index", "again"),
    "no tokenizer": (_drop("tokenizer.json"), "holds no tokenizer", "tokenizer.json"),
    "a foreign adapter": (_write("adapter_config.json", "{}"), "an adapter beside the weights", "take the adapter's files out.*base make"),
    "code of its own": (_write("config.json", json.dumps({"auto_map": {"AutoModel": "x.Y"}})), "Python code of its own", "runs no code"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_folder_is_one_clear_message(folder: Path, name: str) -> None:
    spoil, problem, hint = WRONG[name]
    spoil(folder)
    with pytest.raises(ModelError, match=problem) as caught:
        find_base(str(folder))
    assert len(caught.value.problems) == 1
    assert caught.value.exit_code == 65
    import re

    assert re.search(hint, caught.value.hint)


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", "~/no-such-model", "name", "a/b/c", ""])
def test_a_name_that_is_no_folder_and_no_hub_name(name: str) -> None:
    """Trap: a typing error in a path becomes a question to the hub."""
    with pytest.raises(UsageError if name == "" else ModelError):
        find_base(name)


def test_a_hub_name_without_a_network_says_what_to_do() -> None:
    """The tests are offline (HF_HUB_OFFLINE): the hub library's cache is all there is."""
    with pytest.raises(ModelError, match="neither a folder here nor to be had from the hub") as caught:
        find_base("nobody/no-such-model")
    assert "HF_ENDPOINT" in caught.value.hint and "FOLDER" in caught.value.hint


def test_python_and_pickles_are_never_taken(folder: Path) -> None:
    for name in ("modeling_x.py", "pytorch_model.bin", "training_args.bin", "x.pkl", "x.pt"):
        (folder / name).write_text("x")
    taken = {path.name for path in find_base(str(folder)).files()}
    assert "model.safetensors" in taken
    assert not {name for name in taken if Path(name).suffix in {".py", ".bin", ".pkl", ".pt"}}


def test_a_changed_byte_changes_the_identity(folder: Path) -> None:
    """Trap: a base that drifted under a run."""
    before = find_base(str(folder)).sha256()
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    after = find_base(str(folder)).sha256()
    assert [name for name in before if before[name] != after[name]] == ["model.safetensors"]


def test_an_assembled_base_is_never_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a hub account called `bases` would be asked for the 33b model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "doitune.base.find._from_hub", lambda name, revision: pytest.fail("the hub was asked")
    )
    with pytest.raises(ModelError, match="assembled on your machine") as caught:
        find_base("bases/chinese-llama-plus-33b")
    assert "doitune base make 33b --from LLAMA" in caught.value.hint
