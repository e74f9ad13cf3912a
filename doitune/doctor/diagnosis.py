"""Whether this machine can train: system, libraries, cards, backends, disks, the hub's settings and the
bases that are here, each with its cure.

Nothing heavy is imported: torch and the backends are asked in a process of their own (`doctor.ask`), so that
a library which crashes as it is imported is a finding, too. The network is asked only where the caller wants
it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from doitune import __version__
from doitune.base.known import list_bases
from doitune.doctor.cards import card_document, cards_check
from doitune.doctor.check import Check
from doitune.doctor.disks import disk_check, hub_cache
from doitune.doctor.engines import ask_engines, backend_checks, torch_checks
from doitune.doctor.hub import hub_check
from doitune.doctor.libraries import installed_libraries, library_checks
from doitune.doctor.machine import machine_check, this_machine
from doitune.doctor.wsl import wsl_check
from doitune.errors import DoituneError
from doitune.system.cards import installed_cards
from doitune.system.doing import doing
from doitune.system.secrets import redacted

VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
    *("BNB_CUDA_VERSION", "OMP_NUM_THREADS", "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
)
"""What a report of an error says of the environment: nothing else of it is read."""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the machine's facts as plain JSON."""

    checks: tuple[Check, ...]
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The worst state of all."""
        states = {one.state for one in self.checks}
        return next((state for state in ("problem", "warning") if state in states), "ok")

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that mend, each once, in order."""
        return tuple(dict.fromkeys(command for one in self.checks for command in one.commands))

    def to_json(self) -> dict[str, Any]:
        """The document of `doitune doctor --json`, to be shown to others: no secret, no path of a home."""
        document = {
            "schema": "doitune.doctor/1",
            "state": self.state,
            "checks": [asdict(one) for one in self.checks],
            "machine": dict(self.machine),
            "commands": list(self.commands),
        }
        return dict(_homeless(redacted(document), str(Path.home())))


def _homeless(value: Any, home: str) -> Any:
    """A document with `~` for the home of its user."""
    if isinstance(value, str):
        return value.replace(home, "~") if len(home) > 1 else value
    if isinstance(value, Mapping):
        return {key: _homeless(one, home) for key, one in value.items()}
    return [_homeless(one, home) for one in value] if isinstance(value, (list, tuple)) else value


def diagnose(runs: Path, *, network: bool = False) -> Diagnosis:
    """Look at this machine; `runs` is the folder that trainings would write to. `network`: also ask
    whether the hub answers."""
    doing("asking torch and the backends, in a process of their own")
    cards, asked, here = installed_cards(), ask_engines(), this_machine()
    doing("measuring the disk, asking the hub" if network else "measuring the disk")
    machine = {
        **asdict(here),
        "doitune": __version__,
        "variables": _variables(),
        "libraries": installed_libraries(),
        "cards": [card_document(one) for one in cards],
        "torch": asked.get("torch", {}),
        "backends": asked.get("backends", {}),
    }
    checks = [
        machine_check(here),
        *([wsl_check(here)] if here.wsl else []),
        *library_checks(),
        cards_check(cards),
        *torch_checks(asked, bool(cards), cards[0].driver if cards else ""),
        *backend_checks(asked, bool(cards)),
        disk_check("runs folder", runs),
        disk_check("hub cache", hub_cache(), proved=False),
        hub_check(network=network),
        _bases_check(),
    ]
    return Diagnosis(tuple(checks), machine)


def _variables() -> dict[str, str]:
    """What of VARIABLES is set; of an address its host alone."""
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if "HF_ENDPOINT" in found:
        found["HF_ENDPOINT"] = urlsplit(found["HF_ENDPOINT"]).hostname or "no address"
    return found


def _bases_check() -> Check:
    try:
        found = list_bases()
    except (DoituneError, OSError) as error:
        return Check("bases", "warning", f"the bases here cannot be listed: {error}", "`doitune base list`")
    whole = [one.name for one in found if one.state == "whole"]
    broken = [one for one in found if one.folder and one.state != "whole"]
    text = f"here: {', '.join(whole) or 'none'}"
    if broken:
        said = "; ".join(f"{one.name} is {one.state}" for one in broken)
        return Check(
            "bases", "warning", f"{text}; {said}", "get it again", tuple(one.get for one in broken if one.get)
        )
    return Check("bases", "ok", text)
