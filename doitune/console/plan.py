"""A memory plan: terms with their ranges, the verdict, the way out, and what else the machine needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doitune.console.screen import duration, say, show_table
from doitune.memory.cards import LEFT_FREE
from doitune.system.units import GIB, size_of

if TYPE_CHECKING:
    from doitune.memory.cards import Card
    from doitune.memory.plan import MemoryPlan, Outlook
    from doitune.memory.simulation.compare import Comparison
    from doitune.memory.simulation.foreign import ForeignPlan

LOW, NOMINAL, HIGH = range(3)
"""Places of a plan's three estimates; the verdict is by the highest."""


def show_memory(plan: MemoryPlan, seen: Outlook, simulated: Comparison | None = None) -> None:
    """The whole plan."""
    setting = plan.setting
    model = f"{plan.model} ({_weights(setting.architecture.parameters)})"
    _terms(plan, f"{plan.recipe}: {model}, {_batches(setting.rank, setting.tokens, setting.backend)}")
    _verdict(plan)
    if simulated is not None:
        _comparison(simulated)
    _levers(plan)
    _machine(plan)
    _hours(seen)


def show_foreign(plan: ForeignPlan) -> None:
    """A plan by simulation alone."""
    model = f"{plan.model} ({plan.kind}, {_weights(plan.parameters)})"
    _terms(plan, f"{plan.recipe}: {model}, {_batches(plan.case.rank, plan.case.tokens, plan.case.backend)}")
    say(f"note: {plan.how}")
    _usable(plan.card)
    say(_fit(plan) + ("" if plan.fits else f"; {plan.way_out}"))
    _machine(plan)


def _weights(count: int) -> str:
    return f"{count / 1e9:.1f} billion weights" if count >= 1e8 else f"{count / 1e6:.1f} million weights"


def _batches(rank: int, tokens: int, backend: str) -> str:
    return f"rank {rank}, micro-batches of {tokens:,} tokens, backend {backend}"


def _terms(plan: MemoryPlan | ForeignPlan, title: str) -> None:
    rows = [
        [term.name, *_range((term.low, term.nominal, term.high)), term.why]
        for term in plan.terms
        if term.high > 0
    ]
    sums = (
        ("allocated", plan.allocated_gib, "tensors, as torch counts them"),
        ("reserved", plan.reserved_gib, "with what torch's allocator keeps beside them"),
        ("together", plan.gib, "with the context: what the driver sees; the verdict is by the high one"),
    )
    rows += [
        [name, *(f"{amount(place):.2f}" for place in (LOW, NOMINAL, HIGH)), why] for name, amount, why in sums
    ]
    show_table(["GiB", "low", "nominal", "high", "what it is"], rows, title=title, right=(1, 2, 3))
    for note in plan.findings:
        say(f"note: {note}")


def _range(three: Sequence[float]) -> list[str]:
    return [
        size_of(amount)
        if 0 < amount < GIB / 100
        else f"{amount / GIB:.3f}"
        if amount < GIB / 10
        else f"{amount / GIB:.2f}"
        for amount in three
    ]


def _verdict(plan: MemoryPlan) -> None:
    from doitune.memory.plan import way_out_text

    _usable(plan.card)
    say(_fit(plan))
    if plan.fits:
        unset = f"a run that leaves it unset is given {plan.tokens_per_micro_batch:,}"
        say(f"largest micro-batch that fits: {plan.max_tokens:,} tokens; {unset}")
    else:
        say(f"the cheapest way out: {way_out_text(plan)}")


def _fit(plan: MemoryPlan | ForeignPlan) -> str:
    """Whether it fits, and by how much."""
    high, usable = plan.gib(HIGH), plan.card.usable_gib
    if plan.fits:
        return f"it fits: {high:.1f} GiB at the high estimate, {usable - high:.1f} GiB are left"
    return f"it does not fit: {high:.1f} GiB at the high estimate, {high - usable:.1f} GiB too much"


def _usable(card: Card) -> None:
    name = f"{card.name}, {card.gib:.1f} GiB" if card.name else f"a card of {card.gib:g} GiB"
    part, most_gib = LEFT_FREE
    rule = f"1/{part} of it, at most {most_gib:g} GiB, is left to driver, screen and others"
    free = "" if card.free_gib is None else f"{card.free_gib:.1f} free now; "
    say(f"{card.usable_gib:.1f} GiB are usable of {name} ({free}{rule})")


def _levers(plan: MemoryPlan) -> None:
    rows = [
        [
            f"--set {one.set}" if one.set else one.change,
            *_range([one.saves_gib * GIB]),
            "yes" if one.fits else "no",
            one.costs,
        ]
        for one in plan.levers
    ]
    if rows:
        title = "what would make it smaller, the cheapest first"
        show_table(["change alone", "saves GiB", "fits", "costs"], rows, title=title, right=(1,))


def _machine(plan: MemoryPlan | ForeignPlan) -> None:
    host = plan.host
    whole = f"{host.whole_gib:.0f} GiB if the whole 16-bit base were loaded"
    say(f"main memory: {size_of(host.ram_gib * GIB)}, as weights are read tensor by tensor ({whole})")
    sizes = size_of(host.base_16_bit_gib * GIB), size_of(host.base_nf4_gib * GIB)
    base = f"base {sizes[0]} in 16 bits, or {sizes[1]} quantised before"
    checkpoints = f"{size_of(host.checkpoints_gib * GIB)} of checkpoints"
    say(f"disk: {size_of(host.disk_gib * GIB)} ({base}; {checkpoints})")


def _hours(seen: Outlook) -> None:
    if not seen.paces:
        if seen.not_known:
            say(f"hours: not known, {seen.not_known}")
        return
    rows = [
        [
            one.card + ("*" if one.derived else ""),
            duration(3600 * one.hours),
            duration(3600 * one.hours_at_best),
            f"{one.tokens_per_second:,.0f}",
            f"{100 * one.efficiency:.0f} %",
        ]
        for one in seen.paces
    ]
    title = f"{seen.work.tokens:,} tokens in {seen.work.steps:,} steps: {seen.work.how}; without evaluation"
    columns = ["card", "expected", "at the very best", "tokens/s", "of its rate"]
    show_table(columns, rows, title=title, right=range(1, 5))
    if any(one.derived for one in seen.paces):
        say("* its rate is derived from units and clock, not from a data sheet")


def _comparison(simulated: Comparison) -> None:
    rows = [
        [name, f"{form / GIB:.3f}", f"{real / GIB:.3f}", f"{100 * (form / real - 1):+.2f} %" if real else ""]
        for name, form, real in simulated.rows
    ]
    show_table(["GiB", "closed form", "simulated", "apart"], rows, title=simulated.title, right=(1, 2, 3))
    if simulated.warning:
        say(f"warning: {simulated.warning}")
