"""What an export to GGUF will write, before a byte of it is written: whether llama.cpp can have it at all,
and whether the disk can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from doitune.base.architecture import read_architecture
from doitune.base.make import ROOM
from doitune.export.gguf.blocks import blocks_of
from doitune.export.gguf.vocabulary import read_vocabulary
from doitune.export.tokenizer import exported_tokens
from doitune.system.disk import need_room, write_whole
from doitune.system.units import size_of

if TYPE_CHECKING:
    from doitune.export.source import Source

BITS = {"f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5}
"""A number's in a file, at most; the scales of its block are counted in."""

QUANTISED_BITS = 9.0
"""Of the types that llama.cpp's quantiser writes: where rows are narrow it takes q8_0 for some."""

TOKEN_BYTES = 64
"""Of a token in the vocabulary, with its score and merge, about."""


def foresee(source: Source, out: Path, dtype: str, quants: Sequence[str]) -> str:
    """A sentence on how much an export will write and what is free. Errors: ModelError where llama.cpp has
    no such blocks or cannot cut texts as this tokenizer does, DiskError where there is no room."""
    config, place = source.base.config, str(source.base.folder)
    blocks_of(config, place)
    shape = read_architecture(config, place)
    prove_vocabulary(source, shape.vocabulary)
    new = source.template.new_rows
    numbers = shape.parameters - shape.beside + new * shape.hidden * (1 if shape.tied else 2)
    wide = "32" in (dtype or str(config.get("dtype") or config.get("torch_dtype") or ""))
    sizes = {"merged": (numbers + shape.beside) * (4 if wide else 2)}
    tokens = TOKEN_BYTES * (shape.vocabulary + new)
    sizes |= {kind: int(numbers * BITS.get(kind, QUANTISED_BITS) / 8) + tokens for kind in quants}
    if {*quants} - {*BITS} and "f16" not in quants:
        sizes["f16, to be quantised and then deleted"] = 2 * numbers + tokens
    there = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) if out.is_dir() else 0
    need_room(out, max(0, sum(sizes.values()) - there), ROOM)
    free = shutil.disk_usage(next(path for path in (out, *out.parents) if path.exists())).free
    each = ", ".join(f"{name} {size_of(size)}" for name, size in sizes.items())
    return f"about {size_of(sum(sizes.values()))} will be written ({each}); {size_of(free)} are free"


def prove_vocabulary(source: Source, rows: int) -> None:
    """ModelError where a GGUF cannot have the tokenizer of the run; `rows`: of the base's embedding."""
    with TemporaryDirectory(prefix="doitune-") as name:
        write_tokens(source, Path(name), rows)
        read_vocabulary(Path(name), rows + source.template.new_rows)


def write_tokens(source: Source, folder: Path, rows: int) -> None:
    """The tokenizer as an export has it, and a config.json whose ends are those of the run's template."""
    ends = {"eos_token_id": source.template.end_id, "pad_token_id": source.template.pad_id}
    document = json.dumps({**source.base.config, **ends}).encode()
    for file, content in {
        **exported_tokens(source.template, source.base.folder, rows),
        "config.json": document,
    }.items():
        write_whole(folder / file, content)
