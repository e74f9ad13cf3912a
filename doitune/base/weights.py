"""Weights of a folder as a table: names and shapes at once, bytes mapped from the files only when a tensor
is asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.headers import read_header
from doitune.errors import ModelError

if TYPE_CHECKING:
    import torch

MOST_NAME_BYTES = 255
FLOATS = ("float16", "bfloat16", "float32")
_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


@dataclass(frozen=True)
class Weight:
    """What is known of a tensor before it is read: its file, its shape, and its type by
    torch's name."""

    path: Path
    shape: tuple[int, ...]
    dtype: str


@dataclass
class Weights:
    """The tensors of some files. Files stay mapped: their pages are the disk's cache, not memory of this
    process."""

    files: tuple[Path, ...]
    table: dict[str, Weight]
    _pickled: dict[Path, dict[str, torch.Tensor]] = field(default_factory=dict, repr=False)
    _opened: dict[Path, Any] = field(default_factory=dict, repr=False)

    def get(self, name: str) -> torch.Tensor:
        """The tensor `name` as it is stored, mapped from its file; not to be written to."""
        from safetensors import safe_open

        path = self.table[name].path
        if path in self._pickled:
            return self._pickled[path][name]
        if path not in self._opened:
            self._opened[path] = safe_open(path, framework="pt").__enter__()
        return self._opened[path].get_tensor(name)

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        """Rows [first, last) of the tensor `name`; not to be written to."""
        return self.get(name)[first:last]


def open_weights(folder: Path, stem: str) -> Weights:
    """The weights `stem` (model, adapter_model) of a folder: safetensors where there are any, else .bin.

    ModelError where there are none, a shard is missing, a file is damaged or a tensor is not of 16 or 32
    bits.
    """
    for suffix, name in ((".safetensors", stem), (".bin", "pytorch_model" if stem == "model" else stem)):
        files = weight_files(folder, name, suffix)
        if files:
            return _open(files)
    raw = next((path.name for path in folder.glob("consolidated.*.pth")), "")
    hint = (
        f"{raw} is Meta's own format: convert it with transformers' convert_llama_weights_to_hf"
        if raw
        else "check the folder"
    )
    raise ModelError(f"{folder} holds no {stem}.safetensors and no .bin weights", hint)


def weight_files(folder: Path, name: str, suffix: str) -> list[Path]:
    """The files of the weights `name` (model, adapter_model): all that an index names, else those that are
    called so; none where there are none. ModelError where an index is damaged or a file of it is missing."""
    index = folder / f"{name}{suffix}.index.json"
    if not index.is_file():
        single = folder / f"{name}{suffix}"
        return [single] if single.is_file() else sorted(folder.glob(f"{name}-*-of-*{suffix}"))
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / _own_name(one) for one in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{index} is not a readable index of weights: {error}", "copy the model again"
        ) from None
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ModelError(
            f"{folder} lacks weights: {', '.join(missing[:5])}", "copy or download the missing files"
        )
    return files


def _own_name(name: object) -> str:
    """The name of a file of this folder. ValueError for a way out of it, which a loader would follow to
    weights that no record names, or a name that no file has."""
    if (
        not isinstance(name, str)
        or Path(name).name != name
        or not 0 < len(name.encode(errors="replace")) <= MOST_NAME_BYTES
    ):
        raise ValueError(f"{str(name)[:60]!r} is no file of this folder")
    return name


def _open(files: list[Path]) -> Weights:
    weights = Weights(tuple(files), {})
    for path in files:
        if path.suffix == ".bin":
            from doitune.base.pickled import open_pickled  # packaging and metadata: 5 ms of every command

            weights._pickled[path] = tensors = open_pickled(path)
            found = {
                name: Weight(path, tuple(one.shape), str(one.dtype).removeprefix("torch."))
                for name, one in tensors.items()
            }
        else:
            found = {
                name: Weight(path, one.shape, _NAMES.get(one.dtype, one.dtype))
                for name, one in read_header(path).items()
            }
        twice = found.keys() & weights.table.keys()
        if twice:
            problem = f"{min(twice)} stands in {path.name} and in {weights.table[min(twice)].path.name}"
            raise ModelError(problem, "keep one copy of the weights", place=str(path.parent))
        weights.table.update(found)
    return weights
