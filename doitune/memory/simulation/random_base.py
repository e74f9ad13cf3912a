"""A base of random 4-bit weights at any size, without a download and without its bytes on a disk: for
measuring on a card.

`hollow` writes a folder as `doitune base make` would, but as sparse files: all of its numbers are holes,
which take no room. Both backends load it by their own way. `fill` then draws the numbers on the device, so
that a card computes with what costs the power of real weights.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import QuantState, create_dynamic_map, get_4bit_type
from bitsandbytes.nn import Linear4bit

from doitune.base.architecture import Architecture, config_of, read_architecture
from doitune.base.nf4 import ABSMAX_BLOCK, BLOCK, QUANTISED, STATE
from doitune.base.tensors import expected_shapes, is_linear
from doitune.demo.folder import BASE

POSITIONS = 4096
OFFSET, SPREAD = 0.02, 0.005
"""Scales of a block of weights: their mean and how far they lie from it; a layer then keeps the size of
what passes through."""


def hollow(folder: Path, architecture: Architecture) -> None:
    """Write config, the demo's tokenizer and one sparse NF4 file of `architecture`, as transformers has its
    blocks, into a new folder."""
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(BASE / name, folder / name)
    demo = json.loads((BASE / "config.json").read_text(encoding="utf-8"))
    words = {
        name: demo[name]
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "rms_norm_eps")
        if name in demo
    }
    sizes = config_of(architecture)
    architecture = read_architecture(sizes, str(folder))
    config = {
        **words,
        **sizes,
        "architectures": [architecture.family.model_class],
        **architecture.family.names.config({"positions": POSITIONS}),
    }
    config |= {"hidden_act": "silu", "dtype": "bfloat16", "quantization_config": QUANTISED}
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    _write(folder / "model.safetensors", architecture)


def _write(path: Path, architecture: Architecture) -> None:
    """The header, the code tables in their places, and holes for all the rest."""
    entries: dict[str, tuple[str, tuple[int, ...], int]] = {}
    filled: dict[str, bytes] = {}
    for name, shape in expected_shapes(architecture).items():
        if not is_linear(name, architecture):
            entries[name] = ("BF16", shape, 2)
            continue
        outputs, inputs = shape
        state, tables = _state(outputs, inputs)
        blocks = -(-outputs * inputs // BLOCK)
        entries[name] = ("U8", (-(-outputs * inputs // 2), 1), 1)
        entries[f"{name}.absmax"] = ("U8", (blocks,), 1)
        entries[f"{name}.nested_absmax"] = ("F32", (-(-blocks // ABSMAX_BLOCK),), 4)
        for key, table in tables.items():
            entries[f"{name}.{key}"] = ("F32", tuple(table.shape), 4)
            filled[f"{name}.{key}"] = table.numpy().tobytes()
        entries[f"{name}.{STATE}"] = ("U8", (len(state),), 1)
        filled[f"{name}.{STATE}"] = state
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, (kind, shape, size) in sorted(
        entries.items(), key=lambda pair: -pair[1][2]
    ):  # wide numbers first: every one is aligned
        end = place + size * int(torch.Size(shape).numel())
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name, content in filled.items():
            stream.seek(8 + len(text) + header[name]["data_offsets"][0])
            stream.write(content)
        stream.truncate(8 + len(text) + place)


def _state(outputs: int, inputs: int) -> tuple[bytes, dict[str, torch.Tensor]]:
    """A layer's state as bitsandbytes packs it, and its two code tables."""
    tables = {"quant_map": get_4bit_type("nf4", device="cpu"), "nested_quant_map": create_dynamic_map()}
    nested = QuantState(
        torch.empty(0), code=tables["nested_quant_map"], blocksize=ABSMAX_BLOCK, dtype=torch.float32
    )
    state = QuantState(
        torch.empty(0, dtype=torch.uint8),
        shape=torch.Size((outputs, inputs)),
        dtype=torch.bfloat16,
        blocksize=BLOCK,
        quant_type="nf4",
        code=tables["quant_map"],
        offset=torch.tensor(OFFSET),
        state2=nested,
    )
    return bytes(state.as_dict(packed=True)[STATE].tolist()), tables


@torch.no_grad()
def fill(model: Any, seed: int = 0) -> None:
    """Random numbers for every frozen weight of a loaded hollow base, where they lie; nothing is allocated
    that stays."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            state = module.weight.quant_state
            module.weight.data.random_(0, 256)
            state.absmax.random_(0, 256)
            state.state2.absmax.fill_(SPREAD)
        elif "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            module.weight.fill_(1.0)
    for matrix in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        matrix.normal_(0.0, 0.02)
