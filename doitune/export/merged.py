"""The format `merged`: base and adapter in one folder that plain transformers loads.

A merge is easily another model (other base values, rounding, a tokenizer that gives other prompts) and no
library reports it. So the folder is read back and asked what the trained model is asked: `export.json` says
how far they agree, and below AGREEMENT it is not called the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.assembly import Assembly, with_rows
from doitune.base.folder import RECORD, REPORT, find_whole
from doitune.base.make import ROOM, Made, Order, make_base
from doitune.base.record import read_record
from doitune.base.sentencepiece import MODEL_FILE
from doitune.base.tensors import EMBEDDING, HEAD
from doitune.base.weights import open_weights
from doitune.errors import CheckpointError, DiskError, UsageError
from doitune.export.card.card import write_card
from doitune.export.card.handed import MERGED, Handed, named_base
from doitune.export.measure import Listener, measure
from doitune.export.out import resolved_out, taken
from doitune.export.parity import AGREEMENT
from doitune.export.parts import open_parts
from doitune.export.report import NOT_MEASURED, SCHEMA, Export, finish, finished, work_folder
from doitune.export.source import Source, open_source
from doitune.export.tokenizer import exported_tokens, prove_files, prove_folder
from doitune.export.trial import QUESTIONS, Trial, choose_trial
from doitune.system.disk import file_sha256, make_folder
from doitune.system.doing import counted
from doitune.system.lock import hold
from doitune.system.publish import sweep

if TYPE_CHECKING:
    import torch

    from doitune.data.example import Message
    from doitune.run.folder import Run

INTO = {"trained": "the values that the adapter was trained on", "base": "the base's own weights"}
"""What an adapter may be merged into. Of a base in 4 bits, `trained` is those values, written in 16.

Measured on the former demo, trained on NF4 (450 steps): of 1,952 answer tokens 99.8 % stay the likeliest
after the first and 87.1 % after the second; the score of 200 questions goes from 46.0 to 46.5 and to 40.5.
"""

TYPES = ("bf16", "fp16", "fp32")

MOST_COMPARED = 32
"""Matrices that are compared with the base's: each may have to be quantised again for it."""


@dataclass(frozen=True)
class Wish:
    """`doitune export`: `checkpoint` is best, last or a step; `into` one of INTO; `dtype` one of TYPES, or
    empty for the base's own; at most `questions` are asked; `moved_to`: see `its_base`."""

    run: Run
    out: Path
    checkpoint: str = "best"
    into: str = "trained"
    dtype: str = ""
    questions: int = QUESTIONS
    moved_to: str = ""


def export_merged(wish: Wish, listener: Listener | None = None) -> Export:
    """Merge, read back and compare, or go on with it; a finished export is recognised.

    Errors: UsageError, CheckpointError, ModelError, DataError, DiskError, LockedError, FitError where a model
    does not fit this machine.
    """
    listener = listener or Listener()
    out = _folder(wish.out)
    source = open_source(wish.run, wish.checkpoint, wish.moved_to)
    trial = choose_trial(source, wish.questions)
    if not wish.run.done():
        listener.note(f"{wish.run.name} has not ended: what it would still learn is not in this")
    if source.template.reads_clock:
        then = f"it was trained at {source.template.moment}, and so it is compared"
        listener.note(f"the chat template of this model prints the time of its use; {then}")
    for text in trial.left_out:
        listener.note(text)
    order = _order(source, wish, out, trial.chats)
    try:
        make_folder(out.parent)
    except DiskError as error:
        raise DiskError(error.problem, ROOM) from error
    lock = out.with_name(f".{out.name}.export.lock")
    with hold(lock, str(out), remove=True):
        if out.is_dir():
            sweep(out)
        made = make_base(order, listener.file)
        found = finished(out, trial) if made.kept_shards == made.shards else None
        if found is None:
            listener.note(f"{out} is written; now it is compared with the trained model")
            found = finish(out, _measured(source, order, made, trial, listener))
        write_card(out, Handed(source, named_base(source), out.name, found.document), kept=found.again)
    return found


def _folder(wanted: Path) -> Path:
    """Where to write. UsageError for a folder with something else in it than such an export; whose export it
    is, the merge finds out."""
    out = resolved_out(wanted)
    if out.exists() and not (out / RECORD).is_file() and any(out.iterdir()):
        raise taken(out, MERGED)
    return out


def _order(source: Source, wish: Wish, out: Path, chats: Sequence[Sequence[Message]]) -> Order:
    """The order to merge `source` into `out`. The prompt's ids are proved on `chats` first.

    Errors: UsageError, ModelError with all that does not fit, CheckpointError.
    """
    from doitune.backends.adapter import ROWS

    _refuse_unknown(source, wish)
    in_4_bits = wish.into == "trained" and source.quantised
    folder = source.checkpoint.folder
    parts = open_parts(source.base.folder, folder, rounded=in_4_bits)
    own = "fp32" if _in_fp32(parts) else ""
    stored = folder / ROWS
    rows = _token_rows(stored) if source.template.new_rows else {}
    tokens = exported_tokens(source.template, source.base.folder, parts.vocabulary)
    if rows:
        parts = with_rows(parts, rows)
    ends = {"eos_token_id": source.template.end_id, "pad_token_id": source.template.pad_id}
    parts = replace(parts, config={**_without_place(parts.config), **ends})
    prove_files(tokens, parts.config, source.template, chats)
    base = {"part": "base", "name": source.base_name, "revision": source.base.revision}
    names = [{**base, "values": "nf4" if in_4_bits else "own"}, {"part": "adapter", "name": folder.name}]
    if rows:
        names.append({"part": "token rows", "sha256": file_sha256(stored)})
    files = {**tokens, REPORT: NOT_MEASURED}
    return Order(source.base_name, parts, files, wish.dtype or own, out, tuple(names))


