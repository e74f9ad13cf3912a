"""What an export merges: a run's base at its commit, the adapter of a checkpoint, its token rows, and the
tokenizer that says the same prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from doitune.base.assembly import Assembly, open_assembly
from doitune.base.folder import REPORT
from doitune.base.make import Order
from doitune.base.tensors import EMBEDDING, HEAD
from doitune.base.weights import open_weights
from doitune.errors import CheckpointError, UsageError
from doitune.export.chat import exported_tokens, prove_files
from doitune.system.disk import file_sha256

if TYPE_CHECKING:
    import torch

    from doitune.base.folder import Base
    from doitune.data.example import Message
    from doitune.prompt.template import Template
    from doitune.recipe.fields import Recipe
    from doitune.run.checkpoint import Checkpoint

INTO = ("trained", "base")
"""What an adapter may be merged into: the values that it was trained on (of a base in 4 bits those, written
in 16), or the base's own weights.

Measured on the demo, trained on NF4 (450 steps): of 1,952 answer tokens 99.8 % stay the likeliest after the
first and 87.1 % after the second; the score of 200 questions goes from 46.0 to 46.5 and to 40.5.
"""

TYPES = ("bf16", "fp16", "fp32")
ROWS = "token_rows.safetensors"

MOST_COMPARED = 32
"""Matrices that are compared with the base's: each may have to be quantised again for it."""


@dataclass(frozen=True)
class Source:
    """The model as it was trained: what is merged, from where."""

    recipe: Recipe
    base: Base
    checkpoint: Checkpoint
    template: Template

    @property
    def stored_in_4_bits(self) -> bool:
        """Whether the base lies on disk in NF4: its 16-bit weights are not here."""
        return bool(self.base.config.get("quantization_config"))

    @property
    def quantised(self) -> bool:
        """Whether the adapter learnt on 4-bit values."""
        return self.recipe.model.quantise == "nf4"


def order_of(source: Source, into: str, dtype: str, out: Path, chats: Sequence[Sequence[Message]]) -> Order:
    """The order to merge `source` in `out`. `dtype`: bf16, fp16, fp32, or "" for the base's own. The prompt's
    ids are proved on `chats` first.

    Errors: UsageError, ModelError with all that does not fit, CheckpointError.
    """
    if into not in INTO:
        hint = "trained: the values that the adapter was trained on; base: the base's own weights"
        raise UsageError(f"--into {into!r} is not one of {', '.join(INTO)}", hint)
    if dtype and dtype not in TYPES:
        raise UsageError(
            f"--dtype {dtype!r} is not one of {', '.join(TYPES)}", "leave it out for the base's own"
        )
    if source.stored_in_4_bits and into == "base":
        raise UsageError(
            f"{source.base.name} lies here in 4 bits only: there are no other weights to merge into",
            "--into trained",
        )
    as_held = into == "trained" and source.quantised
    folder = source.checkpoint.folder
    parts = open_assembly(source.base.folder, [("the run's adapter", folder)], as_held=as_held)
    own = "fp32" if _in_fp32(parts) else ""
    rows = _token_rows(source)
    tokens = exported_tokens(source.template, source.base.folder, parts.architecture.vocabulary)
    if rows:
        parts = parts.with_rows(rows)
    ends = {"eos_token_id": source.template.end_id, "pad_token_id": source.template.pad_id}
    parts = replace(parts, config={**parts.config, **ends})
    prove_files(tokens, parts.config, source.template, chats)
    base = {
        "part": "base",
        "name": source.base.name,
        "revision": source.base.revision,
        "values": "nf4" if as_held else "own",
    }
    names = [base, {"part": "adapter", "name": folder.name}]
    if rows:
        names.append({"part": "token rows", "sha256": file_sha256(folder / ROWS)})
    return Order(source.base.name, parts, {**tokens, REPORT: NOT_MEASURED}, dtype or own, out, tuple(names))


NOT_MEASURED = b'{"schema": "doitune.export/1", "same": null, "problems": ["not measured yet: the same command goes on"]}\n'
"""export.json as long as nothing is known: a folder that is whole in its files is no promise yet."""


def _in_fp32(parts: Assembly) -> bool:
    """Whether the base's own numbers are of 32 bits."""
    return all(
        parts.base.table[one.name].dtype == "float32" for one in parts.targets if one.name in parts.base.table
    )


def _token_rows(source: Source) -> dict[str, torch.Tensor]:
    """Rows [k, H] of added tokens by the name of their matrix; empty where the roles reuse tokens.
    CheckpointError where they are missing."""
    if not source.template.new_rows:
        return {}
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        rows = load_file(source.checkpoint.folder / ROWS)
        found = {EMBEDDING: rows["embedding"], HEAD: rows["head"]}
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(
            f"the token rows of {source.checkpoint.folder} cannot be read: {error}", "use another checkpoint"
        ) from error
    return found


def changed_matrices(order: Order) -> Mapping[str, int]:
    """How many of the adapted matrices (of MOST_COMPARED spread over them) differ in the merged folder from
    the base in the same type.

    The trap is a merge that did nothing: such a folder loads and answers, as the base.
    """
    import torch

    merged = open_weights(order.out, "model")
    dtype = getattr(torch, order.dtype)
    adapted = sorted(order.parts.loras[0].factors)
    count = min(MOST_COMPARED, len(adapted))
    compared = [adapted[number * len(adapted) // count] for number in range(count)]
    changed = sum(
        not torch.equal(merged.get(name), order.parts.base.get(name).to(dtype)) for name in compared
    )
    return {
        "adapted": len(adapted),
        "compared": len(compared),
        "changed": changed,
        "token_rows": len(order.parts.added.get(EMBEDDING, ())),
    }
