"""The probe of a checkpoint: the losses of a few rows when it was saved, with the adapter and without, and
the hash of its weights.

After every load the same losses are computed again. That finds an adapter that is not there, not this one or
without effect, another base under it, and another prompt encoder, none of which any library reports: each of
them answers, only otherwise.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.backends.out_of_memory import in_parts
from doitune.data.rows import abilities_of
from doitune.errors import CheckpointError, DivergedError, ModelError
from doitune.prompt.batch import pad
from doitune.prompt.encoded import Encoded
from doitune.prompt.encoded_rows import rows_of
from doitune.system.disk import write_json
from doitune.system.doing import counted, doing
from doitune.system.versions import version_of

if TYPE_CHECKING:
    from doitune.backends.loaded import LoadedModel
    from doitune.data.example import Example

PROBE = "probe.json"
SCHEMA = "doitune.probe/1"
PROBED_ROWS = 4
LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")

SAME_PLACE, FLOAT32, HALF = 1e-5, 1e-3, 5e-2
"""How far a loss may move, in nats a token and as a share of it: on the same CPU with the same threads and
libraries (its products are the same, but a library may add them up in another order); elsewhere in fp32;
where one of the two computed in half precision."""

NAMED = "that are named in the run's origin.json"
LOAD_ELSEWHERE = f"load it on the backend and the library versions {NAMED}"


@dataclass(frozen=True)
class ProbedRow:
    """One probed row: its mean token loss in nats under the adapter and under the bare base."""

    id: str
    row: Encoded
    adapter: float
    base: float

    @property
    def distance(self) -> float:
        """What the adapter changed, in nats a token."""
        return abs(self.adapter - self.base)


@dataclass(frozen=True)
class Probe:
    """The losses of a model. `encoder`: the prompt encoder's fingerprint; `place`: see `place_of`;
    `trainable`: each trained tensor's shape by name; `weights`: their hash (`weights_sha256`)."""

    encoder: str
    place: Mapping[str, str]
    trainable: Mapping[str, str]
    weights: str
    rows: tuple[ProbedRow, ...]

    @property
    def distance(self) -> float:
        """The largest change of a row, in nats a token."""
        return max(row.distance for row in self.rows)


def choose_rows(examples: Sequence[Example], encoded: Sequence[Encoded]) -> list[tuple[str, Encoded]]:
    """The ids and encodings of PROBED_ROWS short examples: the shortest of each ability, then the next
    ones; the cost of a probe is theirs."""
    lengths = rows_of(encoded).lengths.tolist()
    names = abilities_of(examples)
    shortest = dict(sorted(zip(names, lengths, strict=True), key=itemgetter(1), reverse=True))
    enough = sorted(lengths)[: 2 * PROBED_ROWS][-1]
    waiting = sorted(
        (length, examples[place].id, place)
        for place, length in enumerate(lengths)
        if length <= enough or length == shortest[names[place]]
    )
    first: dict[str, tuple[int, str, int]] = {}
    for one in waiting:
        first.setdefault(names[one[2]], one)
    kept = sorted(first.values())[:PROBED_ROWS]
    kept += [one for one in waiting if one not in kept][: PROBED_ROWS - len(kept)]
    return [(name, encoded[place]) for _, name, place in kept]


def take_probe(
    model: LoadedModel,
    rows: Sequence[tuple[str, Encoded]],
    encoder: str,
    base: Sequence[float] | None = None,
) -> Probe:
    """The losses of `rows` (ids and encodings) now; leaves the model in evaluation mode. DivergedError where
    one is not finite.

    `base`: the rows' losses without the adapter, where they are known.
    """
    model.training(False)
    encoded = [row for _, row in rows]
    adapter = _losses(model, encoded)
    if base is None:
        with model.without_adapter():
            base = _losses(model, encoded)
    probed = tuple(
        ProbedRow(name, row, *losses) for (name, row), *losses in zip(rows, adapter, base, strict=True)
    )
    wrong = [row.id for row in probed if not math.isfinite(row.adapter) or not math.isfinite(row.base)]
    if wrong:
        hint = "go on from an older checkpoint, with a lower train.learning_rate"
        raise DivergedError(f"the model's loss of {', '.join(wrong)} is not finite", hint)
    return Probe(encoder, place_of(model), _trainable(model), weights_sha256(model), probed)


