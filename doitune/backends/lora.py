"""A fresh LoRA adapter on a base that a library has just loaded."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from doitune.backends.adapter import Adapter
from doitune.backends.lean_lora import lean
from doitune.backends.lean_norm import lean_norms
from doitune.backends.loaded import LoadRequest
from doitune.backends.token_rows import TokenRows, add_rows
from doitune.backends.tokenizer import load_tokenizer
from doitune.errors import ModelError
from doitune.system.doing import doing


def adapt(model: Any, request: LoadRequest) -> Adapter:
    """Put peft's layers into `model`, in fp32; everything else is frozen. The request's seed fixes their
    first values. ModelError as `lora_targets`."""
    rows = freeze(model, request)
    config = LoraConfig(
        r=request.rank,
        lora_alpha=request.alpha,  # type: ignore[arg-type]
        lora_dropout=request.dropout,
        target_modules=lora_targets(request, model),
        exclude_modules=beside_text(model) or None,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.name_or_path,
        revision=request.base.revision or None,
    )
    torch.manual_seed(request.seed)
    adapted = get_peft_model(model, config)
    train_alone(adapted, rows)
    lean(adapted)
    lean_norms(adapted)
    if request.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    elif getattr(model, "is_gradient_checkpointing", False):  # of the adapter before this one
        model.gradient_checkpointing_disable()
    return Adapter(adapted, rows)


def again(adapter: Adapter, request: LoadRequest) -> Adapter:
    """A fresh adapter in the place of another, as on a base that was just loaded; neither may have token
    rows of its own."""
    doing("putting an adapter on the base")
    return adapt(adapter.peft.unload(), request)


def freeze(model: Any, request: LoadRequest) -> TokenRows | None:
    """Freeze the base, take away what its files say of caches and sampling, and give it the token rows
    asked for."""
    model.requires_grad_(False)
    model.config.use_cache = False
    # as peft finds it again: a repository at its commit, or a folder
    model.name_or_path = request.base.name if request.base.revision else str(request.base.folder)
    # the base's own sampling defaults must not reach an evaluation
    model.generation_config = GenerationConfig()
    if not request.new_rows:
        return None
    return add_rows(model, request.new_rows, load_tokenizer(request.base.folder).eos_token_id)


def beside_text(model: Any) -> list[str]:
    """Names of the linear layers that take no part in text: those of a model's eyes and ears, outside of its
    decoder."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    own = {id(module) for module in (decoder or model).modules()} | {id(head)}
    return sorted(
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and id(module) not in own
    )


def lora_targets(request: LoadRequest, model: Any) -> list[str]:
    """The linear layers that get an adapter, by their last name, so that the head stays out. ModelError
    names the unknown ones."""
    beside = {*beside_text(model)}
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in beside
    }
    head = model.get_output_embeddings()
    names -= {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if module is head} | {"base"}
    unknown = [target for target in request.targets if target not in names]
    if not names:
        raise ModelError(
            f"{request.base.name} has no layers to adapt", "its config.json is of another model, or damaged"
        )
    if unknown:
        raise ModelError(
            f"{request.base.name} has no linear layers {unknown}",
            f"it has {', '.join(sorted(names))} (lora.targets)",
        )
    return sorted(request.targets or names)


def train_alone(adapted: Any, rows: TokenRows | None) -> None:
    """Let the token rows be trained too, which peft froze with all that is not its own, and keep what is
    trained in fp32."""
    if rows is not None:
        rows.train()
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
