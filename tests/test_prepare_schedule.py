"""Which examples each step learns from."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from doitune.prepare.schedule import Course
from doitune.recipe.resolve import resolve


@pytest.mark.parametrize(("examples", "size"), [(1, 7), (7, 7), (8, 7), (200, 7), (65, 64)])
def test_the_steps_of_each_epoch_part_its_order_by_digest(examples: int, size: int) -> None:
    """Each epoch sees every example once, in the order of sha256 of seed, epoch and id; only its last step
    may be smaller. Trap: steps that run on across epochs, or an order kept from another epoch."""
    section = resolve("own", model="demo", corpus="demo").recipe.train
    section = section.model_copy(update={"examples_per_step": size, "seed": 3})
    names = [f"rows#{number}" for number in range(examples)]
    course = Course(np.array([name.encode() for name in names]), section)
    for epoch in (0, 1, 0):
        steps = range(epoch * course.steps_per_epoch, (epoch + 1) * course.steps_per_epoch)
        taken = [course.members(step) for step in steps]
        assert all(len(some) == size for some in taken[:-1]) and 1 <= len(taken[-1]) <= size
        seen = [names[place] for some in taken for place in some]
        assert seen == sorted(names, key=lambda name: sha256(f"3\x1f{epoch}\x1f{name}".encode()).digest())
