"""A family of runs as its report needs it: what it measured, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from doitune.base.fetch import cached_folder
from doitune.errors import DoituneError
from doitune.growth.fit.conclude import Conclusions, conclude
from doitune.growth.folder import read_growth
from doitune.growth.measured import Growth, Split
from doitune.memory.shape import find_shape
from doitune.recipe.typed import read_recipe
from doitune.recipe.yaml_text import read_bytes
from doitune.report.growth.confirmed import Confirmed, confirmed, trying
from doitune.run.layout import RECIPE
from doitune.system.doing import doing
from doitune.system.paths import from_home

FIGURES = "figures"
"""In a growth's directory: the folder of the figures beside its page."""


@dataclass(frozen=True)
class GrowthView:
    """What a report shows. `parameters`: by model, how many weights it has, of those that are on this
    machine."""

    growth: Growth
    found: Conclusions
    parameters: Mapping[str, int]
    confirmed: tuple[Confirmed, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """The models of finished runs, in their order."""
        return tuple(dict.fromkeys(one.member.model for one in self.growth.members))

    @property
    def sets(self) -> tuple[str, ...]:
        """The abilities, then the sets out of the domain."""
        return (*self.growth.abilities, *self.growth.out_of_domain)

    def title(self, name: str) -> str:
        """What a set is called."""
        return self.growth.titles.get(name, name)


def view(folder: Path) -> GrowthView:
    """All that a growth's directory says so far. Errors: CheckpointError for a damaged one."""
    doing("reading the runs of the growth")
    growth = read_growth(folder)
    return of_growth(growth, _parameters(folder, growth))


def view_beside(folder: Path, runs: Path, advice: Path | None = None) -> GrowthView:
    """`view` with the families that confirm its advice (`confirmed.confirmed`); what is no `advice` is
    refused before any curve is fitted."""
    asked = trying(folder, advice) if advice else ()
    seen = view(folder)
    return replace(seen, confirmed=confirmed(folder, seen.growth, runs, asked))


def of_growth(growth: Growth, parameters: Mapping[str, int] | None = None) -> GrowthView:
    """The conclusions from what was measured: on test where any run was asked it, else on valid."""
    split: Split = "test" if any("test" in one.scores for one in growth.members) else "valid"
    doing(f"fitting the curves of {len(growth.abilities)} abilities")
    counted = parameters or {}
    return GrowthView(growth, conclude(growth, split, counted), counted)


def _parameters(folder: Path, growth: Growth) -> dict[str, int]:
    """Weights of each model, where there are several to tell apart."""
    first = {one.member.model: one.member.name for one in reversed(growth.members)}
    if len(first) < 2:
        return {}
    counts = {model: _weights(folder / member / RECIPE) for model, member in first.items()}
    return {model: count for model, count in counts.items() if count}


def _weights(recipe: Path) -> int:
    """How many weights the model of a run has; 0 where this machine does not know. Nothing is fetched."""
    try:
        section = read_recipe(read_bytes(recipe.read_bytes(), str(recipe)), str(recipe)).model
        known = section.name == "demo" or section.architecture.hidden is not None
        if known or from_home(section.name).is_dir() or cached_folder(section.name, section.revision):
            return find_shape(section).architecture.parameters
    except (DoituneError, OSError):
        pass
    return 0
