"""A base that Unsloth loads, with a fresh adapter on it; what Unsloth would change beside that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from unsloth import FastLanguageModel

from doitune.backends.adapter import Adapter
from doitune.backends.four_bits import compute_in, quantisation
from doitune.backends.hf_model import prove_head
from doitune.backends.loaded import LoadRequest
from doitune.backends.lora import freeze, lora_targets, train_alone
from doitune.backends.precision import compute_dtype
from doitune.backends.refusals import first_line, refusals
from doitune.backends.token_rows import TokenRows
from doitune.backends.unread import refuse_other_head, refuse_unread, unread_by
from doitune.backends.unsloth_model import UnslothModel
from doitune.base.context import context_of
from doitune.errors import FitError, ModelError
from doitune.system.doing import doing
from doitune.system.streams import quiet


def load_base_and_adapter(request: LoadRequest) -> UnslothModel:
    """The base as Unsloth loads it, with a fresh adapter; nothing but the adapter (and token rows of their
    own) is trained. Errors: FitError, ModelError."""
    dtype = compute_dtype(request.compute_dtype, torch.device("cuda"))
    doing("loading the base")
    with quiet():
        base = _load_base(request, dtype)
        rows = freeze(base, request)
        adapted = FastLanguageModel.get_peft_model(
            base, **adapter_options(request, lora_targets(request, base))
        )
    train_alone(adapted, rows)
    refuse_other_training(adapted, rows)
    device = base.get_input_embeddings().weight.device
    model = UnslothModel(request.base.name, Adapter(adapted, rows), device)
    model.compute_dtype = str(dtype).removeprefix("torch.")
    context = context_of(request.base.config)
    model.context_tokens = context.tokens if context else None
    prove_head(model)
    return model


def base_options(request: LoadRequest, dtype: torch.dtype) -> dict[str, Any]:
    """The arguments of Unsloth's from_pretrained: this folder and no other name, one card, nothing resized,
    extended or moved by free memory."""
    return {
        "model_name": str(request.base.folder),
        "max_seq_length": request.base.size("positions") or request.max_tokens,  # more would rescale them
        "dtype": dtype,
        "load_in_4bit": request.quantise == "nf4",
        "device_map": {"": "cuda:0"},
        "fix_tokenizer": False,
        "trust_remote_code": False,
        "use_gradient_checkpointing": "unsloth" if request.gradient_checkpointing else False,
        "use_exact_model_name": True,
        "offload_embedding": False,
        "random_state": request.seed,
        "local_files_only": True,
        "use_safetensors": True,
    }


def adapter_options(request: LoadRequest, targets: list[str]) -> dict[str, Any]:
    """The arguments of Unsloth's get_peft_model."""
    return {
        "r": request.rank,
        "target_modules": targets,
        "lora_alpha": request.alpha,
        "lora_dropout": request.dropout,
        "bias": "none",
        "use_gradient_checkpointing": "unsloth" if request.gradient_checkpointing else False,
        "random_state": request.seed,
    }


def _load_base(request: LoadRequest, dtype: torch.dtype) -> Any:
    """The base on the card. Errors: FitError where it does not fit, ModelError where it cannot be read or
    is not what its folder says."""
    folder, name = request.base.folder, request.base.name
    quantisation(request, dtype)  # refuses a base that is quantised in another way
    try:
        model, _ = FastLanguageModel.from_pretrained(**base_options(request, dtype))
    except torch.OutOfMemoryError as error:
        raise FitError(f"{name} does not fit this card", "`doitune plan` says what would") from error
    except refusals() as error:
        raise ModelError(
            f"{folder} cannot be loaded by Unsloth: {first_line(error)}", "use --set model.backend=hf"
        ) from error
    wanted, found = request.base.size("vocabulary"), len(model.get_input_embeddings().weight)
    if found != wanted:  # a tokenizer without padding is given a token, and the matrix a row
        raise ModelError(
            f"Unsloth made {found} rows of the {wanted} of {name}",
            "give its tokenizer a pad_token, or use --set model.backend=hf",
        )
    if hasattr(model, "_need_to_train_embeddings"):
        raise ModelError(
            f"tokens were added to {name} by Unsloth's own helper, which trains the whole embedding",
            "use prompt.tokens: new",
        )
    lacking = _lacking(model, folder)
    if lacking:  # transformers fills them with random numbers
        raise ModelError(
            f"{folder} lacks {len(lacking)} of its weights, first {lacking[0]}",
            "copy or download the model again",
        )
    refuse_unread(folder, unread_by(model, folder), request.base.config)
    refuse_other_head(model, folder)
    compute_in(model, dtype)
    return model


def _lacking(model: Any, folder: Path) -> list[str]:
    """Names of the model's weights that the folder's files lack; tied ones count once."""
    stored: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as weights:
            stored |= set(weights.keys())
    return sorted(name for name, _ in model.named_parameters() if name not in stored)


def refuse_other_training(adapted: Any, rows: TokenRows | None) -> None:
    """FitError where anything but LoRA matrices and token rows is trained: an embedding or a head takes
    gigabytes of gradients."""
    own = set() if rows is None else {id(rows.embedding.rows), id(rows.head.rows)}
    foreign = [
        name
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad and ".lora_" not in name and id(parameter) not in own
    ]
    if foreign:
        raise FitError(
            f"Unsloth would train {foreign[0]}" + (f" and {len(foreign) - 1} more" if foreign[1:] else ""),
            "use --set model.backend=hf",
        )
