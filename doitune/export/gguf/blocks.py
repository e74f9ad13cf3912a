"""The blocks that a GGUF is written of: what llama.cpp calls them, and wherein its code of them differs from
transformers'.

Source: llama.cpp's src/models and its converter (conversion/llama.py, qwen.py, gemma.py, phi.py); sizes that
a config.json leaves out: transformers' configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from doitune.base.families import decoder_part
from doitune.errors import ModelError

OWN_SCALE = (46, 62)
"""Layers of the Gemmas (2 and 3, of 27 billion weights) whose scores llama.cpp scales by hidden width over
heads, those of all others by the width of a head."""


@dataclass(frozen=True)
class Blocks:
    """`name`: llama.cpp's. `turned`: of a head's rows, those of two numbers that are turned together are
    neighbours there. `raised`: a norm multiplies by 1 + its weight, and the 1 is added in the file. `period`:
    of so many layers the last looks back at all, the others as far as a window; 0: there is no window, or
    llama.cpp does not know it. `unsaid`: what a config.json may leave out."""

    name: str
    turned: bool = False
    raised: bool = False
    period: int = 0
    unsaid: Mapping[str, Any] = field(default_factory=dict)


_GEMMA = Blocks(
    "gemma2",
    raised=True,
    period=2,
    unsaid={
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    },
)
_GEMMA_3 = replace(
    _GEMMA,
    name="gemma3",
    period=6,
    unsaid={
        **_GEMMA.unsaid,
        "max_position_embeddings": 131_072,
        "rope_theta": 1_000_000.0,
        "final_logit_softcapping": None,
        "attn_logit_softcapping": None,
    },
)

ARCHITECTURES = {
    "llama": Blocks("llama", turned=True),
    "mistral": Blocks("llama", turned=True),
    "qwen2": Blocks("qwen2"),
    "qwen3": Blocks("qwen3"),
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA_3,
    "gemma3": _GEMMA_3,
    "phi3": Blocks("phi3", unsaid={"rms_norm_eps": 1e-5}),
}
"""By model_type."""


def blocks_of(config: Mapping[str, Any], place: str) -> Blocks:
    """Of a folder's config.json. ModelError for blocks that are not written here, or that llama.cpp computes
    otherwise."""
    model_type = str(config.get("model_type", ""))
    blocks = ARCHITECTURES.get(model_type)
    if blocks is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"a GGUF of blocks of model_type {model_type!r} is not written here; known are {known}",
            "llama.cpp's convert_hf_to_gguf.py may know it: give it the folder of --to merged, and compare "
            "prompt ids before you trust it",
            place=place,
        )
    if blocks.raised:
        _refuse_other_gemma(blocks, said_by(config), place)
    return blocks


def said_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with the keys of its language model at the top, and what it leaves out."""
    return {**ARCHITECTURES[config["model_type"]].unsaid, **decoder_part(config)}


def _refuse_other_gemma(blocks: Blocks, config: Mapping[str, Any], place: str) -> None:
    """ModelError for scores that are scaled or capped as llama.cpp's code has no key for."""
    reason = ""
    scale = _scale(config)
    if config["query_pre_attn_scalar"] != scale:
        reason = f"query_pre_attn_scalar is {config['query_pre_attn_scalar']}, llama.cpp takes {scale}"
    elif bool(config["final_logit_softcapping"]) != (blocks.period == _GEMMA.period):
        reason = f"final_logit_softcapping is {config['final_logit_softcapping']}"
    elif config["attn_logit_softcapping"] and blocks.period != _GEMMA.period:
        reason = f"attn_logit_softcapping is {config['attn_logit_softcapping']}"
    elif config.get("use_bidirectional_attention"):
        reason = "a token looks at those after it"
    if reason:
        raise ModelError(
            f"llama.cpp computes {blocks.name} otherwise than this base: {reason}", "--to merged", place=place
        )


def _scale(config: Mapping[str, Any]) -> int:
    heads, layers = int(config.get("num_attention_heads", 8)), int(config.get("num_hidden_layers", 26))
    if layers in OWN_SCALE:
        return int(config["hidden_size"]) // heads
    return int(config.get("head_dim", 256))


def window_period(blocks: Blocks, config: Mapping[str, Any], layers: int) -> int:
    """How llama.cpp is told which layers look at a window alone: of so many the last does not (1: none does,
    0: all do). ModelError where no number says it. `config`: as `said_by` has it."""
    kinds = config.get("layer_types")
    if kinds is None:
        return int(config.get("sliding_window_pattern") or blocks.period)
    narrow = [kind == "sliding_attention" for kind in kinds[:layers]]
    for period in (blocks.period, 1, 0, *range(2, layers + 1)):
        if narrow == [not period or layer % period < period - 1 for layer in range(layers)]:
            return period
    raise ModelError("llama.cpp has no such order of layers that look at a window and at all", "--to merged")
