"""What a base is assembled from, checked whole before a byte is written: every tensor of the result, its
shape, and where its parts are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.base.adapter import LanguageLora, open_adapter
from doitune.base.architecture import Architecture, read_architecture
from doitune.base.families import families, stated, with_sizes
from doitune.base.folder import read_config
from doitune.base.rounded import as_rounded, stored_rounded
from doitune.base.tensors import EMBEDDING, HEAD, expected_shapes, is_linear
from doitune.base.tied import EMBEDDINGS, HEADS
from doitune.base.weights import FLOATS, Weights, open_weights
from doitune.errors import ModelError, Problem

if TYPE_CHECKING:
    import torch

MOST_SHOWN = 10
BUFFERS = ("rotary_emb.inv_freq", "masked_bias", "attn.bias")


@dataclass(frozen=True)
class Target:
    """One tensor of the result. `linear`: a layer's matrix, in 4 bits where the base is quantised."""

    name: str
    shape: tuple[int, ...]
    linear: bool

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Assembly:
    """A base and its LoRAs, laid beside each other. `config` is the result's config.json, without its types.

    `architecture`: None where the base is taken as its files are. `added`: rows behind the base's own, by the
    name of their matrix.
    """

    folder: Path
    base: Weights
    loras: tuple[LanguageLora, ...]
    architecture: Architecture | None
    config: dict[str, Any]
    targets: tuple[Target, ...]
    dtype: str
    added: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def rows(self, target: Target, first: int, last: int) -> torch.Tensor:
        """Rows [first, last) of a tensor of the result. Merged in fp64, so that its rounding does not
        depend on how many rows are asked for."""
        if target.name not in self.added:
            return self._merged(target, first, last)
        import torch

        added = self.added[target.name]
        own = target.shape[0] - len(added)
        parts = [
            self._merged(target, min(first, own), min(last, own)).double(),
            added[max(first - own, 0) : max(last - own, 0)].double(),
        ]
        return torch.cat(parts)

    def _merged(self, target: Target, first: int, last: int) -> torch.Tensor:
        start = max((number for number, lora in enumerate(self.loras) if target.name in lora.own), default=-1)
        name = target.name if start < 0 else self.loras[start].own[target.name]
        merged = (self.base if start < 0 else self.loras[start].weights).rows(name, first, last)
        for lora in self.loras[max(start, 0) :]:
            if target.name in lora.factors:
                below, above = (lora.weights.get(name) for name in lora.factors[target.name])
                merged = merged.double() + (above[first:last].double() @ below.double()) * lora.scale
        return merged

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        rows = next((one.shape[0] for one in self.targets if one.name.endswith(EMBEDDINGS)), None)
        return int(stated(self.config, "vocabulary") or 0) if rows is None else rows


def with_rows(parts: Assembly, added: Mapping[str, torch.Tensor]) -> Assembly:
    """An assembly with rows of their own for added tokens, [k, H], behind the embedding and, where it is
    a matrix of its own, the head."""
    ends = {EMBEDDING: EMBEDDINGS, HEAD: HEADS}
    kept = {
        one.name: rows
        for name, rows in added.items()
        for one in parts.targets
        if one.name.endswith(ends[name])
    }
    if not any(name.endswith(EMBEDDINGS) for name in kept):
        raise ModelError(f"{parts.folder} has no {EMBEDDING}", "train with prompt.tokens of the base")
    longer = {name: len(rows) for name, rows in kept.items()}
    targets = tuple(
        replace(one, shape=(one.shape[0] + longer.get(one.name, 0), *one.shape[1:])) for one in parts.targets
    )
    vocabulary = parts.vocabulary + len(added[EMBEDDING])
    config = with_sizes(parts.config, {"vocabulary": vocabulary})
    shape = None if parts.architecture is None else replace(parts.architecture, vocabulary=vocabulary)
    return replace(parts, targets=targets, config=config, architecture=shape, added=kept)


