"""The doctor's own process: `python -m doitune.doctor.ask` writes one line of JSON on what torch and the
backends say of this machine."""

from __future__ import annotations

import json
import sys
import warnings
from importlib import import_module
from typing import Any, cast

from doitune.backends.loaded import Backend
from doitune.backends.pick import ORDER


def answer() -> dict[str, Any]:
    """torch's version and cards, and every backend's reason against this machine (None: it serves).
    Imports torch and the hf backend."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    cards = []
    for number in range(torch.cuda.device_count() if there else 0):
        major, minor = torch.cuda.get_device_capability(number)
        cards.append(
            {"name": torch.cuda.get_device_name(number), "capability": f"{major}{minor}", "bf16": major >= 8}
        )
    why = "" if there or not said else str(said[-1].message).strip().splitlines()[0]
    facts = {
        "version": torch.__version__,
        "built_for": torch.version.cuda or "",
        "cuda": there,
        "cards": cards,
        "why": why,
    }
    return {"torch": facts, "backends": {name: _reason(name) for name in ORDER}}


def _reason(name: str) -> str | None:
    try:
        return cast(Backend, import_module(f"doitune.backends.{name}")).why_not()
    except (
        ImportError,
        RuntimeError,
        AttributeError,
        OSError,
    ) as error:  # a library that is absent, or does not fit the others
        return f"it does not import: {(str(error).strip() or type(error).__name__).splitlines()[0]}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer()) + "\n")
