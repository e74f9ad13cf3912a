"""What a recipe needs on a card, before anything is downloaded: the peak term by term, the verdict, and the
cheapest change that fits.

A closed form over the architecture, without torch; `terms` counts, `levers` changes, `cards`, `hours` and
`host` know machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from doitune.base.folder import ASSEMBLED
from doitune.errors import FitError, ModelError, UsageError
from doitune.memory.cards import Card, smallest_card
from doitune.memory.host import Host, host_of
from doitune.memory.hours import SMALLEST_PARAMETERS, Pace, Work, known_cards, pace, work_of
from doitune.memory.levers import Lever, Request, high_gib, levers, way_out
from doitune.memory.setting import WHAT_IFS, Setting
from doitune.memory.shape import Shape, find_shape
from doitune.memory.terms import Term, allocated_bytes, count, level, wide_bytes
from doitune.system.units import GIB, size_of

if TYPE_CHECKING:
    from doitune.recipe.fields import Recipe
    from doitune.recipe.resolve import Resolved

ENOUGH_TOKENS = 8192
"""Tokens of a micro-batch beyond which a card gains nothing: a 4090 keeps 98 % of its speed here."""
MOST_TOKENS = 1 << 20
NEW_ROWS = 3
HIGH_RANK = 32
"""Above this a 33b adapter leaves a 24 GB card."""


class Verdict:
    """What every plan of memory says of its `card`: `terms` add up to the peak."""

    recipe: str
    model: str
    card: Card
    terms: tuple[Term, ...]
    host: Host
    findings: tuple[str, ...]

    def gib(self, number: int) -> float:
        """The low (0), nominal (1) or high (2) estimate of the peak as the driver sees it."""
        return sum(level(term, number) for term in self.terms) / GIB

    def allocated_gib(self, number: int) -> float:
        """The same of tensors alone: what torch calls allocated."""
        return allocated_bytes(self.terms, number) / GIB

    def reserved_gib(self, number: int) -> float:
        """The same with what the allocator keeps beside them, without the context: what torch calls
        reserved."""
        return sum(level(term, number) for term in self.terms if term.name != "context") / GIB

    @property
    def fits(self) -> bool:
        """Whether the high estimate is within what is usable."""
        return self.gib(2) <= self.card.usable_gib

    @property
    def smallest_card_gib(self) -> int | None:
        """The memory of the smallest card on sale that would do."""
        return smallest_card(self.gib(2))


@dataclass(frozen=True)
class MemoryPlan(Verdict):
    """The verdict on one recipe and one card. `terms` add up to the peak; `fits` is by the high estimate.

    `levers` are single changes, the cheapest first; `way_out` is the cheapest that fits, several where one is
    not enough. `findings` name what makes it large or slow. `max_tokens`: the largest micro-batch that fits,
    0 where none does.
    """

    recipe: str
    model: str
    shape: Shape
    setting: Setting
    card: Card
    terms: tuple[Term, ...]
    max_tokens: int
    levers: tuple[Lever, ...]
    way_out: tuple[Lever, ...]
    host: Host
    findings: tuple[str, ...]

    @property
    def model_part_gib(self) -> float:
        """The nominal peak without context and fragmentation: what a simulated step counts."""
        return self.allocated_gib(1)

    @property
    def tokens_per_micro_batch(self) -> int:
        """What a run that leaves it unset is given: as much as fits and is of use, and never less than its
        longest row."""
        return max(self.setting.tokens, min(self.max_tokens, ENOUGH_TOKENS))


def plan_memory(
    resolved: Resolved, card: Card, *, backend: str = "", what_if: Iterable[str] = ()
) -> MemoryPlan:
    """`backend`: unsloth or hf instead of the recipe's; a recipe's `auto` counts as unsloth for the families
    that it has kernels for. Errors: ModelError, UsageError."""
    recipe = resolved.recipe
    shape = find_shape(recipe.model)
    setting = setting_of(recipe, shape, card, backend=backend, what_if=what_if)
    train = recipe.train
    request = Request(setting, card.usable_gib, train.max_tokens, train.tokens_per_micro_batch is not None)
    changes = levers(request)
    fits = high_gib(setting) <= card.usable_gib
    return MemoryPlan(
        recipe=resolved.name,
        model=recipe.model.name,
        shape=shape,
        setting=setting,
        card=card,
        terms=count(setting),
        max_tokens=most_tokens(setting, card.usable_gib),
        levers=changes,
        way_out=() if fits else way_out(request, changes),
        host=host_of(
            setting,
            quantised=shape.quantised or recipe.model.name.startswith(ASSEMBLED),
            checkpoints=train.keep_checkpoints + 2,
        ),
        findings=tuple(_findings(setting, card)),
    )


def setting_of(
    recipe: Recipe, shape: Shape, card: Card, *, backend: str = "", what_if: Iterable[str] = ()
) -> Setting:
    """What a recipe asks of a card."""
    unknown = [name for name in what_if if name not in WHAT_IFS]
    if unknown:
        raise UsageError(
            f"--what-if {unknown[0]!r} is not known", f"one or more, with commas, of {', '.join(WHAT_IFS)}"
        )
    if {"full-logits", "fused-loss"} <= set(what_if):
        raise UsageError("--what-if full-logits and fused-loss are two losses", "leave one of the two out")
    wanted = backend or recipe.model.backend
    if wanted not in ("auto", "hf", "unsloth"):
        raise UsageError(f"--backend {wanted!r} is not known", "unsloth or hf")
    if wanted == "unsloth" and not shape.architecture.family.unsloth:
        kind = shape.architecture.model_type
        raise UsageError(f"Unsloth has no kernels of its own for model_type {kind!r}", "--backend hf")
    targets = () if recipe.lora.targets == "all-linear" else tuple(recipe.lora.targets)
    foreign = [target for target in targets if target not in shape.architecture.linears]
    if foreign:
        raise ModelError(
            f"{recipe.model.name} has no linear layers {foreign}",
            f"it has {', '.join(shape.architecture.linears)} (lora.targets)",
        )
    if shape.quantised and recipe.model.quantise != "nf4":
        raise ModelError(
            f"{shape.place}: the base is in 4 bits already", "model.quantise none takes a base in 16 bits"
        )
    engine = ("unsloth" if shape.architecture.family.unsloth else "hf") if wanted == "auto" else wanted
    wanted_dtype = recipe.model.compute_dtype
    halves = wanted_dtype == "fp16" or (wanted_dtype == "auto" and not card.has_bf16)
    by_peft = {"fp32-adapter"} if engine == "hf" and halves else set()
    return Setting(
        shape.architecture,
        backend=engine,
        rank=recipe.lora.rank,
        tokens=recipe.train.tokens_per_micro_batch or recipe.train.max_tokens,
        quantise=recipe.model.quantise,
        optimizer=recipe.train.optimizer,
        targets=targets,
        dropout=recipe.lora.dropout,
        checkpointing=recipe.train.gradient_checkpointing != "never",
        new_rows=NEW_ROWS if recipe.prompt.tokens == "new" and recipe.prompt.template != "model" else 0,
        number_bytes=4 if recipe.model.compute_dtype == "fp32" else 2,
        nested=shape.nested,
        wide=shape.wide,
        what_if=frozenset({*what_if, *by_peft}),
    )


def most_tokens(setting: Setting, usable_gib: float) -> int:
    """The largest micro-batch whose high estimate fits, to 64 tokens."""
    low, high = 0, MOST_TOKENS // 64
    while low < high:
        middle = (low + high + 1) // 2
        if high_gib(replace(setting, tokens=64 * middle)) <= usable_gib:
            low = middle
        else:
            high = middle - 1
    return 64 * low


def refuse_unfit(plan: MemoryPlan) -> None:
    """FitError with the way out, where the plan does not fit its card."""
    if plan.fits:
        return
    card = plan.card
    taken = f", {card.taken_gib:.1f} GiB of it taken by other programs now" if card.taken_gib > 0.3 else ""
    raise FitError(
        f"{plan.recipe} needs {plan.gib(2):.1f} GiB for {plan.model} ({plan.gib(1):.1f} nominal, "
        f"{plan.setting.backend}); {card.usable_gib:.1f} GiB are usable of {card.name or 'a card'} of "
        f"{card.gib:.0f} GiB{taken}",
        way_out_text(plan),
    )


def way_out_text(plan: MemoryPlan) -> str:
    """The cheapest way to a plan that fits, in words."""
    if plan.way_out:
        return " and ".join(f"--set {one.set}" if one.set else one.change for one in plan.way_out)
    return another_size(plan)


def another_size(plan: Verdict) -> str:
    """What is left where no change of settings is enough."""
    size = plan.smallest_card_gib
    card = f" or a card of {size} GiB" if size else ""
    return f"no change of settings is enough: take a smaller model{card}"


def _findings(setting: Setting, card: Card) -> Iterable[str]:
    for name in sorted(setting.what_if):
        yield f"{name}: {WHAT_IFS[name]}"
    if not setting.nested:
        yield (
            "the base was quantised with scales in 32 bits instead of 8: one made by `doitune base make`, or "
            "quantised as it loads, is smaller"
        )
    if setting.wide:
        names = ", ".join(f"{name} of {blocks} blocks" for name, blocks in setting.wide)
        yield (
            f"{wide_bytes(setting) / GIB:.1f} GiB of this 4-bit base's linear layers stay in 16 bits, as its "
            f"config says ({names}); one made by `doitune base make` keeps all of them in 4"
        )
    if setting.backend == "unsloth" and (not setting.nested or "no-double-quant" in setting.what_if):
        yield "no-double-quant: Unsloth's kernels need nested scales and would not run at all"
    if setting.rank > HIGH_RANK:
        parts = [term.nominal for term in count(setting) if term.name in ("lora", "gradients", "optimizer")]
        yield (
            f"rank {setting.rank}: the adapter with its gradients and states takes "
            f"{size_of(sum(parts))}, and grows with the rank"
        )
    if setting.dropout and setting.backend == "unsloth":
        yield "dropout above 0: many releases of Unsloth leave their fused kernels; counted without them"
    if setting.quantise == "none":
        yield "model.quantise none: the base in full width, four times its size in NF4"
    if setting.number_bytes == 4:
        yield "fp32 products: embeddings and activations at twice the size of bf16"
    if not setting.checkpointing:
        yield "no gradient checkpointing: every block keeps its activations"
    if card.taken_gib > 0.3:
        yield f"other programs take {card.taken_gib:.1f} GiB of {card.name or 'this card'} now"


@dataclass(frozen=True)
class Outlook:
    """How long a recipe takes: its work, and each known card's pace; `not_known`: why it has none, where the
    card's speed is what lacks."""

    work: Work
    paces: tuple[Pace, ...]
    not_known: str = ""