def prove_batches(model: LoadedModel, rows: Sequence[tuple[str, Encoded]]) -> list[float]:
    """The losses of `rows` in one padded batch, in nats a token; ModelError unless rows of different lengths
    have them alone, too, but for rounding.

    A step's loss is a sum over its micro-batches: where this fails, it would depend on how the step is cut.
    Leaves the model in evaluation mode.
    """
    model.training(False)
    allowed = FLOAT32 if model.compute_dtype == "float32" else HALF
    doing("measuring rows in one batch")
    together = _losses(model, [row for _, row in rows])
    pairs = [*zip(rows, together, strict=True)]
    for (name, row), beside in counted("comparing rows in one batch with each row alone", pairs):
        alone = _losses(model, [row])[0]
        if not _apart(alone, beside, allowed):
            continue
        raise ModelError(
            f"{model.name}: the loss of {name} is {beside:.6g} beside other rows and {alone:.6g} alone, "
            "so a step would depend on how it is cut",
            "use another backend or other library versions: --set model.backend=hf",
        )
    return together


def _losses(model: LoadedModel, rows: Sequence[Encoded]) -> list[float]:
    """Mean token loss of each row, in nats."""
    import torch

    with torch.no_grad():
        sums = in_parts(lambda part: model.loss(pad(part), 1).sums.tolist(), rows)
    return [value / row.trained for value, row in zip(sums, rows, strict=True)]


def _trainable(model: LoadedModel) -> dict[str, str]:
    return {name: "x".join(map(str, parameter.shape)) for name, parameter in model.trainable()}


def weights_sha256(model: LoadedModel) -> str:
    """sha256 of the trained tensors' names and fp32 bytes: the same on every device that holds the same
    adapter."""
    digest = sha256()
    for name, parameter in model.trainable():
        digest.update(name.encode())
        digest.update(parameter.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def place_of(model: LoadedModel) -> dict[str, str]:
    """Where and by what a loss is computed: losses of equal places are equal but for the order of
    additions."""
    import torch

    cuda = model.device.type == "cuda"
    return {
        "device": model.device.type,
        "processor": torch.cuda.get_device_name(model.device) if cuda else _processor(),
        "threads": "" if cuda else str(torch.get_num_threads()),
        "dtype": model.compute_dtype,
        **{name: version_of(name) for name in LIBRARIES},
    }


@cache
def _processor() -> str:
    """The CPU's name and the instructions that torch uses of it."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    name = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def save_probe(folder: Path, probe: Probe) -> None:
    """Write the probe into a checkpoint's folder, before its manifest."""
    rows = [
        {
            "id": row.id,
            "ids": list(row.row.ids),
            "labels": list(row.row.labels),
            "adapter": row.adapter,
            "base": row.base,
        }
        for row in probe.rows
    ]
    document = {
        "schema": SCHEMA,
        "encoder": probe.encoder,
        "place": dict(probe.place),
        "weights": probe.weights,
        "rows": rows,
        "trainable": dict(probe.trainable),
    }
    write_json(folder / PROBE, document)


def read_probe(folder: Path) -> Probe:
    """The probe of a checkpoint. CheckpointError where it has none."""
    path = folder / PROBE
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if read["schema"] != SCHEMA:
            raise ValueError(f"its schema is {read['schema']!r}")
        rows = tuple(
            ProbedRow(
                row["id"],
                Encoded(tuple(row["ids"]), tuple(row["labels"])),
                float(row["adapter"]),
                float(row["base"]),
            )
            for row in read["rows"]
        )
        if not rows:
            raise ValueError("it has no rows")
        return Probe(read["encoder"], read["place"], read["trainable"], read["weights"], rows)
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} has no {PROBE}, so nothing proves its adapter",
            "it is of an older doitune: train it again",
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "use another checkpoint") from None


