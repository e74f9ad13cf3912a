"""What the tensors of a merged folder are called in a GGUF, and in which order their rows lie there.

Source: llama.cpp's converter (conversion/llama.py, qwen.py, gemma.py). Names come from the gguf package's own
table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.base.architecture import read_architecture
from doitune.errors import ModelError
from doitune.export.gguf.blocks import blocks_of

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from doitune.base.weights import Weights

EMBEDDING = "token_embd.weight"

TURNED = ("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")
"""Whose rows lie otherwise in blocks that say so (`Blocks.turned`)."""

TEXT_NAMES = re.compile(r"^(language_model\.model\.|model\.language_model\.)")
"""How the names of a language model begin that is a part of another one."""

BESIDE_TEXT = ("vision_tower.", "multi_modal_projector.")
"""Of a model that sees; a GGUF of its text has none of these."""


@dataclass(frozen=True)
class Stored:
    """A tensor of the file: its name there, its shape, where its rows come from (`source`, in the order of
    `heads`), and what is added to every number."""

    name: str
    shape: tuple[int, ...]
    source: str
    heads: int = 0
    raised: float = 0.0

    def order(self) -> torch.Tensor:
        """[rows]: which row of the source lies at each place."""
        import torch

        order = torch.arange(self.shape[0])
        return order.reshape(self.heads, 2, -1).transpose(1, 2).reshape(-1) if self.heads else order

    def rows(self, weights: Weights, at_once: int) -> Iterator[torch.Tensor]:
        """Its rows in fp32, some at once, in the file's order."""
        whole, order = weights.get(self.source), self.order()
        step = max(1, at_once // max(1, math.prod(self.shape[1:])))
        for first in range(0, len(order), step):
            part = order[first : first + step]
            rows = whole[part] if self.heads else whole[first : first + step]
            yield rows.float() + self.raised if self.raised else rows.float()


def list_tensors(folder: Path, config: Mapping[str, Any], weights: Weights) -> tuple[str, list[Stored]]:
    """llama.cpp's architecture of a folder, and its tensors in the order of the file. ModelError where
    llama.cpp's blocks are not known here, or a tensor has no name there."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    blocks = blocks_of(config, str(folder))
    shape = read_architecture(config, str(folder / "config.json"))
    architecture = next(one for one, text in MODEL_ARCH_NAMES.items() if text == blocks.name)
    names = get_tensor_name_map(architecture, shape.layers)
    found = []
    for source, one in weights.table.items():
        text = TEXT_NAMES.sub("model.", source)
        if text.endswith("rotary_emb.inv_freq") or text.removeprefix("model.").startswith(BESIDE_TEXT):
            continue
        if shape.tied and text.endswith("lm_head.weight"):
            continue
        target = names.get_name(text, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise ModelError(
                f"llama.cpp has no name for {source} in {blocks.name}", "report it", place=str(folder)
            )
        heads = shape.heads if ".q_proj." in text else shape.key_value // shape.head_size
        turned = blocks.turned and text.endswith(TURNED)
        raised = 1.0 if blocks.raised and text.endswith("norm.weight") else 0.0
        found.append(Stored(target, one.shape, source, heads if turned else 0, raised))
    return blocks.name, sorted(found, key=_place)


def _place(one: Stored) -> tuple[int, int, str]:
    """Embedding first, then the blocks, then the head."""
    parts = one.name.split(".")
    return (
        (1, int(parts[1]), one.name) if parts[0] == "blk" else (0 if "embd" in one.name else 2, 0, one.name)
    )