def outlook(recipe: Recipe, plan: MemoryPlan) -> Outlook:
    """Hours on the known cards of the plan's card, or of its size; none where it does not fit, or the base
    is tiny."""
    work = work_of(recipe)
    if not plan.fits or plan.setting.architecture.parameters < SMALLEST_PARAMETERS:
        return Outlook(work, ())
    cards = known_cards(plan.card)
    paces = tuple(pace(plan.setting, card, work, plan.tokens_per_micro_batch) for card in cards)
    speedless = plan.card.name and not cards
    return Outlook(work, paces, f"there are no figures of the speed of {plan.card.name}" if speedless else "")


def verdict_document(plan: Verdict) -> dict[str, Any]:
    """What the JSON documents of all plans have in common."""
    low, nominal, high = (round(plan.gib(number), 3) for number in range(3))
    card, host = plan.card, plan.host
    return {
        "schema": "doitune.plan/1",
        "recipe": plan.recipe,
        "model": plan.model,
        "card": card.name,
        "card_gib": round(card.gib, 3),
        "free_gib": None if card.free_gib is None else round(card.free_gib, 3),
        "usable_gib": round(card.usable_gib, 3),
        "fits": plan.fits,
        "low_gib": low,
        "nominal_gib": nominal,
        "high_gib": high,
        "allocated_gib": [round(plan.allocated_gib(number), 3) for number in range(3)],
        "reserved_gib": [round(plan.reserved_gib(number), 3) for number in range(3)],
        "driver_gib": [low, nominal, high],
        "left_gib": round(card.usable_gib - plan.gib(2), 3),
        "terms": {f"{term.name}_gib": round(term.nominal / GIB, 4) for term in plan.terms},
        "smallest_card_gib": plan.smallest_card_gib,
        "ram_gib": round(host.ram_gib, 2),
        "disk_gib": round(host.disk_gib, 2),
        "findings": list(plan.findings),
    }


