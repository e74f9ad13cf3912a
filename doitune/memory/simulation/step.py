"""What a training step needs, from the model's real code: a second step under fake tensors, every byte
counted, nothing allocated.

hf: transformers' model for the config, bitsandbytes' 4-bit layers, peft's LoRA, this project's loss and
optimiser, as `hf.load` puts them together. unsloth: `lean`, a model of that engine's block (its own code
needs a card). Both run with a few layers and are extended to the wanted depth, phase by phase: each phase's
peak grows by the same amount with every layer. Sizes are those of a card in bf16; what a card adds on top
(its context, the allocator's fragments, buffers inside cuBLAS and attention kernels) is not a tensor and not
in here.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from peft import get_peft_model
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from doitune.backends import documents, hf
from doitune.backends.four_bits import nf4_weight, state_bytes
from doitune.backends.loaded import LoadRequest
from doitune.backends.optimiser import build_optimiser
from doitune.base.architecture import Architecture, config_of
from doitune.base.families import names_of
from doitune.base.folder import Base
from doitune.errors import ModelError, UsageError
from doitune.memory.simulation import unsloth_block
from doitune.memory.simulation.live_bytes import FakeLiveBytes, LiveBytes, layer_phases
from doitune.prompt.batch import Batch
from doitune.recipe.fields import TrainSection

NAME = "doitune_simulated"
SHALLOW, DEEP = 3, 4
"""Depths that are run; the rest is a straight line through both: with three layers, top, middle and bottom
are three."""


@dataclass(frozen=True)
class Case:
    """What is simulated: one padded row of `tokens`, all of them trained, twice in a step (the second row
    finds the first one's gradients).

    `compute_dtype`: bf16 or fp16 as on a card, fp32 as on a CPU. `whole`: run every layer. `targets`,
    `dropout` as in LoadRequest.
    """

    rank: int
    tokens: int
    backend: str = "hf"
    quantise: str = "nf4"
    optimizer: str = "adamw_8bit"
    compute_dtype: str = "bf16"
    gradient_checkpointing: bool = True
    targets: tuple[str, ...] = ()
    dropout: float = 0.0
    micro_batches: int = 2
    whole: bool = False


@dataclass(frozen=True)
class Simulation:
    """Bytes of the second optimiser step (in the first the optimiser has no state yet).

    `peak_bytes`: the most alive at once. `static_bytes`: alive between two steps, but for an engine's
    buffers; `terms` says of what. `gradient_bytes`: the adapter's gradients, in the peak and not in
    `static_bytes`. `phases`: the most alive in each phase of a step. `depths`: how many layers were run.
    """

    peak_bytes: int
    static_bytes: int
    gradient_bytes: int
    terms: Mapping[str, int]
    phases: Mapping[str, int]
    depths: tuple[int, ...]

    @property
    def model_part_bytes(self) -> int:
        """The peak as the memory plan names it: all but context and fragmentation."""
        return self.peak_bytes

    @property
    def working_bytes(self) -> int:
        """What the peak holds besides weights, adapter, optimiser state and gradients: activations and
        buffers."""
        return self.peak_bytes - self.static_bytes - self.gradient_bytes

    @property
    def peak_phase(self) -> str:
        """The phase of the peak."""
        return max(self.phases, key=lambda name: self.phases[name])


def simulate(
    architecture: Architecture,
    *,
    rank: int,
    tokens: int,
    backend: str = "hf",
    quantise: str = "nf4",
    optimizer: str = "adamw_8bit",
    vocabulary_rows: int | None = None,
    layers: int | None = None,
) -> Simulation:
    """A step on a card with `tokens` in a micro-batch. `vocabulary_rows` and `layers` stand for the
    architecture's own. Errors: ModelError."""
    sized = replace(
        architecture,
        vocabulary=vocabulary_rows or architecture.vocabulary,
        layers=layers or architecture.layers,
    )
    return simulate_case(sized, Case(rank, tokens, backend, quantise, optimizer))


def simulate_config(config: Mapping[str, Any], place: str, case: Case) -> Simulation:
    """A step of any model that transformers builds from a config.json (as read from `place`), on the hf
    backend. Errors: ModelError, UsageError."""
    if case.backend != "hf":
        raise UsageError(
            f"a config of any kind is simulated on the hf backend, not on {case.backend}",
            "use the hf backend",
        )
    config = {name: value for name, value in config.items() if name != "quantization_config"}
    depth = config.get(names_of(str(config.get("model_type", ""))).layers)
    if not isinstance(depth, int) or case.whole or not _is_uniform(config, place):
        return _extended({0: _hf_run(config, place, case)}, 0)
    return _at_depth(depth, lambda layers: _hf_run(_shortened(config, depth, layers), place, case))


def count_weights(config: Mapping[str, Any], place: str) -> tuple[int, int]:
    """Weights of a model that transformers builds from a config.json, and those of its largest matrix.
    Errors: ModelError."""
    sizes = [
        one.numel()
        for one in _meta_model({**config, "quantization_config": None}, place, torch.bfloat16).parameters()
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


@dataclass(frozen=True)
class _Run:
    """The figures of one run at one depth."""

    static: int
    gradients: int
    terms: dict[str, int]
    phases: dict[str, int]
    layers: int


def _at_depth(layers: int, run: Callable[[int], _Run]) -> Simulation:
    if layers <= DEEP:
        return _extended({0: run(layers)}, 0)
    return _extended({depth: run(depth) for depth in (SHALLOW, DEEP)}, layers)


def _extended(runs: dict[int, _Run], layers: int) -> Simulation:
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
    cut = {
        name: value[:layers]
        for name, value in config.items()
        if isinstance(value, list) and len(value) == depth
    }
    names = names_of(str(config.get("model_type", "")))
    return {**config, **cut, names.layers: layers}


def _is_uniform(config: Mapping[str, Any], place: str) -> bool:
    """Whether all layers are alike: the same weights in each, and one kind of attention."""
    decoder = _meta_model(config, place, torch.bfloat16).get_decoder()
    layers = _layers(decoder)
    shapes = {
        tuple((name, tuple(tensor.shape)) for name, tensor in layer.named_parameters()) for layer in layers
    }
    return len(shapes) == 1 and len(set(getattr(decoder.config, "layer_types", None) or ("all",))) == 1


def _layers(decoder: Any) -> list[torch.nn.Module]:
    """The decoder's blocks in order; empty where it has no list of `num_hidden_layers` modules."""
    depth = getattr(decoder.config, "num_hidden_layers", 0)
    found = [
        module
        for module in decoder.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    return list(found[0]) if found else []


def _meta_model(config: Mapping[str, Any], place: str, dtype: torch.dtype) -> Any:
    """The model without storage."""
    try:
        built = AutoConfig.for_model(**config)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(built, dtype=dtype, attn_implementation=_register())
    except hf.REFUSALS as error:
        reason = (
            "it chooses its attention by a table of its own"
            if NAME in str(error)
            else hf.first_line(error)[:160]
        )
        problem = f"{place}: transformers cannot build a {config.get('model_type')!r} model from this config: {reason}"
        raise ModelError(
            problem,
            "copy the model's config.json again; models that bring their own code cannot be simulated",
        ) from error


def _register() -> str:
    """The hf backend's attention without a mask maker: transformers would build a T x T mask, since fake
    positions cannot say that a row is one document; a real batch gets none."""
    AttentionInterface.register(NAME, documents.attend)
    return NAME


def _hf_run(config: Mapping[str, Any], place: str, case: Case) -> _Run:
    """The hf backend's model, put together as `hf.load` does it, through two steps."""
    dtype = hf.DTYPES[case.compute_dtype]
    model = _meta_model(config, place, dtype)
    if case.quantise == "nf4":
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        model = replace_with_bnb_linear(model, get_keys_to_not_convert(model), quantised)
        model.is_loaded_in_4bit = True  # peft asks the model before it asks the layer
    request = LoadRequest(Base(place, Path(), ""), rank=case.rank, targets=case.targets, dropout=case.dropout)
    hf.settle(model, request, None)
    try:
        adapted = get_peft_model(model, hf._lora(request, model))
    except hf.REFUSALS as error:
        raise ModelError(
            f"{place}: peft cannot adapt this model: {hf.first_line(error)[:160]}",
            "name other layers (lora.targets)",
        ) from error
    hf.train_adapter(adapted, None)
    if case.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    fake, live = FakeTensorMode(), FakeLiveBytes()
    with fake, live:
        _give_storage(adapted, dtype)
    try:
        loaded = hf.HfModel(place, adapted, None, torch.device("cpu"), None)
        loaded.training(True)
        layers = _layers(loaded.decoder)
        _name_phases(loaded.decoder, layers, live)
        ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
        return _two_steps(_Held(loaded, model, ends, len(layers)), case, fake, live)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        problem = f"{place}: the shapes in a {config.get('model_type')!r} model depend on the values in it ({error})"
        raise ModelError(
            problem, "it cannot be simulated; `doitune plan` without --simulate may know it"
        ) from error
    except hf.REFUSALS as error:  # its sizes do not go together, or its code wants more than token ids
        problem = f"{place}: the code of a {config.get('model_type')!r} model does not run with these sizes: {hf.first_line(error)[:160]}"
        raise ModelError(
            problem, "copy the model's config.json again; models of more than text cannot be simulated"
        ) from error


def _lean_run(architecture: Architecture, case: Case) -> _Run:
    """The model of Unsloth's engine through two steps."""
    dtype = hf.DTYPES[case.compute_dtype]
    with torch.device("meta"):
        model = unsloth_block.LeanModel(architecture, case.rank, dtype)
    fake, live = FakeTensorMode(), FakeLiveBytes()
    with fake, live:
        _give_storage(model, dtype)
    model.head = model.embedding if architecture.tied else model.head
    model.work.live = live
    held = _Held(model, model, (model.embedding, model.head), architecture.layers, model.work.buffers)
    return _two_steps(held, case, fake, live)


def _give_storage(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Fake storage for every tensor of a model on the meta device; 4-bit layers get what bitsandbytes
    makes of them."""
    given: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if isinstance(module, (Linear4bit, unsloth_block.Adapted)) and name == "weight":
                given[id(parameter)] = nf4_weight(module, dtype)
            elif isinstance(module, Linear4bit):
                given[id(parameter)] = _parameter(torch.empty(parameter.shape, dtype=dtype))
            elif id(parameter) not in given:
                given[id(parameter)] = _parameter(
                    torch.empty(parameter.shape, dtype=parameter.dtype), parameter.requires_grad
                )
            module._parameters[name] = given[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _parameter(tensor: torch.Tensor, requires_grad: bool = False) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=requires_grad)


def _name_phases(decoder: torch.nn.Module, layers: list[torch.nn.Module], live: LiveBytes) -> None:
    """forward, loss, then the layers whose forward pass runs again in the backward pass."""
    backward = False

    def begin(*_: Any) -> None:
        nonlocal backward
        backward = False
        live.enter("forward")

    def end(*_: Any) -> None:
        nonlocal backward
        backward = True
        live.enter("loss")

    def at_layer(names: tuple[str, ...]) -> Callable[..., None]:
        return lambda *_: live.enter(*names) if backward else None

    decoder.register_forward_pre_hook(begin)
    decoder.register_forward_hook(end)
    for place, layer in enumerate(layers):
        layer.register_forward_pre_hook(at_layer(layer_phases(place, len(layers))))


@dataclass(frozen=True)
class _Held:
    """A model with its adapter: what gives the loss and the trained parameters, its modules, embedding and
    head, how many layers, and the buffers that its engine keeps from step to step."""

    engine: Any
    model: torch.nn.Module
    ends: tuple[torch.Tensor, ...]
    layers: int
    buffers: Callable[[], list[torch.Tensor]] = list


def _two_steps(held: _Held, case: Case, fake: FakeTensorMode, live: LiveBytes) -> _Run:
    """Two optimiser steps; the figures are the second one's."""
    parameters = held.engine.trainable()
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
        for micro_batches in (1, case.micro_batches):
            live.restart("forward")
            for _ in range(micro_batches):
                held.engine.loss(batch, case.tokens).value.backward()
            live.enter("step")
            gradients = sum(one.grad.nbytes for _, one in parameters if one.grad is not None)
            torch.nn.utils.clip_grad_norm_([one for _, one in parameters], 1.0)
            optimiser.step()
            for _, one in parameters:
                one.grad = None
    terms = _terms(held, parameters, optimiser)
    static = live.now - sum(buffer.nbytes for buffer in held.buffers())
    return _Run(
        static, gradients, {**terms, "other": static - sum(terms.values())}, dict(live.peaks), held.layers
    )


def _terms(
    held: _Held, parameters: list[tuple[str, torch.nn.Parameter]], optimiser: torch.optim.Optimizer
) -> dict[str, int]:
    """Bytes that lie there between steps, by what they are; "other" is rotary tables and the batch."""
    trained = {id(one) for _, one in parameters}
    terms = {"linear layers": 0, "embedding and head": 0, "norms": 0}
    ends = {id(weight) for weight in held.ends}
    seen: set[int] = set()
    for module in held.model.modules():
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