def open_assembly(folder: Path, loras: Sequence[tuple[str, Path]], *, rounded: bool = False) -> Assembly:
    """A base folder and its LoRAs (name, folder), in the order of merging. ModelError, with every tensor that
    does not fit.

    `rounded`: the base's linear layers are taken at the 4-bit values that training computes with; they may be
    stored in 4 bits, too.
    """
    config = read_config(folder)
    refuse_quantised(folder, config, rounded=rounded)
    architecture = read_architecture(config, str(folder / "config.json"))
    if not architecture.family.assembled:
        raise ModelError(
            f"bases of model_type {architecture.model_type!r} are not assembled",
            f"known are {', '.join(families('assembled'))}",
            place=str(folder),
        )
    if architecture.mlp_bias or architecture.output_bias:
        raise ModelError(
            f"{folder} has biases in its layers, which are not assembled",
            "merge it with peft and give the merged folder as the model",
        )
    base = open_weights(folder, "model")
    if config.get("quantization_config"):
        base = stored_rounded(base)
    adapters = tuple(open_adapter(name, path) for name, path in loras)
    architecture = _with_vocabulary(architecture, adapters)
    expected = expected_shapes(architecture)
    problems = [*_base_problems(folder, base, expected, adapters), *_lora_problems(adapters, expected)]
    if problems:
        more = (
            [Problem("", f"... and {len(problems) - MOST_SHOWN} more")] if len(problems) > MOST_SHOWN else []
        )
        raise ModelError.of([*problems[:MOST_SHOWN], *more])
    targets = tuple(Target(name, shape, is_linear(name, architecture)) for name, shape in expected.items())
    dtype = number_type(base, targets)
    if rounded and not config.get("quantization_config"):
        base = as_rounded(base, [one.name for one in targets if one.linear])
    config = with_sizes(config, {"vocabulary": architecture.vocabulary, "tied": architecture.tied})
    return Assembly(folder, base, adapters, architecture, config, targets, dtype)


def number_type(base: Weights, targets: Sequence[Target]) -> str:
    """The 16-bit type of a base: float16 where its files have no other."""
    found = {base.table[one.name].dtype for one in targets if one.name in base.table} - {"float32"}
    return "float16" if found == {"float16"} else "bfloat16"


def refuse_quantised(folder: Path, config: dict[str, Any], *, rounded: bool) -> None:
    """ModelError for a base that is quantised already, but for NF4 where `rounded` values are wanted."""
    how = config.get("quantization_config")
    if how and not (rounded and isinstance(how, dict) and how.get("bnb_4bit_quant_type") == "nf4"):
        raise ModelError(
            f"{folder} is quantised already",
            "give the base in 16 bits: a language LoRA cannot be merged into 4-bit weights",
        )


def _with_vocabulary(architecture: Architecture, loras: Sequence[LanguageLora]) -> Architecture:
    """The architecture with the rows that the last LoRA's own embedding has, untied where one brings a
    head."""
    for lora in loras:
        if EMBEDDING in lora.own:
            architecture = replace(architecture, vocabulary=lora.shape(EMBEDDING)[0])
        architecture = replace(architecture, tied=architecture.tied and HEAD not in lora.own)
    return architecture


def _base_problems(
    folder: Path, base: Weights, expected: dict[str, tuple[int, ...]], loras: Sequence[LanguageLora]
) -> Iterator[Problem]:
    """What the base lacks, has too much of, or has in another size; matrices that a LoRA brings whole are
    not the base's."""
    wrong_base = "is this the base that the config.json describes? copy or download it again"
    brought = {name for lora in loras for name in lora.own}
    for name, shape in expected.items():
        if name in brought:
            continue
        if name not in base.table:
            yield Problem(str(folder), f"{name} is missing", wrong_base)
        elif base.table[name].shape != shape:
            vocabulary = name in (EMBEDDING, HEAD) and any(
                EMBEDDING in lora.own or HEAD in lora.own for lora in loras
            )
            hint = (
                "the language LoRA brings the other of embedding and head, but not this one"
                if vocabulary
                else wrong_base
            )
            yield Problem(str(folder), f"{name} is {_by(base.table[name].shape)}, not {_by(shape)}", hint)
        elif base.table[name].dtype not in FLOATS:
            yield Problem(
                str(folder), f"{name} is of type {base.table[name].dtype}", "give the base in 16 or 32 bits"
            )
    for name in base.table:
        if name not in expected and name != HEAD and not name.endswith(BUFFERS):
            yield Problem(str(folder), f"{name} is no tensor of such a base", wrong_base)


def _lora_problems(loras: Sequence[LanguageLora], expected: dict[str, tuple[int, ...]]) -> Iterator[Problem]:
    """What a LoRA changes that is not there, or is of another size. Matrices that a later LoRA replaces
    are not looked at."""
    for number, lora in enumerate(loras):
        hint = f"{lora.name} is a LoRA of another base: sizes must agree (a 13b LoRA for a 13b base)"
        for name in [*lora.own, *lora.factors]:
            if name not in expected:
                yield Problem(str(lora.folder), f"it changes {name}, which this base does not have", hint)
            elif lora.shape(name) != expected[name] and not any(
                name in later.own for later in loras[number + 1 :]
            ):
                yield Problem(
                    str(lora.folder),
                    f"{name} is {_by(lora.shape(name))}, this base needs {_by(expected[name])}",
                    hint,
                )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
