"""What the crash lab found, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from doitune.selftest.commands import Killed


@dataclass
class Report:
    """What the lab found. `steps_lost_beyond` counts steps that a resume made again beyond one checkpoint
    interval (here: one step)."""

    kills: int = 0
    kills_during_save: int = 0
    runs: int = 0
    processes: int = 0
    steps_lost_beyond: int = 0
    differing_bytes: int = 0
    corruptions: int = 0
    corruptions_found: int = 0
    sites: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    commands: list[Killed] = field(default_factory=list)
    seconds: float = 0.0
    filesystem: str = ""
    sha256: str = ""

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return (
            not (self.failures or self.steps_lost_beyond or self.differing_bytes)
            and self.corruptions_found == self.corruptions
        )

    def to_json(self) -> dict[str, Any]:
        """The document of `doitune selftest crash --json`."""
        return {
            "schema": "doitune.selftest.crash/1",
            "passed": self.passed,
            "kills": self.kills,
            "kills_during_save": self.kills_during_save,
            "runs": self.runs,
            "processes": self.processes,
            "failures": len(self.failures),
            "steps_lost_beyond_interval": self.steps_lost_beyond,
            "differing_bytes": self.differing_bytes,
            "corruptions": self.corruptions,
            "corruptions_found": self.corruptions_found,
            "sites": dict(sorted(self.sites.items())),
            "commands": {one.command: one.to_json() for one in self.commands},
            "seconds": round(self.seconds, 1),
            "filesystem": self.filesystem,
            "result_sha256": self.sha256,
            "first_failures": self.failures[:5],
        }
