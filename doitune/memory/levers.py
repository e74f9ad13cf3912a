"""What makes a training smaller, from the change that costs least to the one that costs most, and the
cheapest that fits.

Every lever of a recipe is a `--set` that the recipe's schema takes; a lever against a `--what-if` is to leave
that out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from doitune.memory.setting import Setting
from doitune.memory.terms import count
from doitune.system.units import GIB

SMALLEST_RANK, FEWEST_TOKENS = 4, 256
AT_MOST_TOGETHER = 4


@dataclass(frozen=True)
class Lever:
    """One change. `set`: KEY=VALUE for `--set`, empty where a `--what-if` is left out; `costs`: what is given
    up.

    `saves_gib` and `fits` are of this change alone, at the high estimate. `field`: the number of a setting
    that may be anything below.
    """

    set: str
    change: str
    costs: str
    setting: Setting
    field: str = ""
    saves_gib: float = 0.0
    fits: bool = False


@dataclass(frozen=True)
class Request:
    """What levers turn: a setting, what is usable, and how the recipe says the tokens of a micro-batch."""

    setting: Setting
    usable_gib: float
    longest: int
    tokens_are_set: bool = False


def high_gib(setting: Setting) -> float:
    """The high estimate of a setting's peak."""
    return sum(term.high for term in count(setting)) / GIB


def levers(request: Request) -> tuple[Lever, ...]:
    """The changes that save memory here, in the order of their cost."""
    before = high_gib(request.setting)
    found = []
    for lever in _all(request):
        after = high_gib(lever.setting)
        if after < before - 0.005:
            found.append(replace(lever, saves_gib=before - after, fits=after <= request.usable_gib))
    return tuple(found)


def way_out(request: Request, known: Sequence[Lever]) -> tuple[Lever, ...]:
    """The cheapest change that fits; where none does alone, the cheapest few that do together; empty where
    even those don't."""
    for together in range(1, AT_MOST_TOGETHER + 1):
        for chosen in combinations(known, together):
            if high_gib(_together(request, chosen)) <= request.usable_gib:
                return _trimmed(request, chosen)
    return ()


def _together(request: Request, chosen: Sequence[Lever]) -> Setting:
    """The setting with all of `chosen`."""
    setting = request.setting
    for lever in chosen:
        setting = _combine(setting, request.setting, lever.setting)
    return setting


def _combine(onto: Setting, before: Setting, after: Setting) -> Setting:
    """`onto` with what a lever changed of `before`."""
    changed = {
        name: getattr(after, name)
        for name in Setting.__dataclass_fields__
        if getattr(after, name) != getattr(before, name)
    }
    if "what_if" in changed:
        changed["what_if"] = onto.what_if - (before.what_if - after.what_if)
    return replace(onto, **changed)


def _trimmed(request: Request, chosen: Sequence[Lever]) -> tuple[Lever, ...]:
    """The chosen levers; rank and tokens go no lower than beside the others they have to."""
    setting, kept = _together(request, chosen), []
    for lever in chosen:
        if lever.field:
            number = _largest(setting, lever.field, getattr(request.setting, lever.field), request.usable_gib)
            setting = _with(setting, lever.field, number)
            lever = replace(
                lever,
                set=f"{lever.set.partition('=')[0]}={number}",
                setting=_with(request.setting, lever.field, number),
            )
            lever = replace(lever, saves_gib=high_gib(request.setting) - high_gib(lever.setting))
        kept.append(lever)
    return tuple(kept)


def _all(request: Request) -> Iterator[Lever]:
    setting = request.setting
    yield from _loss_and_checkpoints(setting)
    yield from _matrices(setting)
    yield from _states(setting)
    yield from _adapter(request)
    yield from _tokens(request)


def _without(setting: Setting, name: str) -> Iterator[Lever]:
    if name in setting.what_if:
        yield Lever(
            "",
            f"leave out --what-if {name}",
            "nothing: doitune does not do it",
            replace(setting, what_if=setting.what_if - {name}),
        )


def _loss_and_checkpoints(setting: Setting) -> Iterator[Lever]:
    yield from _without(setting, "full-logits")
    yield from _without(setting, "fused-loss")
    yield from _without(setting, "no-checkpointing")
    yield from _without(setting, "checkpoints-on-card")
    if not setting.checkpointing:
        yield Lever(
            "train.gradient_checkpointing=always",
            "recompute activations",
            "a third more time",
            replace(setting, checkpointing=True),
        )
    if setting.backend == "hf" and setting.architecture.family.unsloth:
        yield Lever(
            "model.backend=unsloth",
            "Unsloth's kernels and offloaded checkpoints",
            "its licences",
            replace(setting, backend="unsloth"),
        )


def _matrices(setting: Setting) -> Iterator[Lever]:
    for name in ("fp32-upcast", "trained-embeddings", "unsloth-new-tokens", "no-double-quant"):
        yield from _without(setting, name)
    if setting.quantise == "none":
        yield Lever(
            "model.quantise=nf4", "the base in 4 bits", "a little accuracy", replace(setting, quantise="nf4")
        )
    if setting.number_bytes == 4:
        yield Lever(
            "model.compute_dtype=auto",
            "products in 16 bits",
            "precision of products",
            replace(setting, number_bytes=2),
        )


def _states(setting: Setting) -> Iterator[Lever]:
    if setting.dropout:
        yield Lever(
            "lora.dropout=0",
            "no dropout in the adapter, so that the fused kernels serve",
            "dropout",
            replace(setting, dropout=0.0),
        )
    if setting.optimizer == "adamw":
        yield Lever(
            "train.optimizer=adamw_8bit",
            "optimiser states in 8 bits",
            "nothing that was measured",
            replace(setting, optimizer="adamw_8bit"),
        )
    if setting.optimizer != "paged_adamw_8bit":
        paged = replace(setting, optimizer="paged_adamw_8bit")
        yield Lever(
            "train.optimizer=paged_adamw_8bit",
            "optimiser states in 8 bits that may move to main memory",
            "time where they move",
            paged,
        )


def _adapter(request: Request) -> Iterator[Lever]:
    setting = request.setting
    rank = _largest(setting, "rank", setting.rank, request.usable_gib) or min(SMALLEST_RANK, setting.rank)
    yield Lever(
        f"lora.rank={rank}",
        "a smaller adapter",
        "what the adapter can learn",
        replace(setting, rank=rank),
        "rank",
    )


def _tokens(request: Request) -> Iterator[Lever]:
    setting = request.setting
    tokens = _largest(setting, "tokens", setting.tokens, request.usable_gib)
    if request.tokens_are_set:
        tokens = max(tokens, request.longest)
        yield Lever(
            f"train.tokens_per_micro_batch={tokens}",
            "smaller micro-batches",
            "speed",
            replace(setting, tokens=tokens),
            "tokens",
        )
    else:
        tokens = max(tokens, min(FEWEST_TOKENS, setting.tokens))
        yield Lever(
            f"train.max_tokens={tokens}",
            "shorter rows",
            "the rows that are longer",
            replace(setting, tokens=tokens),
            "tokens",
        )


def _largest(setting: Setting, field: str, below: int, usable_gib: float) -> int:
    """The largest power of two below `below` that fits as `field`; 0 where none does."""
    powers = [1 << exponent for exponent in range(below.bit_length()) if 1 << exponent < below]
    return next(
        (number for number in reversed(powers) if high_gib(_with(setting, field, number)) <= usable_gib), 0
    )


def _with(setting: Setting, field: str, number: int) -> Setting:
    return replace(setting, rank=number) if field == "rank" else replace(setting, tokens=number)
