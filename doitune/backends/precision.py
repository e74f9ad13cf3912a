"""The dtype of products."""

from __future__ import annotations

import torch

from doitune.errors import FitError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Values of `model.compute_dtype`, but for auto."""


def compute_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """`wanted`: auto, fp32, bf16 or fp16. auto is fp32 on the CPU, and on CUDA bf16 where the card has it,
    else fp16.

    Errors: FitError for what the device only emulates.
    """
    if device.type == "cpu":
        if wanted in ("bf16", "fp16"):
            raise FitError(
                f"{wanted} is about 180 times slower than fp32 on a CPU", "use --set model.compute_dtype=auto"
            )
        return torch.float32
    if wanted == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if wanted == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise FitError("this card only emulates bf16", "use --set model.compute_dtype=fp16")
    return DTYPES[wanted]
