"""A base of any architecture with an adapter merged into it: every tensor as the base's files have it, and no
table of what a base of its family consists of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from doitune.base.adapter import LanguageLora, open_adapter
from doitune.base.assembly import BUFFERS, MOST_SHOWN, Assembly, Target, number_type, refuse_quantised
from doitune.base.rounded import as_rounded, stored_rounded
from doitune.base.weights import FLOATS, Weights, open_weights
from doitune.errors import ModelError, Problem

TEXT, STORED_TEXT = "model.language_model.", ("language_model.model.", "model.")
"""How the names of a language model begin in memory that is a part of another one, and how in its files."""

_BY_PEFT = "merge the adapter with peft: its names are those of the model in memory, not those of its files"


def assemble_as_stored(
    folder: Path,
    config: dict[str, Any],
    loras: Sequence[tuple[str, Path]],
    linears: Collection[str],
    *,
    rounded: bool = False,
) -> Assembly:
    """See open_assembly. `linears`: the weights that training quantises, by their names in the model.
    ModelError where a LoRA or one of these has no tensor of its name in the files."""
    refuse_quantised(folder, config, rounded=rounded)
    base = open_weights(folder, "model")
    base.table = {name: one for name, one in base.table.items() if not name.endswith(BUFFERS)}
    in_4_bits = bool(config.get("quantization_config"))
    if in_4_bits:
        base = stored_rounded(base)
    adapters = tuple(_as_in_files(open_adapter(name, path), base) for name, path in loras)
    linears = [_in_files(name, base) for name in linears]
    problems = list(_problems(folder, base, adapters))
    if rounded and not in_4_bits:
        absent = [name for name in linears if name not in base.table]
        problems += [Problem(str(folder), f"{name} is not in its files", _BY_PEFT) for name in absent]
    if problems:
        raise ModelError.of(problems[:MOST_SHOWN])
    targets = tuple(Target(name, one.shape, name in linears) for name, one in base.table.items())
    if rounded and not in_4_bits:
        base = as_rounded(base, linears)
    return Assembly(folder, base, adapters, None, dict(config), targets, number_type(base, targets))


def _in_files(name: str, base: Weights) -> str:
    """The name in the files of a tensor that the model in memory calls `name`; `name` where none is known."""
    if name in base.table or not name.startswith(TEXT):
        return name
    rest = name.removeprefix(TEXT)
    return next((start + rest for start in STORED_TEXT if start + rest in base.table), name)


def _as_in_files(lora: LanguageLora, base: Weights) -> LanguageLora:
    """The adapter with the names of the base's files."""
    factors = {_in_files(name, base): sides for name, sides in lora.factors.items()}
    return replace(lora, factors=factors, own={_in_files(name, base): own for name, own in lora.own.items()})


def _problems(folder: Path, base: Weights, loras: Sequence[LanguageLora]) -> Iterator[Problem]:
    for name, one in base.table.items():
        if one.dtype not in FLOATS or not one.shape:
            what = f"{name} is of shape {list(one.shape)} and type {one.dtype}"
            yield Problem(str(folder), what, "give the base in 16 or 32 bits")
    for lora in loras:
        for name in [*lora.own, *lora.factors]:
            if name not in base.table:
                what = f"the adapter changes {name}, which is not in the base's files"
                yield Problem(str(folder), what, _BY_PEFT)
            elif lora.shape(name) != base.table[name].shape:
                what = f"{name} is {list(base.table[name].shape)}, the adapter needs {list(lora.shape(name))}"
                yield Problem(str(folder), what, "is this the base that it was trained on?")
