"""The same figure from the model's real code under fake tensors, beside the closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doitune.errors import UsageError
from doitune.memory.setting import Setting
from doitune.memory.simulation.case import Case
from doitune.memory.terms import NOT_ALLOCATED, count
from doitune.system.doing import doing
from doitune.system.units import GIB

if TYPE_CHECKING:
    from doitune.memory.plan import MemoryPlan

STATIC = ("weights", "embeddings", "norms", "lora", "optimizer")
"""Terms that lie on the card between two steps."""


NEAR = 0.05
"""From this share on, the closed form and the simulation are said to differ."""


@dataclass(frozen=True)
class Comparison:
    """(what, bytes by the closed form, bytes simulated), and how it was simulated. `high_gib`: the plan's
    high estimate with the simulated tensors in place of the counted ones."""

    title: str
    rows: tuple[tuple[str, float, float], ...]
    backend: str
    high_gib: float
    usable_gib: float

    @property
    def apart(self) -> float:
        """How far the closed form's peak is from the simulated one, as a share of that."""
        return self.rows[-1][1] / self.rows[-1][2] - 1

    @property
    def trusted(self) -> str:
        """Which of both to trust: the hf backend's simulation is that model's real code; Unsloth's is a model
        of its kernels, so there the larger figure counts."""
        simulated = self.backend == "hf" or self.apart < 0
        return "simulation" if simulated or abs(self.apart) <= NEAR else "closed form"

    @property
    def warning(self) -> str:
        """One sentence where both differ, else empty."""
        if abs(self.apart) <= NEAR:
            return ""
        said = f"the closed form is {100 * self.apart:+.0f} % from the simulated step, which is too far"
        if self.trusted == "closed form":
            return f"{said}: trust the closed form, as the simulation is but a model of Unsloth's kernels"
        fits = "fits" if self.high_gib <= self.usable_gib else "does not fit"
        return (
            f"{said}: trust the simulation, by which it {fits} ({self.high_gib:.1f} GiB at the high estimate)"
        )

    def to_json(self) -> dict[str, Any]:
        """As a part of the plan's document."""
        named = ("static", "gradients", "working", "model_part")
        return {
            **{
                f"{name}_gib": round(real / GIB, 4)
                for name, (_, _, real) in zip(named, self.rows, strict=True)
            },
            "apart": round(self.apart, 5),
            "agrees": abs(self.apart) <= NEAR,
            "trust": self.trusted,
            "warning": self.warning,
            "how": self.title,
        }


def compare(plan: MemoryPlan) -> Comparison:
    """Simulate a plan's setting. UsageError with a `--what-if`: the real code does none of them."""
    from doitune.memory.simulation.simulate import simulate_case

    setting = plan.setting
    if setting.what_if:
        raise UsageError("--simulate runs what doitune does, and no --what-if", "leave one of the two out")
    doing("running the model's code under fake tensors")
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
        setting.backend,
        plan.gib(2) + (found.peak_bytes - part) / GIB,
        plan.card.usable_gib,
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
