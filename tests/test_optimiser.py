"""The rate of each step, and an optimiser whose state survives a stop byte for byte."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from doitune.backends.optimiser import build_optimiser, put_state, set_rate, take_state
from doitune.errors import CheckpointError
from doitune.prepare.schedule import rate_at
from doitune.recipe.fields import TrainSection


def section(**fields: Any) -> TrainSection:
    return TrainSection(**{"learning_rate": 1e-3, "end_rate": 1e-4, **fields})


def rates(total: int, **fields: Any) -> list[float]:
    return [rate_at(step, total, section(**fields)) for step in range(total)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial"])
@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_the_rate_starts_at_the_peak_and_ends_at_the_end_rate(schedule: str, warmup: int) -> None:
    """Trap: a schedule that counts a step too many and never reaches its ends."""
    found = rates(20, schedule=schedule, warmup_steps=warmup, polynomial_power=2.0)
    assert found[warmup] == pytest.approx(1e-3)
    assert found[-1] == pytest.approx(1e-4)
    assert max(found) == found[warmup]
    assert all(a > b for a, b in zip(found[warmup:], found[warmup + 1 :], strict=False))
    assert all(a < b for a, b in zip(found[:warmup], found[1 : warmup + 1], strict=True))
    assert found[0] > 0, "no step is made in vain"


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial"])
@pytest.mark.parametrize("warmup", [0, 3])
def test_no_step_is_spent_at_rate_0(schedule: str, warmup: int) -> None:
    """Where `end_rate` is 0 it is reached one step after the last, as transformers' own schedules have it
    (without a warm-up, where they begin at rate 0); a rate above 0 is that of the last step. Trap: a last
    step that moves nothing; an older run, which made it, resumed at other rates."""
    from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

    found = rates(10, schedule=schedule, warmup_steps=warmup, end_rate=0.0)
    assert len(found) == 10 and min(found) > 0
    older = rates(10, schedule=schedule, warmup_steps=warmup, end_rate=0.0, end_rate_at="last_step")
    assert older[-1] == 0 < older[-2]
    assert older[:-1] == rates(9, schedule=schedule, warmup_steps=warmup, end_rate=0.0)
    theirs = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}
    if schedule in theirs and not warmup:
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        scheduler, made = theirs[schedule](optimiser, 0, 10), []
        for _ in range(10):
            made.append(scheduler.get_last_lr()[0])
            optimiser.step()
            scheduler.step()
        assert found == pytest.approx(made)


def test_the_ways_between_the_ends() -> None:
    """Half-way values by hand: linear the middle, cosine the middle, a square a quarter."""
    middle = {
        name: rate_at(5, 11, section(schedule=name, polynomial_power=2.0))
        for name in ("linear", "cosine", "polynomial", "constant")
    }
    assert middle == pytest.approx(
        {"linear": 5.5e-4, "cosine": 5.5e-4, "polynomial": 1e-4 + 9e-4 / 4, "constant": 1e-3}
    )
    assert rate_at(2, 9, section(schedule="cosine")) == pytest.approx(
        1e-4 + 9e-4 * (1 + math.cos(math.pi / 4)) / 2
    )


def test_warm_up_grows_in_equal_parts_to_the_peak() -> None:
    assert rates(8, warmup_steps=3)[:4] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])


def test_a_constant_rate_stays() -> None:
    assert rates(5, schedule="constant") == [1e-3] * 5


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial", "constant"])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (2, 1), (1, 5), (3, 3)])
def test_very_short_runs_have_finite_rates(schedule: str, total: int, warmup: int) -> None:
    """Trap: a division by the zero steps left."""
    found = rates(total, schedule=schedule, warmup_steps=warmup)
    assert len(found) == total
    assert all(0 < rate <= 1e-3 for rate in found)


def _parameters(seed: int = 0) -> list[tuple[str, torch.nn.Parameter]]:
    """One tensor large enough for bitsandbytes to hold its state in 8 bits, one small."""
    torch.manual_seed(seed)
    return [
        ("a.large", torch.nn.Parameter(torch.randn(128, 64))),
        ("b.small", torch.nn.Parameter(torch.randn(7))),
    ]


def _advance(
    optimiser: torch.optim.Optimizer, parameters: list[tuple[str, torch.nn.Parameter]], steps: range
) -> None:
    for step in steps:
        torch.manual_seed(step)
        for _, parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        set_rate(optimiser, 1e-2 / (step + 1))
        optimiser.step()


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "paged_adamw_8bit"])
def test_a_stored_state_goes_on_byte_for_byte(name: str) -> None:
    """Trap: moments, counters or 8-bit scales that a checkpoint forgets."""
    train, cpu = section(optimizer=name, weight_decay=0.1), torch.device("cpu")
    through = _parameters()
    first = build_optimiser(through, train, cpu)
    _advance(first, through, range(3))
    tensors, numbers = take_state(first, through)
    assert {key.split("/")[0] for key in tensors} == {"a.large", "b.small"}
    assert any(tensor.dtype == torch.uint8 for tensor in tensors.values()) == (name != "adamw")
    held = [parameter.detach().clone() for _, parameter in through]
    _advance(first, through, range(3, 6))

    again = [(name_, torch.nn.Parameter(value)) for (name_, _), value in zip(through, held, strict=True)]
    second = build_optimiser(again, train, cpu)
    put_state(second, again, tensors, numbers)
    _advance(second, again, range(3, 6))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(through, again, strict=True))


def test_a_taken_state_is_a_copy() -> None:
    """Trap: a checkpoint that goes on learning while it is written."""
    parameters = _parameters()
    optimiser = build_optimiser(parameters, section(optimizer="adamw"), torch.device("cpu"))
    _advance(optimiser, parameters, range(1))
    tensors, numbers = take_state(optimiser, parameters)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    put_state(optimiser, parameters, tensors, numbers)
    _advance(optimiser, parameters, range(1, 3))
    assert before and all(torch.equal(before[name], tensor) for name, tensor in tensors.items())


def test_a_state_of_other_parameters_is_refused() -> None:
    parameters = _parameters()
    optimiser = build_optimiser(parameters, section(optimizer="adamw"), torch.device("cpu"))
    _advance(optimiser, parameters, range(1))
    tensors, numbers = take_state(optimiser, parameters)
    fresh = build_optimiser(parameters[:1], section(optimizer="adamw"), torch.device("cpu"))
    with pytest.raises(CheckpointError, match=r"other parameters, first b\.small"):
        put_state(fresh, parameters[:1], tensors, numbers)
    only = {name: tensor for name, tensor in tensors.items() if name.startswith("a.")}
    with pytest.raises(CheckpointError, match=r"nothing for b\.small"):
        put_state(build_optimiser(parameters, section(), torch.device("cpu")), parameters, only, {})


def test_the_recipe_reaches_the_optimiser() -> None:
    """Trap: beta2 or weight decay written and not used."""
    for name in ("adamw", "adamw_8bit"):
        train = section(optimizer=name, beta1=0.8, beta2=0.95, eps=1e-6, weight_decay=0.3)
        group = build_optimiser(_parameters(), train, torch.device("cpu")).param_groups[0]
        assert (tuple(group["betas"]), group["eps"], group["weight_decay"], group["lr"]) == (
            (0.8, 0.95),
            1e-6,
            0.3,
            1e-3,
        )


class Operations(TorchDispatchMode):
    """While it is on, counts operations that launch something."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aside = ("detach", "_local_scalar_dense")  # of step counters, which lie in main memory
        if not (func.is_view or func._schema.name.removeprefix("aten::") in aside):
            self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def operations_of_a_steps_end(optimizer: str, tensors: int) -> tuple[int, int]:
    """Of clipping, and of an optimiser's second step."""
    weights = [(f"{place:03}", torch.nn.Parameter(torch.randn(70, 70))) for place in range(tensors)]
    optimiser = build_optimiser(weights, section(optimizer=optimizer), torch.device("cpu"))
    for group in optimiser.param_groups:
        group["foreach"] = True  # torch's own choice on CUDA
    for _ in range(2):
        for _, weight in weights:
            weight.grad = torch.randn_like(weight)
        with Operations() as clipping:
            torch.nn.utils.clip_grad_norm_([weight for _, weight in weights], 1.0)
        with Operations() as stepping:
            optimiser.step()
    return len(clipping.names), len(stepping.names)


def test_a_steps_end_is_few_operations_whatever_the_tensors() -> None:
    """33b has 840 adapter matrices. Clipping and AdamW take them all at once; bitsandbytes launches one kernel for each,
    a few milliseconds of a step of many seconds. Trap: a loop over tensors."""
    few, many = (operations_of_a_steps_end("adamw", tensors) for tensors in (3, 60))
    print(f"\nclipping: {many[0]} operations, AdamW: {many[1]}")
    assert few == many and 2 < many[0] <= 8 and 5 < many[1] <= 12
    clipping, stepping = operations_of_a_steps_end("adamw_8bit", 60)
    assert clipping == many[0] and 60 <= stepping <= 62  # beside its tables
