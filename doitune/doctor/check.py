"""One finding of `doitune doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One finding. `state`: ok, warning (training works, but), or problem (no training is possible).
    `commands` mend it, where some would."""

    name: str
    state: str
    text: str
    cure: str = ""
    commands: tuple[str, ...] = ()
