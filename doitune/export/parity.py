"""How far two models agree: what each says at the tokens of the same answers, and their distributions
compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from doitune.backends.probe import place_of
from doitune.prompt.batch import arrange
from doitune.prompt.encoded import IGNORED
from doitune.system.doing import counted

if TYPE_CHECKING:
    import torch

    from doitune.backends.loaded import LoadedModel
    from doitune.prompt.encoded import Encoded

AGREEMENT = 0.98
"""Share of equal likeliest tokens below which a merged model is not called the same (reliability.md,
danger 6)."""

MOST_NUMBERS = 1 << 27
"""Log-probabilities kept of one model: 512 MiB. Longer lists of answers are cut to the positions that fit."""

ROWS = 200
"""Rows whose answers are compared, at most."""

TOKENS_AT_ONCE = 1024
"""Positions of a forward pass: a base in 4 bits is made anew for each one, unless it is kept whole."""


@dataclass(frozen=True)
class Answers:
    """What one model says at the trained positions of some rows: fp32 log-probabilities [n, V], each row's
    mean loss in nats, and where it ran."""

    log_probs: torch.Tensor
    losses: tuple[float, ...]
    place: dict[str, str]


@dataclass(frozen=True)
class Pair:
    """Two models over the same `positions`. `agreement`: share of equal likeliest tokens; `kl_nats`: mean
    and largest KL(a || b) of a position."""

    a: str
    b: str
    positions: int
    agreement: float
    kl_nats: float
    most_kl_nats: float
    loss_a: float
    loss_b: float

    def to_json(self) -> dict[str, Any]:
        """As export.json holds it; losses are nats a token, None where they are not finite."""
        return {
            key: None if isinstance(value, float) and not isfinite(value) else value
            for key, value in asdict(self).items()
        }


def fitting(rows: Sequence[Encoded], vocabulary: int) -> list[Encoded]:
    """As many rows, in order, as MOST_NUMBERS has room for; at least one."""
    kept: list[Encoded] = []
    positions = 0
    for row in rows[:ROWS]:
        positions += row.trained
        if kept and positions * vocabulary > MOST_NUMBERS:
            break
        kept.append(row)
    return kept


def ask(model: LoadedModel, rows: Sequence[Encoded]) -> Answers:
    """What the model says to each row, some rows at once and always the same ones beside each other. The
    model is left in evaluation mode."""
    import torch

    model.training(False)
    found: dict[int, torch.Tensor] = {}
    for batch in counted(
        "reading what the model says to the rows: batches", arrange(rows, TOKENS_AT_ONCE, packed=False)
    ):
        log_probs = model.log_probs(batch).cpu()
        found.update(
            zip(
                batch.members,
                log_probs.split([rows[member].trained for member in batch.members]),
                strict=True,
            )
        )
    losses = []
    for place, row in enumerate(rows):
        wanted = torch.tensor([label for label in row.labels if label != IGNORED])
        losses.append(float(-found[place].gather(1, wanted[:, None]).mean()))
    return Answers(torch.cat([found[place] for place in range(len(rows))]), tuple(losses), place_of(model))


def compare(name_a: str, a: Answers, name_b: str, b: Answers) -> Pair:
    """The two side by side, position by position. A value that is not finite agrees with nothing."""
    import torch

    finite = a.log_probs.isfinite().all(dim=1) & b.log_probs.isfinite().all(dim=1)
    equal = (a.log_probs.argmax(dim=1) == b.log_probs.argmax(dim=1)) & finite
    kl = torch.cat(
        [
            (p.exp() * (p - q)).sum(dim=1)
            for p, q in zip(a.log_probs.split(256), b.log_probs.split(256), strict=True)
        ]
    )
    kl = kl[finite].clamp(min=0)
    mean, most = (float(kl.mean()), float(kl.max())) if len(kl) else (0.0, 0.0)
    return Pair(
        name_a, name_b, len(equal), float(equal.float().mean()), mean, most, _mean(a.losses), _mean(b.losses)
    )


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
