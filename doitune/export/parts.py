"""The parts of an export: by the table of families where it knows the base, else as the base's files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from doitune.base.as_stored import assemble_as_stored
from doitune.base.assembly import open_assembly
from doitune.base.families import FAMILIES
from doitune.base.folder import read_config

if TYPE_CHECKING:
    from doitune.base.assembly import Assembly


def open_parts(folder: Path, adapter: Path, *, rounded: bool) -> Assembly:
    """A base folder and a run's adapter; `rounded` as open_assembly takes it. ModelError."""
    loras, config = [("the run's adapter", adapter)], read_config(folder)
    family = FAMILIES.get(str(config.get("model_type", "")))
    biases = family is not None and any(
        config.get(str(key)) for key in (family.output_bias, family.mlp_bias) if isinstance(key, str)
    )
    if family is not None and family.assembled and not biases:
        return open_assembly(folder, loras, rounded=rounded)
    linears: list[str] = []
    if rounded:
        from doitune.memory.simulation.fake_model import quantised_weights

        linears = quantised_weights(config, str(folder))
    return assemble_as_stored(folder, config, loras, linears, rounded=rounded)
