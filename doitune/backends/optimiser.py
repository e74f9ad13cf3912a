"""The optimiser, and its state as named tensors and numbers.

Optimisers are torch's and bitsandbytes'. The learning rate of a step is given from outside
(`prepare/schedule.py`): it is a function of the step alone, so that there is no schedule state to save.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from doitune.errors import CheckpointError, FitError

if TYPE_CHECKING:
    import torch

    from doitune.recipe.fields import TrainSection


def build_optimiser(
    parameters: list[tuple[str, torch.nn.Parameter]], section: TrainSection, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW as the recipe asks, over named parameters; `device` is theirs. paged_adamw_8bit is paged on CUDA
    alone. FitError where bitsandbytes cannot be loaded."""
    import torch

    tensors = [parameter for _, parameter in parameters]
    options: dict[str, Any] = {
        "lr": section.learning_rate,
        "betas": (section.beta1, section.beta2),
        "eps": section.eps,
        "weight_decay": section.weight_decay,
    }
    if section.optimizer == "adamw":
        return torch.optim.AdamW(tensors, **options)
    try:
        import bitsandbytes.optim as optim
    except (ImportError, RuntimeError) as error:
        raise FitError(
            f"bitsandbytes cannot be loaded: {error}", "use --set train.optimizer=adamw"
        ) from error
    if section.optimizer == "paged_adamw_8bit" and device.type == "cuda":
        return optim.PagedAdamW8bit(tensors, **options)
    return optim.AdamW8bit(tensors, **options)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let the next step take this learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def take_state(
    optimiser: torch.optim.Optimizer, parameters: list[tuple[str, torch.nn.Parameter]]
) -> tuple[dict[str, torch.Tensor], dict[str, int | float]]:
    """The optimiser's state as tensors and numbers, each named `<parameter>/<key>`; nothing before the first
    step. Tensors are copies, on the CPU."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, int | float] = {}
    for name, parameter in parameters:
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous().clone()
            elif isinstance(value, (int, float)):
                numbers[f"{name}/{key}"] = value
            else:
                raise TypeError(f"optimiser state {key} is a {type(value).__name__}")
    return tensors, numbers


def put_state(
    optimiser: torch.optim.Optimizer,
    parameters: list[tuple[str, torch.nn.Parameter]],
    tensors: dict[str, torch.Tensor],
    numbers: dict[str, int | float],
) -> None:
    """Give the optimiser the state that `take_state` took. CheckpointError where the state is of a parameter
    that is not here, or lacks one that is."""
    stored: dict[str, list[str]] = {}
    for full in sorted({*tensors, *numbers}):
        name, key = full.rsplit("/", 1)
        stored.setdefault(name, []).append(key)
    names = {name for name, _ in parameters}
    foreign, lacking = sorted(set(stored) - names), sorted(names - set(stored))
    if foreign:
        raise CheckpointError(
            f"the stored optimiser state is of other parameters, first {foreign[0]}",
            "it is of another recipe",
        )
    if stored and lacking:
        raise CheckpointError(
            f"the stored optimiser state has nothing for {lacking[0]}",
            "it is of another recipe or library version",
        )
    for name, parameter in parameters:
        state = optimiser.state[parameter]
        for key in stored.get(name, ()):
            on_cpu = key == "step"  # torch keeps its step counter on the CPU
            value = tensors.get(f"{name}/{key}")
            if value is None:
                state[key] = numbers[f"{name}/{key}"]
            else:
                state[key] = value.clone() if on_cpu else value.to(parameter.device, copy=True)
