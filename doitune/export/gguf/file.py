"""A GGUF from a merged folder, row by row: what is in memory is a piece of one tensor.

The same folder gives the same bytes. A killed writing is begun anew: it takes as long as the disk does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.folder import read_config
from doitune.base.make import PIECE, ROOM
from doitune.base.weights import open_weights
from doitune.data.bring import OnProgress, Progress
from doitune.errors import DiskError, ModelError, UsageError
from doitune.export.gguf.sizes import turn_factors, write_sizes
from doitune.export.gguf.tensors import EMBEDDING, Stored, list_tensors
from doitune.export.gguf.vocabulary import Vocabulary, read_vocabulary
from doitune.system.disk import need_room

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

    from doitune.base.weights import Weights

TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
"""What is written here, by its name in llama.cpp (of every matrix; vectors stay in 32 bits)."""

HEADER_BYTES = 1 << 24
"""Room for all that is no weight: the vocabulary above all."""


@dataclass(frozen=True)
class Plan:
    """A GGUF before a byte is written: `architecture` is llama.cpp's name, `kind` one of TYPES."""

    folder: Path
    kind: str
    architecture: str
    config: Mapping[str, Any]
    vocabulary: Vocabulary
    tensors: tuple[Stored, ...]
    weights: Weights

    def type_of(self, one: Stored) -> GGMLQuantizationType:
        """A matrix's type in the file; one whose rows do not fill blocks stays in 16 bits."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        if len(one.shape) < 2:
            return GGMLQuantizationType.F32
        wanted = GGMLQuantizationType[self.kind.upper()]
        fits = one.shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0
        return wanted if fits else GGMLQuantizationType.F16

    def bytes_of(self, one: Stored) -> int:
        """Of a tensor in the file."""
        from gguf import GGML_QUANT_SIZES

        numbers, size = GGML_QUANT_SIZES[self.type_of(one)]
        return prod(one.shape) // numbers * size

    @property
    def bytes(self) -> int:
        """Of the file, at most."""
        return sum(map(self.bytes_of, self.tensors)) + HEADER_BYTES


def plan_file(folder: Path, kind: str, weights: Weights | None = None) -> Plan:
    """All that the GGUF of a merged folder will be; `weights`: those of another one under its tokenizer.
    Errors: UsageError without the extra, ModelError."""
    need_gguf()
    config, weights = read_config(folder), weights or open_weights(folder, "model")
    name, tensors = list_tensors(folder, config, weights)
    rows = next(one.shape[0] for one in tensors if one.name == EMBEDDING)
    vocabulary = read_vocabulary(folder, rows)
    return Plan(folder, kind, name, config, vocabulary, tuple(tensors), weights)


def need_gguf() -> None:
    """UsageError where the extra is not installed."""
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise UsageError("the package gguf is not installed", "pip install 'doitune[gguf]'") from None


def write_file(plan: Plan, path: Path, report: OnProgress) -> None:
    """Write it; half of it lies there if that is ended. Errors: DiskError, ModelError."""
    need_room(path.parent, plan.bytes, ROOM)
    try:
        _write(plan, path, report)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}", ROOM) from error


def _write(plan: Plan, path: Path, report: OnProgress) -> None:
    import numpy as np
    from gguf import GGUFWriter, LlamaFileType

    from doitune.base.architecture import read_architecture

    shape = read_architecture(plan.config, str(plan.folder / "config.json"))
    writer = GGUFWriter(path, plan.architecture)
    writer.add_type("model")
    writer.add_file_type(LlamaFileType[TYPES[plan.kind]])
    writer.add_quantization_version(2)
    write_sizes(writer, plan.config, shape, len(plan.vocabulary.texts))
    plan.vocabulary.write(writer)
    factors = np.array(turn_factors(plan.config, shape), dtype=np.float32)
    if len(factors):
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    for one in plan.tensors:
        kind = plan.type_of(one)
        writer.add_tensor_info(one.name, one.shape, np.dtype(np.float32), plan.bytes_of(one), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if len(factors):
        writer.write_tensor_data(factors)
    total, done = sum(map(plan.bytes_of, plan.tensors)), 0
    for one in plan.tensors:
        report(Progress(f"writing {plan.kind}", 1, 1, done, total))
        done += _add(plan, writer, one)
    report(Progress(f"writing {plan.kind}", 1, 1, total, total))
    writer.close()


def _add(plan: Plan, writer: GGUFWriter, one: Stored) -> int:
    """One tensor into the file, some rows at once; returns its bytes. ModelError for a value that its type
    cannot hold."""
    import numpy as np
    from gguf.quants import quantize

    assert writer.fout is not None
    out, kind, size = writer.fout[0], plan.type_of(one), 0
    writer.write_padding(out, out.tell())
    for piece in one.rows(plan.weights, PIECE):
        with np.errstate(over="ignore"):
            data = quantize(piece.contiguous().numpy(), kind)
        if kind.name in ("F16", "F32") and not np.isfinite(data).all():
            raise ModelError(f"{one.source} has values too large for {kind.name}", "--quant bf16")
        out.write(data.tobytes())
        size += data.nbytes
    writer.write_padding(out, size)
    return size
