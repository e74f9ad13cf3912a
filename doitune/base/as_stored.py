"""A base of any architecture with an adapter merged into it: every tensor as the base's files have it, and no
table of what a base of its family consists of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from doitune.base.adapter import LanguageLora, open_adapter
from doitune.base.assembly import BUFFERS, MOST_SHOWN, Assembly, Target, number_type, refuse_quantised
from doitune.base.rounded import as_rounded, stored_rounded
from doitune.base.weights import FLOATS, Weights, open_weights
from doitune.errors import ModelError, Problem

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
    adapters = tuple(open_adapter(name, path) for name, path in loras)
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
