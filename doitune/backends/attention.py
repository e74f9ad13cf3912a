"""Which models have attention, without torch: packing rows and reading their prefixes rest on it."""

from __future__ import annotations

from typing import Any

from doitune.errors import ModelError

_RECURRENT = ("linear", "mamba", "recurrent", "conv", "ssm", "rwkv")


def refuse_no_attention(config: Any, place: str) -> None:
    """ModelError for a model of transformers (by its config) none of whose layers attends to tokens:
    linear attention and state spaces alone."""
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None) or ()
    recurrent = bool(kinds) and all(any(word in str(kind) for word in _RECURRENT) for kind in kinds)
    if recurrent or not getattr(text, "num_attention_heads", None):
        raise ModelError(
            f"{place}: a {config.model_type!r} model has linear attention or state spaces alone, and doitune "
            "trains models with softmax attention",
            "take a model with attention layers",
        )
