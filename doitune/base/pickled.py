"""The one place that opens a pickle: .bin weights that `doitune base make` assembles a base from.

LLaMA and its language adapters of 2023 were published as .bin only. They are opened by torch's restricted
reader, which rebuilds tensors and plain containers and refuses every other instruction before it runs, with
the tensors' bytes mapped from the file and not read into memory. The reader was twice found wanting
(CVE-2025-32434 before torch 2.6, CVE-2026-24747 before 2.10), hence the floor. Nothing else in doitune reads
.bin: what `base make` writes is safetensors.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

from packaging.version import Version

from doitune.errors import FitError, ModelError
from doitune.system.versions import release_of

if TYPE_CHECKING:
    import torch

SAFE_TORCH = Version("2.10")
"""The first release whose restricted reader has no known hole."""


def refuse_old_torch(version: str) -> None:
    """FitError for a torch whose readers have known holes; libraries below doitune use them, too."""
    if release_of(version) < SAFE_TORCH:
        raise FitError(
            f"torch {version} reads files by code that has known holes",
            f"install torch {SAFE_TORCH} or newer",
        )


def open_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .bin file, mapped. ModelError for anything but a table of tensors; FitError for a
    torch that is too old."""
    import torch

    refuse_old_torch(torch.__version__)
    if not is_zipfile(path):
        hint = "convert the model to safetensors where you trust it, and give that folder"
        raise ModelError("not in torch's zip format, so it cannot be mapped", hint, place=str(path))
    try:
        found: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"holds more than tensors, or is damaged; nothing of it was run ({reason})"
        raise ModelError(problem, "get the weights elsewhere", place=str(path)) from None
    if not isinstance(found, dict) or not all(_is_plain(name, one) for name, one in found.items()):
        raise ModelError(
            "is not a table of tensors by name",
            "give the model's pytorch_model*.bin or adapter_model.bin",
            place=str(path),
        )
    return dict(found)


def _is_plain(name: Any, value: Any) -> bool:
    """Whether an entry is a dense tensor under a name."""
    import torch

    return (
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
    )
