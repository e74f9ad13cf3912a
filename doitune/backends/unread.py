"""Tensors of a base's files that the model does not read: harmless ones by name, any other is refused.

A config.json that says fewer layers than the files hold, or no biases where they have some, loads without an
error, and another model than the published one is trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from doitune.base.headers import read_header
from doitune.errors import ModelError

HARMLESS = (
    r"rotary_emb\.(inv_freq|cos_cached|sin_cached|original_inv_freq)$",
    r"(^|\.)(masked_bias|position_ids|token_type_ids)$",
    r"(^|\.)attn(ention)?\.bias$",
    r"(^|\.)mtp\.",
)
"""Buffers that a model computes itself (rotary tables, GPT's masks, places), and heads that predict further
tokens, which neither the loss nor a reply uses."""

NOT_TEXT = r"(^|\.)(vis(ion|ual)|audio|speech|image|multi_?modal|mm_projector|embed_(vision|audio))"
"""Parts of models of more than text, left out where only the text part is loaded."""

QUANTISED = r"\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*)$"
"""What bitsandbytes stores beside a weight in 4 bits."""


def refuse_unread(folder: Path, unread: Iterable[str], config: Mapping[str, Any]) -> None:
    """ModelError where one of the `unread` tensors of a folder's files is not a harmless one."""
    harmless = [*HARMLESS, *([NOT_TEXT] if "text_config" in config else [])]
    lost = sorted(name for name in unread if not any(re.search(one, name) for one in harmless))
    if lost:
        raise ModelError(
            f"{folder} holds {len(lost)} tensors that its config.json has no place for, first {lost[0]}",
            "the model would run without them: copy the config.json that belongs to these weights "
            "(num_hidden_layers, attention_bias and the like), or take the tensors out of the files",
        )


def refuse_other_head(model: Any, folder: Path) -> None:
    """ModelError where a model whose head should be its embedding was given another one: for families whose
    config.json leaves it out, see base.tied."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if model.config.get_text_config().tie_word_embeddings and embedding.data_ptr() != head.data_ptr():
        raise ModelError(
            f"{folder} holds a head with other values than its embedding, and they should be one",
            "to use the head that is stored, set tie_word_embeddings to false in a copy of config.json; to "
            "use the embedding, take the head out of a copy of the files",
        )


def unread_by(model: Any, folder: Path) -> list[str]:
    """Names in a folder's files that are not in the model's state, what is kept beside 4-bit weights aside;
    for a library that does not report them."""
    known = set(model.state_dict())
    stored = {name for path in sorted(folder.glob("*.safetensors")) for name in read_header(path)}
    return sorted(name for name in stored if re.sub(QUANTISED, "", name) not in known)
