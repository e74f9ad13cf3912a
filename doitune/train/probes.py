"""Probes of one training: a few of its rows, whose losses prove that batches are exact and that a checkpoint
was read as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from doitune.backends.probe import (
    choose_rows,
    prove_adapter,
    prove_batches,
    save_probe,
    take_probe,
)
from doitune.prompt.encode import fingerprint

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.prepare.material import Material

SHORTEST, UNEVEN = 7, 3
"""Tokens of the first row's end that is probed, and how many more each further one has."""


class Probes:
    """The ends of the probed rows, each of another length, the model and the encoder."""

    def __init__(self, material: Material, model: LoadedModel) -> None:
        self.model = model
        rows = choose_rows(material.examples, material.encoded)
        self.rows = [(name, row.end(SHORTEST + UNEVEN * place)) for place, (name, row) in enumerate(rows)]
        self.encoder = fingerprint(material.template)
        self._base: list[float] | None = None

    def prove_batches(self) -> None:
        """ModelError where a row's loss depends on what is beside it in a padded micro-batch. Under a fresh
        adapter these losses are the base's: no checkpoint's probe has to measure them."""
        losses = prove_batches(self.model, self.rows)
        if self.model.adapter.is_fresh():
            self._base = losses

    def save(self, folder: Path) -> None:
        """Put the probe of the model as it is into a checkpoint's folder."""
        probe = take_probe(self.model, self.rows, self.encoder, self._base)
        self._base = [row.base for row in probe.rows]
        save_probe(folder, probe)

    def prove(self, folder: Path) -> None:
        """CheckpointError unless the model answers as the checkpoint in `folder` did when it was saved."""
        prove_adapter(self.model, folder, self.encoder)
