"""`doitune selftest gpu` on a real card, its smallest size alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from doitune.selftest.gpu import selftest_gpu

if not torch.cuda.is_available():
    pytest.skip("this machine has no CUDA card", allow_module_level=True)


def test_a_card_passes_its_own_test(tmp_path: Path) -> None:
    document = selftest_gpu(tmp_path, quick=True)
    assert document["passed"], document["said"]
