"""The choice of a backend, and what has to be done before any library of one is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from doitune.backends.loaded import Backend
from doitune.base.pickled import refuse_old_torch
from doitune.errors import FitError
from doitune.system.garbage import importing

if TYPE_CHECKING:
    from doitune.base.folder import Base

ORDER = ("unsloth", "hf")
"""Backends by preference; each is a module of this folder."""

OFF = "TORCHDYNAMO_DISABLE"
"""torch's own switch of its compiler, read as a function is decorated and as it is called."""


def begin(wanted: str, base: Base) -> None:
    """Ready this process for the backend that will load `base`, before a tokenizer or anything else of
    transformers is loaded.

    Only Unsloth needs it: it has to be imported first. Errors: FitError where it was asked for by name and
    cannot serve, or torch is too old.
    """
    from doitune.backends import unsloth

    refuse_old_torch(version("torch"))
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        # read as CUDA starts; less of a card is lost in pieces
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    if wanted == "unsloth" or (wanted == "auto" and unsloth.installed()):
        name, _ = pick_backend(wanted, base)
        if name == "unsloth":
            unsloth.begin()


def pick_backend(wanted: str = "auto", base: Base | None = None) -> tuple[str, Backend]:
    """The backend called `wanted`, or with "auto" the first that this machine can use (for `base`).
    FitError lists every reason."""
    reasons = []
    for name in ORDER if wanted == "auto" else (wanted,):
        backend = _imported(name)
        reason = backend.why_not(base)
        if reason is None:
            return name, backend
        reasons.append(f"{name}: {reason}")
    raise FitError("no backend can load a model here: " + "; ".join(reasons), "`doitune doctor` says more")


def _imported(name: str) -> Backend:
    with importing():
        if name == "hf":
            with uncompiled():
                import_module("bitsandbytes")
        return cast(Backend, import_module(f"doitune.backends.{name}"))


@contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, `torch.compile` gives a function back as it is: bitsandbytes hands it four, for machines
    without kernels of its own, and torch imports its compiler for them, which takes two seconds.

    Unsloth's kernels need the compiler: where it serves, it has imported bitsandbytes before.
    """
    before = os.environ.get(OFF)
    os.environ[OFF] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFF]
        else:
            os.environ[OFF] = before
