"""The unsloth backend: CUDA only, through Unsloth's Python API alone.

Unsloth replaces code of transformers, peft, trl and torch as it is imported, and it has to come before them.
So this module imports none of them: `why_not` looks at torch, at installed versions and at the base's config;
`begin` imports Unsloth into a process that is still clean; only `load` goes on to `unsloth_load`. A process
that has begun with Unsloth loads no model with the hf backend.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.backends.refusals import first_line
from doitune.base.families import families
from doitune.errors import FitError
from doitune.system.garbage import importing
from doitune.system.streams import quiet
from doitune.system.versions import release_of, version_of

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel, LoadRequest
    from doitune.base.folder import Base

VERSIONS = {
    "unsloth": ("2026.10.7", "2026.10.9"),
    "unsloth_zoo": ("2026.10.7", "2026.10.9"),
    "transformers": ("5.10", "5.17.0"),
}
"""First and last release of each library that this backend was written against: it leans on how Unsloth's
decoder is called."""

TOO_LATE = ("transformers", "peft", "trl")

ENVIRONMENT = {
    "UNSLOTH_DISABLE_STATISTICS": "1",  # it counts runs by a download
    "UNSLOTH_OFFLOAD_FP32": "exact",  # checkpoints of an fp32 run would be rounded to bf16
    "TOKENIZERS_PARALLELISM": "false",
}
"""What Unsloth reads as it is imported; what a user has set stays."""


def why_not(base: Base | None = None) -> str | None:
    """A sentence on why this machine, or this process, cannot load `base` with Unsloth, or None. Nothing but
    torch is imported."""
    import torch

    if not torch.cuda.is_available():
        return "it needs a CUDA card, and torch finds none here"
    lacking = [name for name in VERSIONS if not version_of(name)]
    if lacking:
        return f"{lacking[0]} is not installed (pip install 'doitune[gpu]')"
    foreign = [
        (name, *limits)
        for name, limits in VERSIONS.items()
        if not release_of(limits[0]) <= release_of(version_of(name)) <= release_of(limits[1])
    ]
    if foreign:
        name, first, last = foreign[0]
        found = version_of(name)
        return f"{name} {found} is installed, and this backend was written against {first} to {last}"
    early = [name for name in TOO_LATE if name in sys.modules and "unsloth" not in sys.modules]
    if early:
        return f"{early[0]} is imported in this process already, and Unsloth has to come before it"
    return None if base is None else _why_not_base(base)


def _why_not_base(base: Base) -> str | None:
    """A sentence on why Unsloth cannot compute this base as the hf backend does, or None."""
    config = base.config
    family = config.get("model_type")
    if family not in families("unsloth"):  # others it would compile afresh, which takes other memory
        known = ", ".join(families("unsloth"))
        return f"it has no kernels for model_type {family!r} of {base.name}, but for {known}"
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return f"{base.name} attends in a sliding window, which Unsloth counts by places and not by positions"
    stored = config.get("quantization_config") or {}
    if stored.get("bnb_4bit_quant_type") and not stored.get("bnb_4bit_use_double_quant"):
        return f"{base.name} was quantised with scales in 32 bits, and its kernels read nested ones"
    return None


def installed() -> bool:
    """Whether there is an Unsloth to ask about at all; answered without importing anything."""
    return bool(version_of("unsloth"))


def begin() -> None:
    """Import Unsloth, before transformers, peft and trl. Errors: FitError where it does not import."""
    if "unsloth" in sys.modules:
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "doitune" / "unsloth"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache))  # its default is under the current folder
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        with quiet(), importing():
            import unsloth  # noqa: F401
    except (ImportError, NotImplementedError, RuntimeError, AttributeError, OSError) as error:
        raise FitError(
            f"Unsloth is installed but does not import: {first_line(error)}", "use --set model.backend=hf"
        ) from error


def load(request: LoadRequest) -> LoadedModel:
    """The base in 4 bits with a fresh LoRA adapter, computed by Unsloth's kernels."""
    reason = why_not(request.base)
    if reason is not None:
        raise FitError(f"unsloth: {reason}", "use --set model.backend=hf")
    begin()
    from doitune.backends.unsloth_load import load_base_and_adapter

    return load_base_and_adapter(request)
