"""Assemble a base on this machine: language LoRAs merged into a LLaMA, quantised as it is written, tensor by
tensor.

Nothing is in memory whole but one tensor's absmax: a piece of PIECE numbers is read from the mapped inputs,
merged, rounded to 16 bits, quantised and appended. Shards are finished one by one into a staging folder
beside the target; a journal beside that names what they are made of, so the same command goes on after a kill
and ends in the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import gcd, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.assembly import Assembly, Target
from doitune.base.folder import find_whole
from doitune.base.headers import ITEM_BYTES, read_header
from doitune.base.journal import Journal
from doitune.base.nf4 import BLOCK, QUANTISED, STATE_BYTES, Quantised, nf4_bytes
from doitune.base.record import read_record, write_record
from doitune.base.shard import ShardWriter
from doitune.data.bring import OnProgress, Progress
from doitune.errors import DiskError, ModelError
from doitune.system.disk import (
    file_sha256,
    need_room,
    rename,
    sync_folder,
    write_json,
    write_whole,
)
from doitune.system.publish import alone
from doitune.system.signals import StopAsked, stopped
from doitune.system.units import GIB
from doitune.system.versions import version_of

if TYPE_CHECKING:
    import torch

PIECE = 1 << 20
"""Numbers merged and quantised at once: about 50 MB of memory, whatever the tensor."""

SHARD_BYTES = GIB
"""A shard is closed when the next tensor would make it longer: what a kill can cost."""

DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
ROOM = "make room, or write elsewhere: --out FOLDER"


@dataclass(frozen=True)
class Order:
    """What is to be made: `parts` is checked already; `tokens` are tokenizer files by name; `names` go into
    the record.

    `to` is nf4, bf16, fp16 or fp32; anything else: the 16-bit type of the parts.
    """

    model: str
    parts: Assembly
    tokens: dict[str, bytes]
    to: str
    out: Path
    names: tuple[dict[str, str], ...]

    @property
    def dtype(self) -> str:
        """The type of what is not quantised, and of what a quantised layer gives."""
        return {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}.get(self.to, self.parts.dtype)

    @property
    def number_bytes(self) -> int:
        """Of a number that is not quantised."""
        return ITEM_BYTES[DTYPES[self.dtype]]

    def bytes(self, target: Target) -> int:
        """Of one tensor in the result; an upper bound."""
        return (
            nf4_bytes(target.numbers) + STATE_BYTES
            if self.to == "nf4" and target.linear
            else self.number_bytes * target.numbers
        )

    def shards(self) -> list[tuple[str, list[Target]]]:
        """File names with their tensors, in the order of writing."""
        groups: list[list[Target]] = [[]]
        for target in self.parts.targets:
            if groups[-1] and sum(map(self.bytes, groups[-1])) + self.bytes(target) > SHARD_BYTES:
                groups.append([])
            groups[-1].append(target)
        if len(groups) == 1:
            return [("model.safetensors", groups[0])]
        return [
            (f"model-{number:05d}-of-{len(groups):05d}.safetensors", group)
            for number, group in enumerate(groups, 1)
        ]


@dataclass(frozen=True)
class Made:
    """A base that is made. `kept_shards` of `shards` were finished by an earlier try (all of them: it was
    whole already)."""

    folder: Path
    bytes: int
    shards: int
    kept_shards: int


def make_base(order: Order, on_progress: OnProgress | None = None) -> Made:
    """Write the base, or go on with it. Errors: ModelError, DiskError, LockedError; Stopped when
    interrupted."""
    report = on_progress or (lambda progress: None)
    with _leaving(order.out), alone(order.out, str(order.out)):
        ingredients = _ingredients(order, report)
        journal = Journal(order.out, ingredients)
        return _already(order, journal) or _write(order, ingredients, journal, report)


@contextmanager
def _leaving(out: Path) -> Iterator[None]:
    """An interrupt and a full disk as a user may read them; what is finished stays."""
    try:
        yield
    except (StopAsked, KeyboardInterrupt) as stop:
        raise stopped(
            stop, f"stopped; the finished shards of {out} are kept", "the same command goes on from there"
        ) from None
    except DiskError as error:
        raise DiskError(error.problem, ROOM) from error
    except OSError as error:
        raise DiskError(f"cannot write in {out.parent}: {error.strerror or error}", ROOM) from error


def _ingredients(order: Order, report: OnProgress) -> dict[str, Any]:
    """Everything that the bytes of the result depend on."""
    import torch

    from doitune import __version__

    files = [
        path
        for part in (order.parts.base, *(lora.weights for lora in order.parts.loras))
        for path in part.files
    ]
    total, done, found = sum(path.stat().st_size for path in files), 0, []
    for number, path in enumerate(files, 1):
        report(Progress(f"reading {path.name}", number, len(files), done, total))
        found.append({"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)})
        done += path.stat().st_size
    return {
        "model": order.model,
        "to": order.to,
        "dtype": order.dtype,
        "parts": list(order.names),
        "scales": [lora.scale for lora in order.parts.loras],
        "weights": found,
        "config": order.parts.config,
        "tokens": {name: sha256(content).hexdigest() for name, content in order.tokens.items()},
        "made_on": "cuda" if torch.cuda.is_available() else "cpu",
        "versions": {
            "doitune": __version__,
            "torch": torch.__version__,
            "bitsandbytes": version_of("bitsandbytes"),
        },
    }


def _already(order: Order, journal: Journal) -> Made | None:
    """The base that stands under its name, if it is this one. ModelError if it is another; an empty folder
    is none."""
    if not order.out.exists() or (order.out.is_dir() and not any(order.out.iterdir())):
        return None
    record = (read_record(order.out) if order.out.is_dir() else None) or {}
    if record.get("ingredients") != journal.identity:
        raise ModelError(
            f"{order.out} is there already, and is not what this command makes{_instead(order, record)}",
            "delete it, or write elsewhere: --out FOLDER",
        )
    journal.close()
    shards = list(order.out.glob("*.safetensors"))
    return Made(order.out, sum(path.stat().st_size for path in shards), len(shards), len(shards))


def _instead(order: Order, record: Mapping[str, Any]) -> str:
    """What a folder holds and what it would hold, as far as its record says it and they differ."""
    try:
        made = record["from"]
        found = _called(made["to"], made["dtype"], made["parts"])
    except (KeyError, TypeError, AttributeError):
        return ""
    wanted = _called(order.to, order.dtype, order.names)
    return f": it holds {found}, and not {wanted}" if found != wanted else ""


def _called(to: str, dtype: str, parts: Sequence[Mapping[str, str]]) -> str:
    """A made model in a few words."""
    names = [f"{one.get('name', one['part'])}{_values(one)}" for one in parts]
    return f"{' + '.join(names)} in {'nf4' if to == 'nf4' else dtype}"


def _values(part: Mapping[str, str]) -> str:
    return f" ({part['values']} values)" if "values" in part else ""


def _write(order: Order, ingredients: dict[str, Any], journal: Journal, report: OnProgress) -> Made:
    """Finish the staging folder and give it its name."""
    shards, kept = order.shards(), journal.finished()
    todo = [(name, targets) for name, targets in shards if name not in kept]
    wanted = int(1.01 * sum(order.bytes(one) for _, targets in todo for one in targets)) + (1 << 22)
    try:
        need_room(order.out.parent, wanted, ROOM)
    except DiskError:
        if not kept:
            journal.close()
        raise
    each = order.number_bytes
    numbers = [target.numbers for _, targets in shards for target in targets]
    total, done = (
        each * sum(numbers),
        each * sum(one.numbers for name, targets in shards if name in kept for one in targets),
    )
    for number, (name, targets) in enumerate(shards, 1):
        if name in kept:
            continue
        with ShardWriter(journal.staging / name, _names(order, targets)) as writer:
            for target in targets:
                report(Progress(f"writing {name}", number, len(shards), done, total))
                _add(order, writer, target)
                done += each * target.numbers
        journal.add(name)
    report(Progress("writing", len(shards), len(shards), total, total))
    _finish(order, ingredients, journal, [name for name, _ in shards])
    size = sum((order.out / name).stat().st_size for name, _ in shards)
    return Made(order.out, size, len(shards), len(kept))


def _names(order: Order, targets: Sequence[Target]) -> list[str]:
    """Names of all that is stored for some tensors, or as many."""
    parts = 6 if order.to == "nf4" else 1
    return [target.name + "." + "x" * 40 for target in targets for _ in range(parts)]


def _add(order: Order, writer: ShardWriter, target: Target) -> None:
    """One tensor of the result into a shard."""
    import torch

    dtype = getattr(torch, order.dtype)
    if order.to == "nf4" and target.linear:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        Quantised(target.shape, dtype).write(
            writer, target.name, (piece.to(device).float() for piece in _pieces(order, target, dtype))
        )
    else:
        writer.add(target.name, DTYPES[order.dtype], target.shape, _pieces(order, target, dtype))


def _pieces(order: Order, target: Target, dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """A tensor of the result in 16 bits, rows at a time; blocks of 64 numbers do not cross from one piece
    into the next."""
    rows, width = target.shape[0], prod(target.shape[1:])
    whole = BLOCK // gcd(BLOCK, width)
    step = max(1, PIECE // width // whole) * whole
    for first in range(0, rows, step):
        piece = order.parts.rows(target, first, min(rows, first + step)).to(dtype)
        if not bool(piece.isfinite().all()):
            hint = "the parts are damaged, or their values too large for fp16: --to bf16"
            raise ModelError(
                f"{target.name} has values that are not finite in {dtype}",
                hint,
                place=str(order.parts.folder),
            )
        yield piece


def _finish(order: Order, ingredients: dict[str, Any], journal: Journal, names: list[str]) -> None:
    """Config, tokenizer, index and record beside the shards; then the folder takes its name."""
    staging = journal.staging
    config = {
        key: value
        for key, value in order.parts.config.items()
        if key not in ("torch_dtype", "dtype", "quantization_config", "auto_map")
    }
    config["dtype"] = order.dtype
    if order.to == "nf4":
        config["quantization_config"] = {**QUANTISED, "bnb_4bit_compute_dtype": order.dtype}
    write_json(staging / "config.json", config)
    for name, content in order.tokens.items():
        write_whole(staging / name, content)
    if len(names) > 1:
        table = {tensor: name for name in names for tensor in read_header(staging / name)}
        size = sum(
            stored.end - stored.start for name in names for stored in read_header(staging / name).values()
        )
        write_json(
            staging / "model.safetensors.index.json",
            {"metadata": {"total_size": size}, "weight_map": dict(sorted(table.items()))},
        )
    write_record(
        staging,
        {"made": "assembled", "model": order.model, "ingredients": journal.identity, "from": ingredients},
    )
    find_whole(staging)
    sync_folder(staging)
    rename(staging, order.out)
    sync_folder(order.out.parent)
    journal.close()
