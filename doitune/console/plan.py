"""A memory plan on the screen: terms with their ranges, the verdict, the way out, and what else the
machine needs. A part of the console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doitune.console.screen import say, show_table

if TYPE_CHECKING:
    from doitune.memory.cards import Card
    from doitune.memory.plan import MemoryPlan, Outlook
    from doitune.memory.simulation.compare import Comparison
    from doitune.memory.simulation.foreign import ForeignPlan
    from doitune.memory.terms import Term

GIB = 1 << 30


def show_memory(plan: MemoryPlan, seen: Outlook, simulated: Comparison | None = None) -> None:
    """The whole plan."""
    setting = plan.setting
    title = f"{plan.recipe}: {plan.model} ({setting.architecture.parameters / 1e9:.1f} billion weights), rank {setting.rank}, "
    title += f"micro-batches of {setting.tokens:,} tokens, backend {setting.backend}"
    _terms(title, plan.terms, [plan.gib(number) for number in range(3)], plan.findings)
    _verdict(plan)
    if simulated is not None:
        _comparison(simulated)
    _levers(plan)
    _machine(plan)
    _hours(seen)


def show_foreign(plan: ForeignPlan) -> None:
    """A plan by simulation alone."""
    title = f"{plan.recipe}: {plan.model} ({plan.kind}, {plan.parameters / 1e9:.1f} billion weights), rank {plan.case.rank}, "
    title += f"micro-batches of {plan.case.tokens:,} tokens, backend {plan.case.backend}"
    _terms(title, plan.terms, [plan.gib(number) for number in range(3)], (*plan.findings, plan.how))
    _usable(plan.card)
    if plan.fits:
        say(
            f"it fits: {plan.gib(2):.1f} GiB at the high estimate, {plan.card.usable_gib - plan.gib(2):.1f} GiB are left"
        )
    else:
        too_much = plan.gib(2) - plan.card.usable_gib
        say(
            f"it does not fit: {plan.gib(2):.1f} GiB at the high estimate, {too_much:.1f} GiB too much; {plan.way_out}"
        )
    _machine(plan)


def _terms(title: str, terms: Sequence[Term], together: Sequence[float], notes: Sequence[str]) -> None:
    rows = [
        [term.name, *_range((term.low, term.nominal, term.high)), term.why] for term in terms if term.high > 0
    ]
    rows.append(["together", *(f"{gib:.2f}" for gib in together), ""])
    show_table(["GiB", "low", "nominal", "high", "what it is"], rows, title=title, right=(1, 2, 3))
    for note in notes:
        say(f"note: {note}")


def _range(three: Sequence[float]) -> list[str]:
    return [f"{amount / GIB:.3f}" if amount < GIB / 10 else f"{amount / GIB:.2f}" for amount in three]


def _verdict(plan: MemoryPlan) -> None:
    from doitune.memory.plan import way_out_text

    card = plan.card
    _usable(card)
    if plan.fits:
        say(
            f"it fits: {plan.gib(2):.1f} GiB at the high estimate, {card.usable_gib - plan.gib(2):.1f} GiB are left"
        )
        say(
            f"largest micro-batch that fits: {plan.max_tokens:,} tokens; a run that leaves it unset is given {plan.tokens_per_micro_batch:,}"
        )
    else:
        say(
            f"it does not fit: {plan.gib(2):.1f} GiB at the high estimate, {plan.gib(2) - card.usable_gib:.1f} GiB too much"
        )
        say(f"the cheapest way out: {way_out_text(plan)}")


def _usable(card: Card) -> None:
    name = f"{card.name}, {card.gib:.1f} GiB" if card.name else f"a card of {card.gib:g} GiB"
    usable = f"{card.usable_gib:.1f} GiB are usable of {name}"
    rule = "a sixteenth, at most 2 GiB, is left to driver, screen and others"
    say(f"{usable} ({rule})" if card.free_gib is None else f"{usable} ({card.free_gib:.1f} free now; {rule})")


def _levers(plan: MemoryPlan) -> None:
    rows = [
        [
            f"--set {one.set}" if one.set else one.change,
            f"{one.saves_gib:.2f}",
            "yes" if one.fits else "no",
            one.costs,
        ]
        for one in plan.levers
    ]
    if rows:
        show_table(
            ["change alone", "saves GiB", "fits", "costs"],
            rows,
            title="what would make it smaller, the cheapest first",
            right=(1,),
        )


def _machine(plan: MemoryPlan | ForeignPlan) -> None:
    host = plan.host
    say(
        f"main memory: {host.ram_gib:.1f} GiB, as weights are read tensor by tensor ({host.whole_gib:.0f} GiB if the whole 16-bit base were held)"
    )
    base = f"base {host.base_16_bit_gib:.1f} GiB in 16 bits, or {host.base_nf4_gib:.1f} GiB quantised before"
    say(f"disk: {host.disk_gib:.1f} GiB ({base}; {host.checkpoints_gib:.1f} GiB of checkpoints)")


def _hours(seen: Outlook) -> None:
    from doitune.console.screen import duration

    if not seen.paces:
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
    title = f"{seen.work.tokens:,} tokens in {seen.work.steps:,} steps: {seen.work.told}; without evaluation"
    show_table(
        ["card", "expected", "at the very best", "tokens/s", "of its rate"],
        rows,
        title=title,
        right=(1, 2, 3, 4),
    )
    if any(one.derived for one in seen.paces):
        say("* its rate is derived from units and clock, not from a data sheet")


def _comparison(simulated: Comparison) -> None:
    rows = [
        [name, f"{form / GIB:.3f}", f"{real / GIB:.3f}", f"{100 * (form / real - 1):+.2f} %" if real else ""]
        for name, form, real in simulated.rows
    ]
    show_table(["GiB", "closed form", "simulated", "apart"], rows, title=simulated.title, right=(1, 2, 3))
