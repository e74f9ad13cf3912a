"""The tokenizer of an assembled base, from its parts' files alone: which files, how many tokens, and the
ids of the ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.base import sentencepiece
from doitune.errors import ModelError

COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Tokens:
    """`files`: contents by name, whole for a fast tokenizer. `ids`: of the tokens by text. `note`: what a
    reader must know of them, or ""."""

    files: dict[str, bytes]
    ids: dict[str, int]
    note: str

    def end_ids(self) -> dict[str, int]:
        """bos_token_id and eos_token_id, where the tokenizer's files name them; `<s>` and `</s>` are
        theirs in sentencepiece."""
        named: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            named = {**(_object(self.files[name]) if name in self.files else {}), **named}
        found = {}
        for key, plain in (("bos_token", "<s>"), ("eos_token", "</s>")):
            token = named.get(key)
            text = str(token.get("content", "")) if isinstance(token, dict) else token or plain
            if text in self.ids:
                found[f"{key}_id"] = self.ids[text]
        return found


def read_tokens(folders: Sequence[Path], rows: int) -> Tokens:
    """The tokenizer of the last of `folders` that has one. ModelError where none has, or it has more
    tokens than the embedding has rows."""
    having = [
        folder
        for folder in folders
        if (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file()
    ]
    if not having:
        raise ModelError(
            f"neither {' nor '.join(map(str, folders))} holds a tokenizer",
            "copy tokenizer.json or tokenizer.model into one of them",
        )
    folder, note = having[-1], ""
    try:
        files = {name: (folder / name).read_bytes() for name in COPIED if (folder / name).is_file()}
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror or error}", "check its rights") from error
    if "tokenizer.json" not in files:
        pieces = sentencepiece.read_model(files["tokenizer.model"], str(folder / "tokenizer.model"))
        files["tokenizer.json"], note = sentencepiece.fast_tokenizer(pieces)
    ids = _ids(files, folder)
    most = max(ids.values(), default=-1) + 1
    if most > rows or not ids:
        raise ModelError(
            f"the tokenizer in {folder} has {most:,} tokens, the embedding has {rows:,} rows",
            "they are of different models: Chinese-LLaMA Plus has 49,953 tokens, Chinese-Alpaca 49,954, "
            "LLaMA 32,000",
        )
    return Tokens(files, ids, note)


def _ids(files: dict[str, bytes], folder: Path) -> dict[str, int]:
    """Ids by token, of the vocabulary and of what was added to it."""
    try:
        document = _object(files["tokenizer.json"])
        vocabulary = document["model"]["vocab"]
        plain = (
            vocabulary
            if isinstance(vocabulary, dict)
            else {entry[0]: number for number, entry in enumerate(vocabulary)}
        )
        added = {one["content"]: one["id"] for one in document.get("added_tokens") or ()}
        more = _object(files["added_tokens.json"]) if "added_tokens.json" in files else {}
        return {str(text): int(number) for text, number in {**plain, **added, **more}.items()}
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ModelError(
            f"the tokenizer in {folder} is not readable: {error}", "copy its files again"
        ) from None


def _object(data: bytes) -> dict[str, Any]:
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document
