"""What long work reports while it goes on: a step, a validation, a saved checkpoint, a note. The console
shows them, trackers send them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Note:
    """Something a reader of the run should know."""

    text: str


@dataclass(frozen=True)
class StepLog:
    """One optimiser step. `step` counts from 1. `positions` are computed token positions, padding
    included; losses in nats a token."""

    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    trained_tokens: int
    tokens: int
    positions: int
    micro_batches: int
    seconds: float
    peak_memory_gib: float
    loss_by_ability: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationLog:
    """Validation after `step` steps. `score` is the mean of the abilities' scores in 0..1; losses in nats
    a token."""

    step: int
    epoch: float
    loss: float
    loss_by_ability: dict[str, float]
    score: float | None
    score_by_ability: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written and verified."""

    step: int


Event = Note | StepLog | ValidationLog | Saved
