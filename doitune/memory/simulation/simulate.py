"""What a training step needs, from the model's real code: a step under fake tensors, every byte counted,
nothing allocated.

hf: transformers' model for the config, bitsandbytes' 4-bit layers, peft's LoRA, this project's loss and
optimiser, as `hf.load` puts them together. unsloth: `unsloth_block`, a model of that engine's block (its own
code needs a card). Both run with a few layers and are extended to the wanted depth, phase by phase: each
phase's peak grows by the same amount with every layer. Sizes are those of a card in bf16; what a card adds on
top (its context, the allocator's fragments, buffers inside cuBLAS and attention kernels) is not a tensor and
not in here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from doitune.backends.refusals import first_line, refusals
from doitune.base.architecture import Architecture, config_of
from doitune.base.families import names_of, stated
from doitune.errors import ModelError, UsageError
from doitune.memory.simulation.case import Case, Simulation
from doitune.memory.simulation.fake_model import blocks, hf_model, lean_model, meta_model
from doitune.memory.simulation.live_bytes import FakeLiveBytes
from doitune.memory.simulation.step import Run, later_step

SHALLOW, DEEP = 3, 4
"""Depths that are run; the rest is a straight line through both: with three layers, top, middle and bottom
are three."""


def simulate_config(config: Mapping[str, Any], place: str, case: Case) -> Simulation:
    """A step of any model that transformers builds from a config.json (as read from `place`), on the hf
    backend. Errors: ModelError, UsageError."""
    if case.backend != "hf":
        raise UsageError(
            f"a config of any kind is simulated on the hf backend, not on {case.backend}",
            "use the hf backend",
        )
    config = {name: value for name, value in config.items() if name != "quantization_config"}
    depth = stated(config, "layers")
    if not isinstance(depth, int) or case.whole or not _is_uniform(config, place):
        return _extended({0: _hf_run(config, place, case)}, 0)
    return _at_depth(depth, lambda layers: _hf_run(_shortened(config, depth, layers), place, case))


def count_weights(config: Mapping[str, Any], place: str) -> tuple[int, int]:
    """Weights of a model that transformers builds from a config.json, and those of its largest matrix.
    Errors: ModelError."""
    sizes = [
        one.numel()
        for one in meta_model({**config, "quantization_config": None}, place, torch.bfloat16).parameters()
    ]
    return sum(sizes), max(sizes)


def simulate_case(architecture: Architecture, case: Case) -> Simulation:
    """A step of a gated decoder on either backend. Errors: ModelError; UsageError for what the model of
    Unsloth's engine does not do."""
    if case.backend == "hf":
        return simulate_config(config_of(architecture), architecture.model_type, case)
    plain = {
        "lora.targets": not case.targets,
        "dropout": not case.dropout,
        "quantise none": case.quantise == "nf4",
    }
    plain["gradient_checkpointing never"] = case.gradient_checkpointing
    unlike = [name for name, is_plain in plain.items() if not is_plain]
    if unlike:
        raise UsageError(
            f"the model of Unsloth's engine is simulated without {', '.join(unlike)}",
            "--backend hf, or leave --simulate out",
        )
    if case.whole:
        return _extended({0: _lean_run(architecture, case)}, 0)
    return _at_depth(
        architecture.layers, lambda layers: _lean_run(replace(architecture, layers=layers), case)
    )


def _hf_run(config: Mapping[str, Any], place: str, case: Case) -> Run:
    fake, live = FakeTensorMode(), FakeLiveBytes()
    kind = repr(config.get("model_type"))
    try:
        return later_step(hf_model(config, place, case, fake, live), case, fake, live)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise ModelError(
            f"{place}: the shapes in a {kind} model depend on the values in it ({error})",
            "it cannot be simulated; `doitune plan` without --simulate may know it",
        ) from error
    except refusals() as error:  # its sizes do not go together, or its code wants more than token ids
        raise ModelError(
            f"{place}: the code of a {kind} model does not run with these sizes: {first_line(error)[:160]}",
            "copy the model's config.json again; models of more than text cannot be simulated",
        ) from error


def _lean_run(architecture: Architecture, case: Case) -> Run:
    fake, live = FakeTensorMode(), FakeLiveBytes()
    return later_step(lean_model(architecture, case, fake, live), case, fake, live)


def _at_depth(layers: int, run: Callable[[int], Run]) -> Simulation:
    if layers <= DEEP:
        return _extended({0: run(layers)}, 0)
    return _extended({depth: run(depth) for depth in (SHALLOW, DEEP)}, layers)


def _extended(runs: dict[int, Run], layers: int) -> Simulation:
    """The figures at `layers`, on the line through two runs; of a single run as they are."""
    first, *_, last = (*runs.values(), *runs.values())

    def line(shallow: int, deep: int) -> int:
        return (
            shallow if first is last else shallow + (deep - shallow) * (layers - SHALLOW) // (DEEP - SHALLOW)
        )

    phases = {
        name: line(first.phases[name], last.phases[name]) for name in last.phases if name in first.phases
    }
    return Simulation(
        peak_bytes=max(phases.values()),
        static_bytes=line(first.static, last.static),
        gradient_bytes=line(first.gradients, last.gradients),
        terms={name: line(first.terms[name], last.terms[name]) for name in last.terms},
        phases=phases,
        depths=tuple(run.layers for run in runs.values()),
    )


def _shortened(config: Mapping[str, Any], depth: int, layers: int) -> dict[str, Any]:
    """The config with fewer layers; lists of a value for each layer are cut."""
    name = names_of(str(config.get("model_type", ""))).layers
    inner = config.get("text_config")
    if name not in config and isinstance(inner, Mapping):  # a model of more than text
        return {**config, "text_config": _shortened(inner, depth, layers)}
    cut = {
        name: value[:layers]
        for name, value in config.items()
        if isinstance(value, list) and len(value) == depth
    }
    return {**config, **cut, name: layers}


def _is_uniform(config: Mapping[str, Any], place: str) -> bool:
    """Whether all layers are alike: the same weights in each, and one kind of attention."""
    decoder = meta_model(config, place, torch.bfloat16).get_decoder()
    layers = blocks(decoder)
    shapes = {
        tuple((name, tuple(tensor.shape)) for name, tensor in layer.named_parameters()) for layer in layers
    }
    return len(shapes) == 1 and len(set(getattr(decoder.config, "layer_types", None) or ("all",))) == 1
