"""Models whose tensors have sizes and no values, put together as the backends do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from doitune.backends import documents
from doitune.backends.attention import refuse_no_attention
from doitune.backends.four_bits import nested_nf4, nf4_weight
from doitune.backends.hf_model import HfModel
from doitune.backends.loaded import LoadRequest
from doitune.backends.lora import adapt, beside_text
from doitune.backends.precision import DTYPES
from doitune.backends.refusals import first_line, refusals
from doitune.base.architecture import Architecture
from doitune.base.folder import Base
from doitune.errors import ModelError
from doitune.memory.simulation.case import Case
from doitune.memory.simulation.fused_norm import fuse_norms
from doitune.memory.simulation.live_bytes import LiveBytes, Tally, layer_phases
from doitune.memory.simulation.unsloth_block import LeanModel
from doitune.memory.simulation.workspace import Adapted

NAME = "doitune_simulated"


@dataclass(frozen=True)
class FakeModel:
    """A model with its adapter: `engine` gives the loss and the trained parameters, `model` has the modules.

    `ends`: embedding and head. `layers`: how many. `buffers`: what the engine keeps from step to step.
    """

    engine: HfModel | LeanModel
    model: torch.nn.Module
    ends: tuple[torch.Tensor, ...]
    layers: int
    buffers: Callable[[], list[torch.Tensor]] = list


def hf_model(
    config: Mapping[str, Any], place: str, case: Case, fake: FakeTensorMode, live: LiveBytes
) -> FakeModel:
    """The model of a config.json (as read from `place`), put together as `hf.load` does it, in training mode.
    Errors: ModelError."""
    dtype = DTYPES[case.compute_dtype]
    model = meta_model(config, place, dtype)
    if case.quantise == "nf4":
        model = replace_with_bnb_linear(model, get_keys_to_not_convert(model), nested_nf4(dtype))
        model.is_loaded_in_4bit = True  # peft asks the model before it asks the layer
    request = LoadRequest(
        Base(place, Path(), ""),
        rank=case.rank,
        targets=case.targets,
        dropout=case.dropout,
        gradient_checkpointing=case.gradient_checkpointing,
    )
    try:
        adapter = adapt(model, request)
    except refusals() as error:
        raise ModelError(
            f"{place}: peft cannot adapt this model: {first_line(error)[:160]}",
            "name other layers (lora.targets)",
        ) from error
    with fake, live:
        _give_storage(adapter.peft, dtype)
    if dtype != torch.float32:  # which is a CPU's
        fuse_norms(model)
    loaded = HfModel(place, adapter, torch.device("cpu"))
    adapter.peft.train(True)  # a model's own switch would keep matrices whole, where this machine has room
    layers = blocks(loaded.decoder)
    _name_phases(loaded.decoder, layers, live.tally)
    ends = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return FakeModel(loaded, model, ends, len(layers))


def lean_model(architecture: Architecture, case: Case, fake: FakeTensorMode, live: LiveBytes) -> FakeModel:
    """The model of Unsloth's engine."""
    dtype = DTYPES[case.compute_dtype]
    with torch.device("meta"):
        model = LeanModel(architecture, case.rank, dtype)
    with fake, live:
        _give_storage(model, dtype)
    model.head = model.embedding if architecture.tied else model.head
    model.work.live = live
    return FakeModel(model, model, (model.embedding, model.head), architecture.layers, model.work.buffers)


def blocks(decoder: Any) -> list[torch.nn.Module]:
    """The decoder's blocks in order; empty where it has no list of `num_hidden_layers` modules."""
    depth = getattr(decoder.config, "num_hidden_layers", 0)
    found = [
        module
        for module in decoder.modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    return list(found[0]) if found else []


def meta_model(config: Mapping[str, Any], place: str, dtype: torch.dtype) -> Any:
    """The model without storage."""
    try:
        built = AutoConfig.for_model(**config)
        refuse_no_attention(built, place)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(built, dtype=dtype, attn_implementation=_register())
    except refusals() as error:
        reason = (
            "it chooses its attention by a table of its own"
            if NAME in str(error)
            else first_line(error)[:160]
        )
        raise ModelError(
            f"{place}: transformers cannot build a {config.get('model_type')!r} model from this config: "
            f"{reason}",
            "copy the model's config.json again; models that bring their own code cannot be simulated",
        ) from error


def quantised_weights(config: Mapping[str, Any], place: str) -> list[str]:
    """The weights that bitsandbytes quantises in a model that transformers builds from this config: those of
    its linear layers of text but for the head. ModelError where it cannot be built."""
    model = meta_model({**config, "quantization_config": None}, place, torch.bfloat16)
    kept = {*map(str, get_keys_to_not_convert(model)), *beside_text(model)}
    return [
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name not in kept
    ]


def _register() -> str:
    """The hf backend's attention without a mask maker: transformers would build a T x T mask, since fake
    positions cannot say that a row is one document; a real batch gets none."""
    AttentionInterface.register(NAME, documents.attend)
    return NAME


def _give_storage(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Fake storage for every tensor of a model on the meta device; 4-bit layers get what bitsandbytes
    makes of them."""
    given: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if isinstance(module, (Linear4bit, Adapted)) and name == "weight":
                given[id(parameter)] = nf4_weight(module, dtype)
            elif isinstance(module, Linear4bit):
                bias = torch.empty(parameter.shape, dtype=dtype)
                given[id(parameter)] = torch.nn.Parameter(bias, requires_grad=False)
            elif id(parameter) not in given:
                plain = torch.empty(parameter.shape, dtype=parameter.dtype)
                given[id(parameter)] = torch.nn.Parameter(plain, requires_grad=parameter.requires_grad)
            module._parameters[name] = given[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _name_phases(decoder: torch.nn.Module, layers: list[torch.nn.Module], tally: Tally) -> None:
    """forward, loss, then the layers whose forward pass runs again in the backward pass."""
    backward = False

    def begin(*_: Any) -> None:
        nonlocal backward
        backward = False
        tally.enter("forward")

    def end(*_: Any) -> None:
        nonlocal backward
        backward = True
        tally.enter("loss")

    def at_layer(names: tuple[str, ...]) -> Callable[..., None]:
        return lambda *_: tally.enter(*names) if backward else None

    decoder.register_forward_pre_hook(begin)
    decoder.register_forward_hook(end)
    for place, layer in enumerate(layers):
        layer.register_forward_pre_hook(at_layer(layer_phases(place, len(layers))))