def _without_place(config: Mapping[str, Any]) -> dict[str, Any]:
    """A base's settings without the folder that somebody once saved it from."""
    return {key: value for key, value in config.items() if key != "_name_or_path"}


def _refuse_unknown(source: Source, wish: Wish) -> None:
    """UsageError for values and types that there are not, or not here."""
    if wish.into not in INTO:
        hint = "; ".join(f"{name}: {values}" for name, values in INTO.items())
        raise UsageError(f"--into {wish.into!r} is not one of {', '.join(INTO)}", hint)
    if wish.dtype and wish.dtype not in TYPES:
        problem = f"--dtype {wish.dtype!r} is not one of {', '.join(TYPES)}"
        raise UsageError(problem, "leave it out for the base's own")
    if source.stored_in_4_bits and wish.into == "base":
        problem = f"{source.base.name} is here in 4 bits only: there are no other weights to merge into"
        raise UsageError(problem, "--into trained")


def _in_fp32(parts: Assembly) -> bool:
    """Whether the base's own numbers are of 32 bits."""
    table = parts.base.table
    return all(table[one.name].dtype == "float32" for one in parts.targets if one.name in table)


def _token_rows(path: Path) -> dict[str, torch.Tensor]:
    """Rows [k, H] of added tokens by the name of their matrix. CheckpointError where they are missing."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        rows = load_file(path)
        return {EMBEDDING: rows["embedding"], HEAD: rows["head"]}
    except (OSError, SafetensorError, KeyError) as error:
        problem = f"the token rows of {path.parent} cannot be read: {error}"
        raise CheckpointError(problem, "use another checkpoint") from error


def _measured(source: Source, order: Order, made: Made, trial: Trial, listener: Listener) -> dict[str, Any]:
    """The document of export.json: what was merged into what, and how far that is the trained model."""
    out = order.out
    ingredients = str((read_record(out) or {})["ingredients"])
    merged = find_whole(out)
    otherwise = prove_folder(out, source.template, trial.chats)
    matrices = _changed_matrices(order)
    work = work_folder(out, f"{ingredients[:8]}{trial.identity[:8]}")
    found = measure(source, merged, trial, work, listener)
    problems = [*found.problems]
    if not matrices["changed"]:
        none = f"none of {matrices['compared']} adapted matrices has changed"
        problems.append(f"the merged weights are the base's own: {none}")
    return {
        "schema": SCHEMA,
        "same": not problems,
        "problems": problems,
        "cure": _cure(source, order) if problems else "",
        "to": MERGED,
        "run": source.run.name,
        "checkpoint": source.checkpoint.folder.name,
        "base": {"name": source.base_name, "revision": source.base.revision},
        "merged_into": _into(order),
        "trained_against": "nf4" if source.quantised else "own",
        "dtype": order.dtype,
        "merged_in": "float64",
        "bytes": made.bytes,
        "matrices": matrices,
        "prompt": {
            "chats": len(trial.chats),
            "equal": True,
            "stop_ids": list(source.template.stop_ids),
            "moment": source.template.moment,
            "cut_by": MODEL_FILE if source.template.cut else "tokenizer.json",
            "tokenizer_json_otherwise": otherwise,
        },
        "agreement_wanted": AGREEMENT,
        **found.to_json(),
        "trial": trial.identity,
    }


def _changed_matrices(order: Order) -> Mapping[str, int]:
    """How many of the adapted matrices (of MOST_COMPARED spread over them) differ in the merged folder from
    the base in the same type.

    The trap is a merge that did nothing: such a folder loads and answers, as the base.
    """
    import torch

    merged, base = open_weights(order.out, "model"), order.parts.base
    dtype = getattr(torch, order.dtype)
    adapted = sorted(order.parts.loras[0].factors)
    count = min(MOST_COMPARED, len(adapted))
    compared = [adapted[number * len(adapted) // count] for number in range(count)]
    changed = sum(
        not torch.equal(whole := merged.get(name), base.rows(name, 0, len(whole)).to(dtype))
        for name in counted("comparing matrices with the base's", compared)
    )
    rows = len(next(iter(order.parts.added.values()), ()))
    return {"adapted": len(adapted), "compared": len(compared), "changed": changed, "token_rows": rows}


def _into(order: Order) -> str:
    """The base's values that the adapter was added to."""
    return str(order.names[0]["values"])


def _cure(source: Source, order: Order) -> str:
    """What can be done about a merged model that is another one."""
    marked = "this folder is kept, and marked in its export.json"
    if source.quantised and _into(order) == "own":
        values = "the adapter was trained on the base's 4-bit values"
        return f"{values}: merge it into those with --into trained --out ANOTHER; {marked}"
    if order.dtype != "float32":
        return f"keep more digits with --dtype fp32 --out ANOTHER; {marked}"
    return f"take the checkpoint itself, which is a whole peft adapter; {marked}"
