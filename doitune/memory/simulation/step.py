"""An optimiser step of a model under fake tensors, every byte counted: any but a run's first, in which the
optimiser has no state yet."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from doitune.backends.four_bits import state_bytes
from doitune.backends.optimiser import build_optimiser
from doitune.memory.simulation.case import Case
from doitune.memory.simulation.fake_model import FakeModel
from doitune.memory.simulation.live_bytes import LiveBytes
from doitune.prompt.batch import Batch
from doitune.recipe.fields import TrainSection


@dataclass(frozen=True)
class Run:
    """The figures of one run at one depth."""

    static: int
    gradients: int
    terms: dict[str, int]
    phases: dict[str, int]
    layers: int


def later_step(model: FakeModel, case: Case, fake: FakeTensorMode, live: LiveBytes) -> Run:
    """A step's last micro-batch and its update, with what the steps and micro-batches before leave: the
    optimiser's state, and gradients."""
    parameters = model.engine.trainable()
    optimiser = build_optimiser(parameters, TrainSection(optimizer=case.optimizer), torch.device("cpu"))  # type: ignore[arg-type]
    gc.collect()  # what building the model left
    with fake, live:
        if hasattr(optimiser, "name2qmap"):  # bitsandbytes' tables are real tensors; a step wants fake ones
            optimiser.name2qmap = {name: torch.empty(256) for name in optimiser.name2qmap}
        elif case.compute_dtype != "fp32":
            for group in optimiser.param_groups:
                group["foreach"] = True  # torch's own choice on CUDA
        ids = torch.zeros(1, case.tokens, dtype=torch.long)
        batch = Batch(ids, ids.clone(), (case.tokens,), (0,), packed=False)
        for _, one in parameters:
            one.grad = torch.zeros_like(one)
        optimiser.step()
        if case.micro_batches == 1:
            optimiser.zero_grad()
        live.tally.restart("forward")
        model.engine.loss(batch, case.tokens).value.backward()
        live.tally.enter("step")
        gradients = sum(one.grad.nbytes for _, one in parameters if one.grad is not None)
        torch.nn.utils.clip_grad_norm_([one for _, one in parameters], 1.0)
        optimiser.step()
        for _, one in parameters:
            one.grad = None
    terms = _terms(model, parameters, optimiser)
    static = live.tally.now - sum(buffer.nbytes for buffer in model.buffers())
    return Run(
        static,
        gradients,
        {**terms, "other": static - sum(terms.values())},
        dict(live.tally.peaks),
        model.layers,
    )


def _terms(
    model: FakeModel, parameters: list[tuple[str, torch.nn.Parameter]], optimiser: torch.optim.Optimizer
) -> dict[str, int]:
    """Bytes that lie there between steps, by what they are; "other" is rotary tables and the batch."""
    trained = {id(one) for _, one in parameters}
    terms = {"linear layers": 0, "embedding and head": 0, "norms": 0}
    ends = {id(weight) for weight in model.ends}
    seen: set[int] = set()
    for module in model.model.modules():
        for parameter in module._parameters.values():
            if parameter is None or id(parameter) in trained | seen:
                continue
            seen.add(id(parameter))
            kind = (
                "embedding and head"
                if id(parameter) in ends
                else "linear layers"
                if isinstance(module, torch.nn.Linear)
                else "norms"
            )
            terms[kind] += parameter.nbytes + state_bytes(parameter)
    terms["adapter"] = sum(one.nbytes for _, one in parameters)
    states = {
        id(value): value
        for state in optimiser.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    }
    terms["optimiser"] = sum(value.nbytes for value in states.values())
    return terms
