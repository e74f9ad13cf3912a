"""What the tensors of a merged folder are called in a GGUF, in which order their rows lie there, and what the
file says of the model's sizes.

Source: llama.cpp's converter (conversion/llama.py, qwen.py). Names come from the gguf package's own table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.base.architecture import Architecture, read_architecture
from doitune.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from gguf import GGUFWriter

    from doitune.base.weights import Weights

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""llama.cpp's name of a model_type's blocks."""

TURNED = ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")
"""In llama's blocks a head's rows lie otherwise: there, the two numbers that are turned together are
neighbours."""


@dataclass(frozen=True)
class Stored:
    """A tensor of the file: its name there, its shape, and where its rows come from (`source`, in this
    order)."""

    name: str
    shape: tuple[int, ...]
    source: str
    heads: int = 0

    def rows(self, weights: Weights, at_once: int) -> Iterator[torch.Tensor]:
        """Its rows in fp32, some at once, in the file's order."""
        import torch

        whole = weights.get(self.source)
        order = torch.arange(self.shape[0])
        if self.heads:
            order = order.reshape(self.heads, 2, -1).transpose(1, 2).reshape(-1)
        step = max(1, at_once // max(1, math.prod(self.shape[1:])))
        for first in range(0, len(order), step):
            part = order[first : first + step]
            rows = whole[part] if self.heads else whole[first : first + step]
            yield rows.float()


def list_tensors(folder: Path, config: Mapping[str, Any], weights: Weights) -> tuple[str, list[Stored]]:
    """llama.cpp's architecture of a folder, and its tensors in the order of the file. ModelError where
    llama.cpp's blocks are not known here, or a tensor has no name there."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    model_type = str(config.get("model_type", ""))
    name = ARCHITECTURES.get(model_type)
    if name is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"a GGUF of blocks of model_type {model_type!r} is not written here; known are {known}",
            "llama.cpp's convert_hf_to_gguf.py may know it: give it the folder of --to merged, and compare "
            "prompt ids before you trust it",
            place=str(folder),
        )
    shape = read_architecture(config, str(folder / "config.json"))
    architecture = next(one for one, text in MODEL_ARCH_NAMES.items() if text == name)
    names = get_tensor_name_map(architecture, shape.layers)
    found = []
    for source, one in weights.table.items():
        if source.endswith("rotary_emb.inv_freq") or (shape.tied and source == "lm_head.weight"):
            continue
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ModelError(f"llama.cpp has no name for {source} in {name}", "report it", place=str(folder))
        heads = shape.heads if ".q_proj." in source else shape.key_value // shape.head_size
        turned = name == "llama" and source.endswith(TURNED)
        found.append(Stored(target, one.shape, source, heads if turned else 0))
    return name, sorted(found, key=_place)


def _place(one: Stored) -> tuple[int, int, str]:
    """Embedding first, then the blocks, then the head."""
    parts = one.name.split(".")
    return (
        (1, int(parts[1]), one.name) if parts[0] == "blk" else (0 if "embd" in one.name else 2, 0, one.name)
    )


def write_sizes(writer: GGUFWriter, config: Mapping[str, Any], shape: Architecture, rows: int) -> None:
    """The model's sizes; `rows` of its embedding. ModelError where positions are made longer in a way that
    is not known here."""
    writer.add_context_length(context_length(config))
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value // shape.head_size)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(rows)
    rope = positions(config)
    writer.add_rope_freq_base(float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind in ("linear", "yarn"):
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rope["factor"]))
        if kind == "yarn" and "original_max_position_embeddings" in rope:
            writer.add_rope_scaling_orig_ctx_len(int(rope["original_max_position_embeddings"]))
    elif kind not in ("default", "llama3"):
        raise ModelError(f"positions of the kind {kind!r} are not written into a GGUF here", "--to merged")


def positions(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """How positions are turned, as a config.json says it (older ones: rope_scaling)."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def turn_factors(config: Mapping[str, Any], shape: Architecture) -> list[float]:
    """What llama.cpp divides each turning speed by (`rope_freqs.weight`), of Llama 3's positions; else none.
    Source: Llama 3.1's rope scaling, as in transformers' modeling_rope_utils."""
    rope = positions(config)
    if rope.get("rope_type", rope.get("type")) != "llama3":
        return []
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    factor, before = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    theta = float(rope.get("rope_theta", config.get("rope_theta", 10_000.0)))
    found = []
    for pair in range(shape.head_size // 2):
        length = 2 * math.pi * theta ** (2 * pair / shape.head_size)
        if length < before / high:
            found.append(1.0)
        elif length > before / low:
            found.append(factor)
        else:
            smooth = (before / length - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def context_length(config: Mapping[str, Any]) -> int:
    """Tokens that a text may have: no more than some layer looks back, since llama.cpp lets these look at
    all."""
    longest = int(config.get("max_position_embeddings") or 2048)
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    return min(longest, int(window)) if window else longest
