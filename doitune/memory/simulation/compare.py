"""The same figure from the model's real code under fake tensors, beside the closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.errors import UsageError
from doitune.memory.simulation.case import Case
from doitune.memory.terms import NOT_ALLOCATED, Setting, count
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.memory.plan import MemoryPlan

STATIC = ("weights", "embeddings", "norms", "lora", "optimizer")
"""Terms that lie on the card between two steps."""


@dataclass(frozen=True)
class Comparison:
    """(what, bytes by the closed form, bytes simulated), and how it was simulated."""

    title: str
    rows: tuple[tuple[str, float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """As a part of the plan's document."""
        named = ("static", "gradients", "working", "model_part")
        return {
            **{
                f"{name}_gib": round(real / GIB, 4)
                for name, (_, _, real) in zip(named, self.rows, strict=True)
            },
            "apart": round(self.rows[-1][1] / self.rows[-1][2] - 1, 5),
            "how": self.title,
        }


def compare(plan: MemoryPlan) -> Comparison:
    """Simulate a plan's setting. UsageError with a `--what-if`: the real code does none of them."""
    from doitune.memory.simulation.simulate import simulate_case

    setting = plan.setting
    if setting.what_if:
        raise UsageError("--simulate runs what doitune does, and no --what-if", "leave one of the two out")
    found = simulate_case(setting.architecture, case_of(setting))
    terms = {term.name: term.nominal for term in count(setting)}
    static, gradients = sum(terms[name] for name in STATIC), terms["gradients"]
    part = sum(amount for name, amount in terms.items() if name not in NOT_ALLOCATED)
    return Comparison(
        found.how(f" of {setting.architecture.layers}"),
        (
            ("weights, adapter, states", static, found.static_bytes),
            ("gradients", gradients, found.gradient_bytes),
            ("what comes and goes", part - static - gradients, found.working_bytes),
            ("peak without context", part, found.peak_bytes),
        ),
    )


def case_of(setting: Setting) -> Case:
    """A setting as the simulator takes it."""
    return Case(
        rank=setting.rank,
        tokens=setting.tokens,
        backend=setting.backend,
        quantise=setting.quantise,
        optimizer=setting.optimizer,
        compute_dtype="fp32" if setting.number_bytes == 4 else "bf16",
        gradient_checkpointing=setting.checkpointing,
        targets=setting.targets,
        dropout=setting.dropout,
    )