def prove_adapter(model: LoadedModel, folder: Path, encoder: str, *, same_base: bool = True) -> None:
    """Compare a model that has just loaded the checkpoint in `folder` with the probe that lies there.
    Leaves the model in evaluation mode.

    `encoder`: the fingerprint of the encoder in use. `same_base`: whether the base is quantised as it was;
    else every loss is another one, and only encoder and weights are compared. CheckpointError with what
    differs.
    """
    stored = read_probe(folder)
    _same_encoder(stored, encoder, folder)
    _same_weights(stored, model, folder)
    if not same_base:
        model.training(False)
        return
    now = take_probe(model, [(row.id, row.row) for row in stored.rows], encoder)
    allowed = _allowed(stored.place, now.place)
    _same_base(stored, now, allowed, folder)
    if stored.distance > 2 * allowed and now.distance < stored.distance / 2:
        raise CheckpointError(
            f"the adapter in {folder} has no effect: it changes the base's loss by {now.distance:.4g} nats a "
            f"token, when saved by {stored.distance:.4g}",
            LOAD_ELSEWHERE,
        )
    for was, is_now in zip(stored.rows, now.rows, strict=True):
        if _apart(was.adapter, is_now.adapter, allowed):
            raise CheckpointError(
                f"the adapter in {folder} answers otherwise than when it was saved: {was.id} had a loss of "
                f"{was.adapter:.6g}, has {is_now.adapter:.6g}; up to {allowed:g} is explained by rounding",
                LOAD_ELSEWHERE,
            )


def _same_encoder(stored: Probe, encoder: str, folder: Path) -> None:
    if stored.encoder != encoder:
        raise CheckpointError(
            f"{folder} was trained with another prompt encoder: fingerprint {stored.encoder[:12]}, "
            f"here {encoder[:12]}",
            f"use the base, the tokenizer files and the library versions {NAMED}",
        )


def _same_weights(stored: Probe, model: LoadedModel, folder: Path) -> None:
    own = _trainable(model)
    other = sorted(name for name in {*own, *stored.trainable} if own.get(name) != stored.trainable.get(name))
    if other:
        name = other[0]
        raise CheckpointError(
            f"{folder} trained other tensors than this model has: {len(other)} differ, first {name}, "
            f"{stored.trainable.get(name, 'missing')} when saved, {own.get(name, 'missing')} here",
            "rank, targets, token rows and base must be those it was trained with",
        )
    if weights_sha256(model) != stored.weights:
        raise CheckpointError(
            f"the weights in memory are not those that {folder} was saved with", "use another checkpoint"
        )


def _same_base(stored: Probe, now: Probe, allowed: float, folder: Path) -> None:
    for was, is_now in zip(stored.rows, now.rows, strict=True):
        if _apart(was.base, is_now.base, allowed):
            raise CheckpointError(
                f"the base under the adapter in {folder} is another: without the adapter {was.id} had a loss "
                f"of {was.base:.6g}, has {is_now.base:.6g}",
                f"use the base, its 4-bit form and the library versions {NAMED}",
            )


def _allowed(one: Mapping[str, str], other: Mapping[str, str]) -> float:
    if "float32" not in (one.get("dtype"), other.get("dtype")) or one.get("dtype") != other.get("dtype"):
        return HALF
    return SAME_PLACE if dict(one) == dict(other) and one.get("device") == "cpu" else FLOAT32


def _apart(was: float, is_now: float, allowed: float) -> bool:
    return abs(is_now - was) > allowed * (1 + abs(was))
