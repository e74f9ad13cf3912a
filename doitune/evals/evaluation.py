"""Evaluation: what one target scored, as a table and JSON show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doitune.evals.report import Report


@dataclass(frozen=True)
class Evaluation:
    """One target's report: `checkpoint` is `step-000320` or `base`. `leaks`: rows learnt from that give
    away a judged row. `stopped_at`: the last step of a run that is not whole yet."""

    target: str
    checkpoint: str
    report: Report
    leaks: int = 0
    stopped_at: int | None = None

    def entries(self, protocols: Sequence[str]) -> list[dict[str, Any]]:
        """Its entries of `doitune eval --json`, one for each protocol asked for."""
        report = self.report
        return [
            {
                "target": self.target,
                "checkpoint": self.checkpoint,
                "suite": report.suite,
                "shots": report.shots,
                "protocol": table.protocol,
                "mean": asdict(table.mean),
                "mean_all": asdict(table.mean_all),
                "micro": asdict(table.micro),
                "mean_as_released": table.mean_as_released,
                "groups": {name: asdict(one) for name, one in table.groups.items()},
                "n": report.n,
                "partial": report.partial,
                "identity": dict(report.identity),
                "fingerprint": report.fingerprint,
                "document": report.document,
                "batching": report.batching,
                "sets": [asdict(one) for one in table.sets],
                "leaks": self.leaks,
                "stopped_at": self.stopped_at,
            }
            for table in report.tables
            if table.protocol in protocols
        ]
