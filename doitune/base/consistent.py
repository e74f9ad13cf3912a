"""What a base's files say of each other: config.json, the index and the safetensors headers, compared before
a byte of a tensor is read or a module is made.

A damaged or hostile folder is refused by what it says, in milliseconds; a library that believed it would
first allocate what it claims.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from doitune.base.architecture import LARGEST_SIZE, read_architecture
from doitune.base.families import FAMILIES, decoder_part, names_of, stated
from doitune.base.headers import Stored, read_header
from doitune.base.tensors import EMBEDDING, HEAD, expected_shapes
from doitune.base.tied import EMBEDDINGS
from doitune.base.weights import weight_files
from doitune.errors import ModelError

MOST_JSON_BYTES = 64 << 20
"""A settings file of a model (config.json, an index, a tokenizer's settings) that is larger is refused
unread."""

UNREAD = ("tokenizer.json", "vocab.json")
"""Vocabularies, as long as they need to be: the tokenizer's trial reads them."""

_SIZE = re.compile(r"(num|n)_\w+|d_\w+|\w+_(size|dim|rank|heads|layers)")
_BOUNDED = re.compile(r"d_\w+|n_(embd|inner)|(hidden|intermediate|vocab|ffn|embedding)_size|\w+_dim|\w+_rank")
"""Keys whose number is a dimension of some tensor, or a part of one."""
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.([0-9]{1,6})\.")
AGAIN = "copy or download the model again"


def refuse_inconsistent(folder: Path, config: Mapping[str, Any]) -> None:
    """ModelError where the files of a base cannot all be true: unreadable settings, sizes that no model has,
    tensors of another shape or number than config.json says."""
    place = str(folder / "config.json")
    for path in sorted(folder.glob("*.json")):
        if path.name not in UNREAD and path.name != "config.json":
            read_settings(path)
    sizes = dict(_sizes(config))
    for key, value in sizes.items():
        if not 0 <= value <= LARGEST_SIZE:
            raise ModelError(
                f"{key} is {_short(value)}, not a whole number from 0 to {LARGEST_SIZE:,}", AGAIN, place=place
            )
    _refuse_nothing(config, place)
    tensors: dict[str, Stored] = {}
    for path in weight_files(folder, "model", ".safetensors") or sorted(folder.glob("*.safetensors")):
        tensors |= read_header(path)
    _compare(config, sizes, tensors, place)


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object of a settings file. ModelError where it is none, too large, or too deep."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError(f"it is no file of at most {MOST_JSON_BYTES >> 20} MiB")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError) as error:
        problem = f"{path} is not readable JSON: {error}"
        raise ModelError(problem, f"copy the model's {path.name} again") from None
    return found


def _sizes(config: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The whole numbers of a config whose key says that they are sizes or counts."""
    known = {*asdict(names_of(str(config.get("model_type", "")))).values()}
    for key, value in decoder_part(config).items():
        if type(value) is int and (key in known or _SIZE.fullmatch(key)):
            yield key, value


def _refuse_nothing(config: Mapping[str, Any], place: str) -> None:
    """ModelError where a size that every decoder has is there and is none."""
    decoder, names = decoder_part(config), names_of(str(config.get("model_type", "")))
    for noun, key in asdict(names).items():
        value = decoder.get(key)
        if noun != "tied" and value is not None and (type(value) is not int or value < 1):
            raise ModelError(
                f"{key} is {_short(value)}, not a whole number from 1 to {LARGEST_SIZE:,}", AGAIN, place=place
            )


def _compare(
    config: Mapping[str, Any], sizes: Mapping[str, int], tensors: Mapping[str, Stored], place: str
) -> None:
    """ModelError where sizes and tensors differ."""
    if not tensors:
        raise ModelError(
            "its weights hold no tensor", AGAIN, place=str(Path(place).with_name("model.safetensors"))
        )
    widest = max(max(one.shape, default=1) for one in tensors.values())
    for key, value in sizes.items():
        if value > widest and _BOUNDED.fullmatch(key):
            raise ModelError(
                f"{key} is {value:,}, and no tensor of its weights is wider than {widest:,}",
                AGAIN,
                place=place,
            )
    _refuse_lacking_layers(config, tensors, place)
    _refuse_embedding(config, tensors, place)
    model_type = config.get("model_type")
    if model_type in FAMILIES and not config.get("quantization_config"):
        _refuse_shapes(config, tensors, place)


def _refuse_lacking_layers(config: Mapping[str, Any], tensors: Mapping[str, Stored], place: str) -> None:
    key = names_of(str(config.get("model_type", ""))).layers
    said = decoder_part(config).get(key)
    there = {int(found[1]) for name in tensors if (found := _LAYER.search(name))}
    if isinstance(said, int) and there and said > max(there) + 1:
        raise ModelError(f"{key} is {said:,}, its weights have {max(there) + 1:,} layers", AGAIN, place=place)


def _refuse_embedding(config: Mapping[str, Any], tensors: Mapping[str, Stored], place: str) -> None:
    """ModelError where the one embedding of tokens has other rows than the vocabulary."""
    key = names_of(str(config.get("model_type", ""))).vocabulary
    said = decoder_part(config).get(key)
    found = {name: one.shape for name, one in tensors.items() if name.endswith(EMBEDDINGS)}
    if len(found) != 1 or not isinstance(said, int):
        return
    name, shape = next(iter(found.items()))
    if len(shape) == 2 and shape[0] != said:
        raise ModelError(f"{key} is {said:,}, {name} has {shape[0]:,} rows", AGAIN, place=place)


def _refuse_shapes(config: Mapping[str, Any], tensors: Mapping[str, Stored], place: str) -> None:
    """ModelError where a tensor of a known family has another shape than config.json says. Tensors under
    other names are left to the loader."""
    prefix = next((name.removesuffix(EMBEDDING) for name in tensors if name.endswith(EMBEDDING)), None)
    if prefix is None:
        return
    of_unsaid_rows = (EMBEDDING, HEAD) if stated(config, "vocabulary") is None else ()
    for name, shape in expected_shapes(read_architecture(config, place)).items():
        stored = None if name in of_unsaid_rows else tensors.get(prefix + name)
        if stored is not None and stored.shape != shape:
            raise ModelError(
                f"{prefix + name} has the shape {list(stored.shape)}, config.json says {list(shape)}",
                AGAIN,
                place=place,
            )


def _short(value: object) -> str:
    return repr(value)[:40]
