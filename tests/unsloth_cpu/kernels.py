"""Unsloth's kernels against plain torch in Triton's interpreter. Prints one JSON object: the largest
difference of each."""

from __future__ import annotations

import json

import on_cpu  # noqa: F401
import torch

from doitune.selftest.kernels import differences

print(json.dumps(differences("cpu", torch.float32)))
