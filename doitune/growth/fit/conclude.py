"""All that a growth says, in one noun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from doitune.growth.fit.claim import Claim, explained, foretold
from doitune.growth.fit.curves import Curve, Size, Versus, curve, sizes, versus
from doitune.growth.fit.fits import fit_all, settings
from doitune.growth.fit.groups import Grouped, groups
from doitune.growth.fit.partners import Partners, partners
from doitune.growth.fit.traits import Traits, traits
from doitune.growth.measured import Growth, Split


@dataclass(frozen=True)
class Conclusions:
    """What the scores of one split say.

    `curves`: by setting (model, construction), by ability; `out_of_domain`: the same of sets that no rows
    teach; `sizes`: empty unless models of several sizes were measured; `versus`: curated against synthetic
    where both were; `traits`: by model, by ability; `partners`: by model with single-source runs.
    """

    growth: str
    split: Split
    curves: tuple[Curve, ...]
    out_of_domain: tuple[Curve, ...]
    sizes: tuple[Size, ...]
    versus: tuple[Versus, ...]
    groups: tuple[Grouped, ...]
    traits: tuple[Traits, ...]
    partners: tuple[Partners, ...]
    claim: Claim


def conclude(
    growth: Growth, split: Split = "test", parameters: Mapping[str, float] | None = None
) -> Conclusions:
    """All conclusions from a growth's scores on a split; seconds for ten abilities and 24 runs, and the same
    every time. `parameters`: by model, how many it has; without them no size has a sensitivity."""
    fits = fit_all(growth, split)
    counted = parameters or {}
    drawn = tuple(curve(growth, fit, split) for fit in fits)
    within = tuple(one for one in drawn if one.in_domain)
    known_sizes, known_traits = sizes(growth, fits, counted), traits(growth, fits, split)
    curated = [setting for setting in settings(growth) if setting.construction == "curated"]
    found = (partners(growth, setting, split) for setting in curated)
    pilot = tuple(one for setting in curated for one in foretold(growth, setting, split))
    return Conclusions(
        growth=growth.name,
        split=split,
        curves=within,
        out_of_domain=tuple(one for one in drawn if not one.in_domain),
        sizes=known_sizes,
        versus=versus(growth, fits),
        groups=groups(growth, fits, counted),
        traits=known_traits,
        partners=tuple(one for one in found if one),
        claim=Claim(explained(within, known_sizes, known_traits), pilot),
    )
