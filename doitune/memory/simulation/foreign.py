"""A plan by simulation alone: for an architecture that transformers can build and the closed form does not
know.

One step of the model's real code on the hf backend (Unsloth has no kernels of its own for such models) says
what the model part takes; context, fragmentation and the slack are those of the closed form. Levers, a
largest micro-batch and hours need the closed form: there are none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.errors import UsageError
from doitune.memory.cards import Card
from doitune.memory.host import PROCESS_GIB, Host
from doitune.memory.plan import Verdict, another_size, verdict_document
from doitune.memory.shape import find_config, stored
from doitune.memory.simulation.case import Case, Simulation
from doitune.memory.terms import SLACK, Term, level, ranged, untracked
from doitune.system.doing import doing
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.recipe.fields import Recipe
    from doitune.recipe.resolve import Resolved

STANDING = {
    "linear layers": ("weights", "linear layers, in NF4 if model.quantise is nf4"),
    "embedding and head": ("embeddings", "embedding and head, frozen"),
    "norms": (
        "norms",
        "what is no linear layer and stays in 16 bits: norms, biases, the experts of a mixture",
    ),
    "adapter": ("lora", "trained weights"),
    "optimiser": ("optimizer", "two moments"),
    "other": ("other", "positions and the batch"),
}
"""Terms of a simulated step that lie on the card between steps: the plan's name and what it is."""

WIDE_SHARE = 0.02
"""From this share of the weights on, what stays in 16 bits is worth a word."""


@dataclass(frozen=True)
class ForeignPlan(Verdict):
    """The verdict on one recipe and one card. `terms` add up to the peak; `fits` is by the high estimate."""

    recipe: str
    model: str
    kind: str
    place: str
    card: Card
    case: Case
    parameters: int
    terms: tuple[Term, ...]
    host: Host
    how: str
    findings: tuple[str, ...]

    @property
    def way_out(self) -> str:
        """What may make it fit, in words: settings, where the base itself does."""
        standing = ("weights", "embeddings", "norms", "context")
        base = sum(term.high for term in self.terms if term.name in standing) / GIB
        if base < self.card.usable_gib:
            return "try a smaller lora.rank or train.max_tokens"
        return another_size(self)


def document(plan: ForeignPlan) -> dict[str, Any]:
    """The document of `doitune plan --json`; what only the closed form knows is null or empty."""
    return {
        **verdict_document(plan),
        "architecture": plan.place,
        "model_type": plan.kind,
        "parameters": plan.parameters,
        "backend": plan.case.backend,
        "tokens": plan.case.tokens,
        "max_tokens_per_micro_batch": None,
        "levers": [],
        "hours": {},
        "simulation": {"how": plan.how},
    }


def plan_foreign(
    resolved: Resolved, card: Card, *, backend: str = "", what_if: Iterable[str] = ()
) -> ForeignPlan:
    """Seconds, and torch. Errors: ModelError where transformers cannot build or run the model, UsageError
    for what is not simulated."""
    from doitune.memory.simulation.simulate import count_weights, simulate_config

    recipe = resolved.recipe
    config, place = find_config(recipe.model.name, recipe.model.revision)
    kind, lies = str(config.get("model_type", "")), stored(config, place)
    if tuple(what_if):
        problem = f"blocks of model_type {kind!r} are simulated, and a simulation does no --what-if"
        raise UsageError(problem, "leave --what-if out")
    if (backend or recipe.model.backend) not in ("auto", "hf"):
        raise UsageError(
            f"blocks of model_type {kind!r} are simulated on the hf backend alone", "--backend hf"
        )
    case = _case(recipe)
    doing("running the model's code under fake tensors")
    found = simulate_config(config, place, case)
    parameters, largest = count_weights(config, place)
    return ForeignPlan(
        recipe=resolved.name,
        model=recipe.model.name,
        kind=kind,
        place=place,
        card=card,
        case=case,
        parameters=parameters,
        terms=_terms(found),
        host=_host(
            found, parameters, largest, stored=lies.quantised, checkpoints=recipe.train.keep_checkpoints + 2
        ),
        how=found.how(),
        findings=tuple(_findings(kind, found, case)),
    )


def _case(recipe: Recipe) -> Case:
    return Case(
        rank=recipe.lora.rank,
        tokens=recipe.train.tokens_per_micro_batch or recipe.train.max_tokens,
        quantise=recipe.model.quantise,
        optimizer=recipe.train.optimizer,
        compute_dtype="fp32" if recipe.model.compute_dtype == "fp32" else "bf16",
        gradient_checkpointing=recipe.train.gradient_checkpointing != "never",
        targets=() if recipe.lora.targets == "all-linear" else tuple(recipe.lora.targets),
        dropout=recipe.lora.dropout,
    )


def _terms(found: Simulation) -> tuple[Term, ...]:
    stands = [
        Term(STANDING[name][0], amount, amount, amount, STANDING[name][1])
        for name, amount in found.terms.items()
    ]
    gradients = Term(
        "gradients", found.gradient_bytes, found.gradient_bytes, found.gradient_bytes, "of the adapter"
    )
    working = ranged(
        "working", max(0, found.working_bytes), SLACK, "activations, dequantised weights, the loss"
    )
    adapter = found.gradient_bytes + found.terms["adapter"] + found.terms["optimiser"]
    return (
        *stands,
        gradients,
        working,
        *untracked([adapter + level(working, number) for number in range(3)], "hf"),
    )


def _host(found: Simulation, parameters: int, largest: int, *, stored: bool, checkpoints: int) -> Host:
    whole = 2 * parameters / GIB
    standing = sum(found.terms[name] for name in ("linear layers", "embedding and head", "norms")) / GIB
    adapter = checkpoints * (found.terms["adapter"] + found.terms["optimiser"]) / GIB
    return Host(
        ram_gib=PROCESS_GIB + 4 * largest / GIB,
        whole_gib=PROCESS_GIB + whole,
        disk_gib=(standing if stored else whole) + adapter,
        base_16_bit_gib=whole,
        base_nf4_gib=standing,
        checkpoints_gib=adapter,
    )


def _findings(kind: str, found: Simulation, case: Case) -> Iterable[str]:
    yield (
        f"the closed form does not know blocks of model_type {kind!r}: this plan is simulated: all "
        "figures but context, fragmentation and slack are of a step of the model's code under fake tensors"
    )
    base = sum(found.terms[name] for name in ("linear layers", "embedding and head", "norms"))
    if found.terms["norms"] > WIDE_SHARE * base and case.quantise == "nf4":
        size = found.terms["norms"] / GIB
        yield (
            f"{size:.1f} GiB of the base are no linear layers and stay in 16 bits (the experts of a mixture)"
            ": NF4 does not help there"
        )
    if case.quantise == "none":
        yield "model.quantise none: the base in full width"
