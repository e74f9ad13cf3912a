"""The hf backend: transformers, peft and bitsandbytes NF4 with double quantisation, on CUDA and on the CPU.

On the CPU everything computes in fp32: bf16 and fp16 products are about 180 times slower there. The base is
frozen as it is loaded: no fp32 upcast of norms and embeddings (`prepare_model_for_kbit_training` would cost
2.8 GiB on 33b), no cache while training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from doitune.backends import documents
from doitune.backends.attention import refuse_no_attention
from doitune.backends.four_bits import compute_in, quantisation, quantising_in_pieces
from doitune.backends.hf_model import HfModel, prove_head
from doitune.backends.loaded import LoadRequest
from doitune.backends.lora import adapt
from doitune.backends.precision import compute_dtype
from doitune.backends.refusals import first_line, refusals
from doitune.backends.unread import refuse_other_head, refuse_unread
from doitune.base.context import context_of, window_of
from doitune.errors import FitError, ModelError
from doitune.system.doing import doing

if TYPE_CHECKING:
    from doitune.base.folder import Base

disable_progress_bar()  # the console shows progress
# its warnings show names from the model's files as they are, escape sequences too; what matters is an error
# here
set_verbosity_error()


def why_not(base: Base | None = None) -> str | None:
    """None: this backend serves every machine that torch serves."""
    return None


def load(request: LoadRequest) -> HfModel:
    """The base in 4 bits with a fresh LoRA adapter. Errors: ModelError where the base cannot be used,
    FitError where it does not fit."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = compute_dtype(request.compute_dtype, device)
    doing("loading the base")
    base = _load_base(request, device, dtype)
    doing("putting an adapter on the base")
    _keep_fp32_kernels(base)
    model = HfModel(request.base.name, adapt(base, request), device)
    model.compute_dtype = str(dtype).removeprefix("torch.")
    context = context_of(request.base.config)
    model.context_tokens = context.tokens if context else None
    model.window_tokens = window_of(request.base.config)
    prove_head(model)
    return model


@quantising_in_pieces()
def _load_base(request: LoadRequest, device: torch.device, dtype: torch.dtype) -> Any:
    """The base as transformers loads it, in NF4 with nested absmax unless the recipe says otherwise."""
    options: dict[str, Any] = {
        "dtype": dtype,
        **quantisation(request, dtype),
        "device_map": {"": str(device)},
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    folder = str(request.base.folder)
    try:
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                folder, attn_implementation=documents.register(), **options
            )
        except ValueError as error:
            if "attention" not in str(error).lower():
                raise
            model, report = AutoModelForCausalLM.from_pretrained(folder, **options)
    except refusals() as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise FitError(
                f"{request.base.name} does not fit this card", "`doitune plan` says what would"
            ) from error
        hint = (
            "doitune runs no code from a model's folder"
            if "trust_remote_code" in str(error)
            else "check or copy the model again"
        )
        raise ModelError(f"{folder} cannot be loaded: {first_line(error)}", hint) from error
    refuse_no_attention(model.config, folder)
    lacking = sorted(report["missing_keys"])
    if lacking:  # transformers fills them with random numbers
        raise ModelError(
            f"{folder} lacks {len(lacking)} of its weights, first {lacking[0]}",
            "copy or download the model again",
        )
    refuse_unread(request.base.folder, report["unexpected_keys"], request.base.config)
    refuse_other_head(model, request.base.folder)
    compute_in(model, dtype)
    return model


def _keep_fp32_kernels(model: Any) -> None:
    """Keep 4-bit layers trainable after an evaluation.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a layer's weights for bf16 at the first forward pass
    in evaluation mode, for good: from then on no gradient flows through the layer and its products are
    rounded to bf16.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
