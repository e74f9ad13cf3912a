"""How a model's replies are drawn where nobody says: as its maker wrote into generation_config.json."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from doitune.backends.written import Sampling
from doitune.base.consistent import read_settings
from doitune.base.folder import Base
from doitune.errors import ModelError, UsageError

SETTINGS = "generation_config.json"

BOUNDS: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 1_000_000),
    "repetition_penalty": (0.1, 10.0),
}
"""From, to. A share of nothing (`top_p` 0) is the likeliest token alone."""


def own_sampling(base: Base) -> tuple[Sampling, str]:
    """How a base's maker wants replies drawn, and where that stands; greedy where they say nothing. Errors:
    ModelError for a value out of bounds."""
    path = base.folder / SETTINGS
    said: dict[str, Any] = read_settings(path) if path.is_file() else {}
    if said.get("do_sample") is not True:
        return Sampling(), f"the base's {SETTINGS} asks for no sampling"
    found = {}
    for name, (low, high) in BOUNDS.items():
        value = said.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ModelError(
                f"{name} is {value!r}, not a number from {low:g} to {high:g}",
                "copy the model again, or mend this line of it",
                place=str(path),
            )
        found[name] = value
    # transformers draws at 1 and from 50 where a file that asks for sampling says no more
    return Sampling(**dict[str, Any]({"temperature": 1.0, "top_k": 50, **found})), f"the base's {SETTINGS}"


def changed(sampling: Sampling, **wishes: float | None) -> Sampling:
    """`sampling` with what was asked for; None asks for nothing. A temperature above 0 alone draws from all
    tokens. Errors: UsageError out of bounds."""
    asked = {name: value for name, value in wishes.items() if value is not None}
    for name, value in asked.items():
        low, high = BOUNDS.get(name, (0, 2**63 - 1))
        if not low <= value <= high:
            raise UsageError(f"{name} {value:g} is not from {low:g} to {high:g}", "greedy is temperature 0")
    return replace(sampling, **asked)  # type: ignore[arg-type]


def in_words(sampling: Sampling) -> str:
    """`temperature 0.7, top-p 0.8, top-k 20, seed 0`; `the likeliest token each time`."""
    penalty = sampling.repetition_penalty
    more = [f"repetition penalty {penalty:g}"] if penalty != 1 else []
    if sampling.temperature == 0:
        return ", ".join(["the likeliest token each time", *more])
    parts = [f"temperature {sampling.temperature:g}"]
    parts += [f"top-p {sampling.top_p:g}"] if sampling.top_p < 1 else []
    parts += [f"top-k {sampling.top_k}"] if sampling.top_k else []
    return ", ".join([*parts, *more, f"seed {sampling.seed}"])