def document(plan: MemoryPlan, seen: Outlook) -> dict[str, Any]:
    """The document of `doitune plan --json`."""
    return {
        **verdict_document(plan),
        "architecture": plan.shape.place,
        "parameters": plan.setting.architecture.parameters,
        "backend": plan.setting.backend,
        "model_part_gib": round(plan.model_part_gib, 3),
        "tokens": plan.setting.tokens,
        "ranges": {
            term.name: [round(level(term, number) / GIB, 4) for number in range(3)]
            for term in plan.terms
            if term.low != term.high
        },
        "max_tokens_per_micro_batch": plan.max_tokens,
        "tokens_per_micro_batch": plan.tokens_per_micro_batch,
        "levers": [_lever(one) for one in plan.levers],
        "way_out": [_lever(one) for one in plan.way_out],
        "loading": {
            "base_16_bit_gib": round(plan.host.base_16_bit_gib, 2),
            "base_nf4_gib": round(plan.host.base_nf4_gib, 2),
            "ram_if_held_whole_gib": round(plan.host.whole_gib, 2),
            "checkpoints_gib": round(plan.host.checkpoints_gib, 2),
        },
        "hours": {one.card: round(one.hours, 2) for one in seen.paces},
        "hours_at_best": {one.card: round(one.hours_at_best, 2) for one in seen.paces},
        "tokens_per_second": {one.card: round(one.tokens_per_second) for one in seen.paces},
        "training": {
            "rows": seen.work.rows,
            "tokens": seen.work.tokens,
            "steps": seen.work.steps,
            "counted": seen.work.how,
        },
    }


def _lever(one: Lever) -> dict[str, Any]:
    return {
        "set": one.set,
        "change": one.change,
        "costs": one.costs,
        "saves_gib": round(one.saves_gib, 2),
        "fits": one.fits,
    }
