"""The closed form beside the simulation: where they differ, it is said, and which to trust."""

from __future__ import annotations

import pytest

from doitune.memory.simulation.compare import Comparison
from doitune.system.units import GIB


def comparison(form: float, real: float, backend: str) -> Comparison:
    rows = tuple((name, form * GIB, real * GIB) for name in ("static", "gradients", "working", "peak"))
    return Comparison("a step", rows, backend, 1.0 + real, 22.5)


@pytest.mark.parametrize(
    ("form", "real", "backend", "trust", "said"),
    [
        (10.0, 10.4, "hf", "simulation", ""),
        (14.0, 10.0, "hf", "simulation", "+40 % from the simulated step, which is too far: trust the simulation, by which it fits"),
        (14.0, 23.0, "hf", "simulation", "does not fit (24.0 GiB"),
        (14.0, 10.0, "unsloth", "closed form", "trust the closed form"),
        (10.0, 14.0, "unsloth", "simulation", "trust the simulation"),
    ],
)  # fmt: skip
def test_beyond_5_percent_it_is_said_which_to_trust(
    form: float, real: float, backend: str, trust: str, said: str
) -> None:
    """Trap: figures 40 % apart in a table, without a word, and a verdict by the wrong one."""
    found = comparison(form, real, backend)
    document = found.to_json()
    assert document["trust"] == trust and document["agrees"] == (said == "")
    assert said in found.warning and bool(found.warning) == bool(said)
