"""Eighty model folders that are broken or mean harm, each the demo's base with one thing changed."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doitune.demo.folder import BASE

Spoil = Callable[[Path], None]
DEEP = "[" * 100_000 + "]" * 100_000
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)


def make(folder: Path, spoil: Spoil) -> Path:
    """The demo's base at `folder`, spoilt."""
    shutil.copytree(BASE, folder)
    spoil(folder)
    return folder


def _set(**values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}))

    return spoil


def _text(name: str, text: str | bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def _shard(name: Any) -> Spoil:
    """An index whose tensors are all in `name`; files of such names lie outside of the folder, whole."""

    def spoil(folder: Path) -> None:
        (folder.parent / "outside.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        (folder / "inside").mkdir()
        shutil.copy(folder / "model.safetensors", folder / "inside" / "x.safetensors")
        document = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(document))

    return spoil


def _tensors(change: Callable[[dict[str, Any]], object], body: bytes | None = None) -> Spoil:
    """The header changed; the bytes behind it stay, or are `body`."""

    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + (data[8 + length :] if body is None else body))

    return spoil


def _swap(name: str, shape: list[int]) -> Callable[[dict[str, Any]], object]:
    return lambda header: header[name].__setitem__("shape", shape)


def _rename(old: str, new: str) -> Callable[[dict[str, Any]], object]:
    """Tensors of one layer under another's number: the last layers are missing."""

    def change(header: dict[str, Any]) -> None:
        for name in [name for name in header if old in name]:
            header[name.replace(old, new)] = header.pop(name)

    return change


def _tokenizer(**values: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}))

    return spoil


def _vocabulary(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "tokenizer.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        change(document)
        path.write_text(json.dumps(document))

    return spoil


def _replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _pipe(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def _empty(document: dict[str, Any]) -> None:
    document["model"].update(vocab={}, merges=[])
    document["added_tokens"] = []


CONFIGS: dict[str, Spoil] = {
    **{f"{key} {value}": _set(**{key: value}) for key in SIZES for value in (0, -1, 10**9)},
    **{f"hidden_size {value!r}": _set(hidden_size=value) for value in ("128", 1.5, [128], True, 2**70)},
    "no positions": _set(max_position_embeddings=0),
    "a negative context": _set(max_position_embeddings=-1),
    "endless context": _set(max_position_embeddings=10**12),
    "experts": _set(num_local_experts=10**12),
    "inner sizes": _set(text_config={"hidden_size": -4}),
    "a few rows more": _set(vocab_size=2155),
    "another head": _set(head_dim=64),
    "a layer more": _set(num_hidden_layers=5),
    "deep config": _text("config.json", DEEP),
    "deep inside config": _text("config.json", '{"model_type": "llama", "x": ' + DEEP + "}"),
    "deep index": _text("model.safetensors.index.json", DEEP),
    "deep map": _text("model.safetensors.index.json", '{"weight_map": ' + DEEP + "}"),
    "deep generation config": _text("generation_config.json", DEEP),
    "deep tokenizer config": _text("tokenizer_config.json", '{"a": ' + DEEP + "}"),
    "deep special tokens": _text("special_tokens_map.json", DEEP),
    "kind of model": _set(model_type=["llama"]),
    "a pipe for a config": _pipe("config.json"),
}  # fmt: skip

WEIGHTS: dict[str, Spoil] = {
    "shard above": _shard("../outside.safetensors"),
    "shard above, deep": _shard("inside/../../outside.safetensors"),
    "shard inside": _shard("inside/x.safetensors"),
    "shard from the root": _shard("/etc/passwd"),
    "long shard": _shard("x" * 300),
    "long shard by bytes": _shard("模" * 100 + ".safetensors"),
    "nameless shard": _shard(""),
    "shard ..": _shard(".."),
    "shard with NUL": _shard("a\0.safetensors"),
    "shard 5": _shard(5),
    "missing shard": _shard("model-00002-of-00002.safetensors"),
    "a list of shards": _text("model.safetensors.index.json", '{"weight_map": ["a"]}'),
    "an empty file": _text("model.safetensors", b""),
    "a long header": _text("model.safetensors", struct.pack("<Q", 2**60) + b"{}"),
    "a deep header": _text("model.safetensors", struct.pack("<Q", 200_000) + DEEP.encode()),
    "no tensors": _tensors(lambda header: header.clear(), b""),
    "a huge shape": _tensors(_swap("model.norm.weight", [10**9, 10**9])),
    "a negative shape": _tensors(_swap("model.norm.weight", [-128])),
    "another width": _tensors(_swap("model.layers.0.mlp.up_proj.weight", [128, 320])),
    "other rows": _tensors(_swap("model.embed_tokens.weight", [1077, 256])),
    "a layer less": _tensors(_rename(".layers.3.", ".other.3.")),
    "cut": lambda folder: os.truncate(folder / "model.safetensors", 5000),
    "a pipe for weights": _pipe("model.safetensors"),
}

TOKENIZERS: dict[str, Spoil] = {
    "empty vocabulary": _vocabulary(_empty),
    "id 1e9": _vocabulary(lambda document: document["model"]["vocab"].update({"one more": 10**9})),
    "id 2**32": _vocabulary(lambda document: document["model"]["vocab"].update({"one more": 2**32})),
    "id -1": _vocabulary(lambda document: document["model"]["vocab"].update({"one more": -1})),
    "Replace nothing": _tokenizer(normalizer=_replace("", "x" * 100_000)),
    "Prepend 10 MB": _tokenizer(normalizer={"type": "Prepend", "prepend": "x" * 10_000_000}),
    "doubling": _tokenizer(normalizer={"type": "Sequence", "normalizers": [_replace("a", "aa")] * 24}),
    "regex of nested runs": _tokenizer(pre_tokenizer=_split("(a+)+$")),
    "regex of words": _tokenizer(pre_tokenizer=_split(r"(\w+\s?)*$")),
    "regex of choices": _tokenizer(pre_tokenizer=_split("(中|中中)+$")),
    "regex without an end": _tokenizer(pre_tokenizer=_split("(?:a|aa)+b")),
    "regex that is none": _tokenizer(pre_tokenizer=_split("(((")),
    "deep tokenizer": _text("tokenizer.json", DEEP),
    "no JSON": _text("tokenizer.json", b"\xff\xfe\x00"),
    "no model": _tokenizer(model=None),
    "no known normalizer": _tokenizer(normalizer={"type": "Exec", "command": "id"}),
}
"""Tried in a process of their own."""

FOLDERS = {**CONFIGS, **WEIGHTS, **TOKENIZERS}
assert len(FOLDERS) >= 80
