"""A base model's folder: which of its files make the model, and what it needs to be whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.base.adapter import CONFIG as ADAPTER
from doitune.base.consistent import read_settings, refuse_inconsistent
from doitune.base.families import stated
from doitune.base.headers import read_header
from doitune.base.tied import embedding_rows, refuse_other_head
from doitune.base.trust import refuse_code
from doitune.base.weights import weight_files
from doitune.errors import ModelError
from doitune.system.disk import file_sha256
from doitune.system.doing import counted

TAKEN = ("*.safetensors", "*.safetensors.index.json", "*.json", "tokenizer.*", "*.model", "*.txt", "*.jinja")
"""What is taken from a hub repository."""

LEFT = ("*/*", "consolidated*", "*.nemo")
"""What is left there though it is of those: subfolders, and the same weights once more in a form of their
owner's."""

RECORD = "doitune-base.json"
"""The record that `base fetch` and `base make` leave in a base's folder; no part of the model."""

REPORT = "export.json"
"""What `export` says of a merged model beside it; no part of the model."""

ASSEMBLED = "bases/"
"""Where built-in model recipes expect a base that is put together locally; never looked for on the hub,
where anybody could own the name."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
)


@dataclass(frozen=True)
class Base:
    """A base model on disk: `name` as the recipe has it, its `folder`, and the commit it came from ("" for
    a folder)."""

    name: str
    folder: Path
    revision: str

    @property
    def config(self) -> dict[str, Any]:
        """The parsed config.json. Errors: ModelError."""
        return read_config(self.folder)

    def size(self, noun: str) -> int:
        """A size by its noun in the table of families (vocabulary, positions, ...); 0 where config.json
        leaves it out. The vocabulary is then counted in the files."""
        value = stated(self.config, noun)
        if noun == "vocabulary" and value is None:
            return embedding_rows(self.folder)
        return value if isinstance(value, int) else 0

    def files(self) -> list[Path]:
        """The files that make the model, sorted by name."""
        found = {
            path
            for pattern in TAKEN
            for path in self.folder.glob(pattern)
            if path.is_file() and path.name not in (RECORD, REPORT)
        }
        return sorted(found, key=lambda path: path.name)

    def sha256(self) -> dict[str, str]:
        """sha256 of every file that makes the model, by name."""
        return {path.name: file_sha256(path) for path in counted("hashing the base's files", self.files())}


def is_hub_name(name: str) -> bool:
    """Whether a name can be a repository's on the hub, `owner/name`, and is no path."""
    return not name.startswith((".", "/", "~", ASSEMBLED)) and name.count("/") == 1


def find_whole(folder: Path) -> Base:
    """The base in `folder`. Errors: ModelError says what it lacks."""
    return whole(Base(str(folder), folder, ""))


def whole(base: Base) -> Base:
    """The base, if its folder has a config, weights and a tokenizer; otherwise ModelError says what is
    missing."""
    config = read_config(base.folder)
    if (base.folder / ADAPTER).exists():  # transformers would put it onto the model unasked
        raise ModelError(
            f"{base.folder} holds an adapter beside the weights ({ADAPTER}), which would join the training",
            "to train the base alone, take the adapter's files out of a copy of the folder; to train on "
            "both, merge them first: `doitune base make NAME --lora ADAPTER --out FOLDER`",
        )
    _check_weights(base.folder)
    for path in sorted(base.folder.glob("*.safetensors")):
        read_header(path)
    refuse_code(base.folder, config)
    refuse_inconsistent(base.folder, config)
    refuse_other_head(base.folder, config)
    if not any((base.folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"{base.folder} holds no tokenizer", "copy tokenizer.json or tokenizer.model into it"
        )
    return base


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model's folder. Errors: ModelError."""
    path = folder / "config.json"
    if not path.exists():
        raise ModelError(
            f"{folder} holds no config.json: it is not a model folder",
            "give the folder that has config.json in it",
        )
    return read_settings(path)


def _check_weights(folder: Path) -> None:
    """Every shard that an index names, or at least one safetensors file, is there. Errors: ModelError."""
    if weight_files(folder, "model", ".safetensors") or any(folder.glob("*.safetensors")):
        return
    others = [path.name for path in folder.glob("*") if path.suffix in {".bin", ".pt", ".pth", ".gguf"}]
    cure = "copy model.safetensors into it"
    if others:
        cure = (
            f"{others[0]} is not read (pickles can run code); convert it to safetensors: `doitune base make` "
            "does that for LLaMA's kind"
        )
    raise ModelError(f"{folder} holds no weights (*.safetensors)", cure)
