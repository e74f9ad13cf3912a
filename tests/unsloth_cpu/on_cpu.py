"""Unsloth's own code on a CPU, in Triton's interpreter, in fp32: imported first by the scripts beside this
one.

What is replaced is what only a card can do: the kernel that dequantises NF4 (bitsandbytes' own takes its
place), where rotary tables lie, and answers about the card. Attention falls to torch's own.
"""

# ruff: noqa: E402  # Unsloth comes first, the order is the point

from __future__ import annotations

import os
import sys

os.environ.update(UNSLOTH_ALLOW_CPU="1", TRITON_INTERPRET="1", HF_HUB_OFFLINE="1")

import torch

from doitune.backends import unsloth as backend

backend.begin()

import unsloth  # noqa: F401
import unsloth.models.llama as llama
import unsloth.models.loader as loader
from bitsandbytes.functional import dequantize_4bit

from doitune.backends import unsloth_load

CPU = torch.device("cpu", 0)


def _tables(self, device_index):
    if self._rope_cache_stale(self.multi_gpu_cos_cached[0], 0):
        size = self.current_rope_size
        self._set_cos_sin_cache(seq_len=self._rope_cache_rows(), device=CPU, dtype=self._rope_cache_dtype)
        self.current_rope_size = size
        self._rope_cache_versions[0] = self._rope_cache_version
        self._rope_rows_ready[0] = len(self.multi_gpu_cos_cached[0])
    return 0


def _dequantised(weight, state=None, out=None, use_global_buffer=False, dtype=None):  # dtype: of fp8
    if state is None:
        return weight
    plain = dequantize_4bit(weight.reshape(-1, 1), state)
    return plain.t() if weight.shape[0] == 1 else plain


torch.cuda.current_device = lambda: 0
torch.cuda.get_device_capability = lambda *which: (8, 0)
llama.get_current_device = lambda: CPU
llama.DEVICE_COUNT = 1
llama.get_device_stats = lambda: ("a CPU", "", 0)
llama._PerDeviceRopeCache._ensure_rope_cache = _tables
llama._base_weight_dtype = lambda layer: (
    torch.bfloat16
)  # its fused LoRA kernels serve 16-bit bases; here they compute in fp32
loader.ALLOW_BITSANDBYTES = True
for module in list(sys.modules.values()):
    if str(getattr(module, "__name__", "")).startswith("unsloth.kernels"):
        if hasattr(
            module, "triton_cast"
        ):  # taken from Triton at import, before the interpreter could replace it
            module.triton_cast = lambda value, kind: value.to(kind) if hasattr(value, "to") else value
        if hasattr(module, "fast_dequantize"):
            module.fast_dequantize = _dequantised
options = unsloth_load.base_options
unsloth_load.base_options = lambda request, dtype: {**options(request, dtype), "device_map": {"": "cpu"}}
