"""A language LoRA as peft saves it: its layers' factors, and the embedding and head of its own that a
larger vocabulary brings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from doitune.base.weights import FLOATS, Weights, open_weights
from doitune.errors import ModelError, Problem

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""The files of an adapter, by the names that peft gives them."""

_FACTOR = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
_SAVED = re.compile(r"\.modules_to_save(\.default)?(?=\.)")
_PREFIX = "base_model.model."
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none", None),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "layer_replication": (None,),
    "lora_bias": (False, None),
}
"""Settings that change how an adapter is merged, with the values that are the plain LoRA merged here.
`fan_in_fan_out` is for GPT-2's layers, whose matrices lie the other way."""


@dataclass(frozen=True)
class LanguageLora:
    """One adapter. `factors`: the names of A [rank, inputs] and B [outputs, rank] by the name of the weight
    they change.

    `own`: tensors that stand in the base's place, by the base's name. `scale`: the product B A is multiplied
    by it.
    """

    name: str
    folder: Path
    scale: float
    weights: Weights
    factors: dict[str, tuple[str, str]]
    own: dict[str, str]

    def shape(self, target: str) -> tuple[int, ...]:
        """The shape that this adapter needs or gives `target` to have."""
        if target in self.own:
            return self.weights.table[self.own[target]].shape
        below, above = self.factors[target]
        return self.weights.table[above].shape[0], self.weights.table[below].shape[1]


def open_adapter(name: str, folder: Path) -> LanguageLora:
    """The adapter in `folder`, called `name` by the user. ModelError, all problems of its table at once."""
    config = _config(folder)
    weights = open_weights(folder, Path(WEIGHTS).stem)
    rank = _number(config, "r", folder)
    alpha = _number(config, "lora_alpha", folder)
    factors, own, problems = _table(weights)
    for target, (below, above) in factors.items():
        ranks = {weights.table[below].shape[:1], weights.table[above].shape[1:]}
        if ranks != {(int(rank),)}:
            problems.append(
                f"the factors of {target} are {_by(weights, below)} and {_by(weights, above)}, "
                f"not of rank {rank:g}"
            )
    problems += [
        f"{one} is of type {weight.dtype}"
        for one, weight in weights.table.items()
        if weight.dtype not in FLOATS
    ]
    if problems:
        raise ModelError.of(
            Problem(str(folder), one, "doitune merges plain LoRA adapters of peft") for one in problems[:10]
        )
    return LanguageLora(
        name, folder, alpha / (sqrt(rank) if config.get("use_rslora") else rank), weights, factors, own
    )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = "--lora takes a folder that peft wrote, or a hub name"
        raise ModelError(f"is no language adapter: it holds no {CONFIG}", hint, place=str(folder)) from None
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(
            f"is not readable JSON: {error}", "copy the adapter again", place=str(path)
        ) from None
    if not isinstance(config, dict):
        raise ModelError("is not a JSON object", "copy the adapter again", place=str(path))
    odd = [
        f"{key} is {config[key]!r}"
        for key, values in _PLAIN.items()
        if key in config and config[key] not in values
    ]
    if odd:
        raise ModelError.of(
            Problem(
                str(path), one, "doitune merges plain LoRA adapters of peft; merge this one with peft itself"
            )
            for one in odd
        )
    return config


def _number(config: dict[str, Any], key: str, folder: Path) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise ModelError(f"{key} is {value!r}", "copy the adapter again", place=str(folder / CONFIG))
    return float(value)


def _table(weights: Weights) -> tuple[dict[str, tuple[str, str]], dict[str, str], list[str]]:
    """Factors and own tensors by the base's names, and what cannot be merged."""
    sides: dict[str, dict[str, str]] = {}
    own, problems = {}, []
    for name, weight in weights.table.items():
        plain = name.removeprefix(_PREFIX)
        factor = _FACTOR.fullmatch(plain)
        if factor:
            sides.setdefault(f"{factor['layer']}.weight", {})[factor["side"]] = name
        elif "original_module" in plain:
            continue  # the base's own, as peft kept it beside the adapter's
        elif "lora_" in plain or not name.startswith(_PREFIX):
            problems.append(f"{name} is no part of a plain LoRA")
        else:
            target = _SAVED.sub("", plain)
            if target not in own or _SAVED.search(
                plain
            ):  # peft may write an embedding twice: as trained, and as what the model has
                own[target] = name
        if factor and len(weight.shape) != 2:
            problems.append(f"{name} has the shape {list(weight.shape)}")
    lone = [target for target, found in sides.items() if len(found) != 2]
    problems += [f"{target} has one factor of two" for target in lone]
    return (
        {target: (found["A"], found["B"]) for target, found in sides.items() if len(found) == 2},
        own,
        problems,
    )


def _by(weights: Weights, name: str) -> str:
    return " x ".join(map(str, weights.table[name].shape))
