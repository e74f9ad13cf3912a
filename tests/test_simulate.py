"""A simulated step counts what a real one allocates; extending it by layers loses nothing; the closed form
agrees with it at real size."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from conftest import make_tiny_base
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from doitune.backends import chunks, hf, kept_whole
from doitune.backends.four_bits import nf4_weight, state_bytes
from doitune.backends.hf_model import HfModel
from doitune.backends.loaded import LoadRequest
from doitune.backends.optimiser import build_optimiser
from doitune.base.architecture import Architecture, config_of, read_architecture
from doitune.base.find import find_base
from doitune.base.nf4 import nf4_bytes
from doitune.errors import ModelError, UsageError
from doitune.memory.setting import Setting
from doitune.memory.simulation import unsloth_block
from doitune.memory.simulation.case import Case
from doitune.memory.simulation.fused_norm import fuse_norms
from doitune.memory.simulation.live_bytes import FakeLiveBytes, LiveBytes
from doitune.memory.simulation.simulate import DEEP, simulate_case, simulate_config
from doitune.memory.terms import count
from doitune.prompt.batch import Batch
from doitune.recipe.fields import TrainSection

MIB, GIB = 1 << 20, 1 << 30

TINY: dict[str, tuple[dict[str, Any], Case]] = {
    "llama, peak in a block": (
        {
            "model_type": "llama",
            "hidden_size": 256,
            "intermediate_size": 688,
            "num_attention_heads": 4,
            "num_hidden_layers": 5,
            "vocab_size": 300,
        },
        Case(8, 512, compute_dtype="fp32"),
    ),
    "grouped heads, tied, biased, odd widths": (
        {
            "model_type": "qwen2",
            "hidden_size": 320,
            "intermediate_size": 1002,
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "num_hidden_layers": 4,
            "vocab_size": 301,
            "tie_word_embeddings": True,
        },
        Case(16, 384, compute_dtype="fp32", optimizer="adamw"),
    ),
    "llama, peak in the loss": (
        {
            "model_type": "llama",
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_attention_heads": 2,
            "num_hidden_layers": 3,
            "vocab_size": 9001,
        },
        Case(4, 300, compute_dtype="fp32", optimizer="paged_adamw_8bit"),
    ),
}
"""Three tiny models: config and case. In fp32, as everything is on a CPU."""


def sized(hidden: int, intermediate: int, layers: int, vocabulary: int = 49_957) -> Architecture:
    return Architecture(
        model_type="llama",
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        query=hidden,
        key_value=hidden,
        vocabulary=vocabulary,
        heads=hidden // 128,
    )


LLAMAS = {"7b": sized(4096, 11_008, 32), "13b": sized(5120, 13_824, 40), "33b": sized(6656, 17_920, 60)}


# 4-bit weights


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [(64, 64), (128, 384), (33, 66), (129, 1000), (256, 257 * 64), (1, 2), (1000, 1002), (4096, 11)],
)
def test_4_bit_weights_are_the_bytes_that_bitsandbytes_makes(outputs: int, inputs: int) -> None:
    """To the byte, also where the last block of 64 and the last 256 scales are not full. Traps: rounding
    down, forgotten code tables."""
    dense = torch.randn(outputs, inputs)
    weight = Params4bit(dense, requires_grad=False, compress_statistics=True, quant_type="nf4").to("cpu")
    real = weight.nbytes + state_bytes(weight)
    assert weight.dtype == torch.uint8 and weight.quant_state.nested
    layer = Linear4bit(inputs, outputs, bias=False, device="meta")
    ours: Any = nf4_weight(layer, torch.float32)
    assert ours.nbytes + state_bytes(ours) == real == nf4_bytes(outputs * inputs)
    for name in ("absmax", "code", "offset"):
        mine, theirs = getattr(ours.quant_state, name), getattr(weight.quant_state, name)
        assert mine.shape == theirs.shape and mine.dtype == theirs.dtype, name


# Against really allocated bytes


@pytest.fixture(scope="module")
def byte_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_tiny_base(folder)
    return folder


def real_model(byte_base: Path, folder: Path, config: dict[str, Any], case: Case) -> HfModel:
    """The model of `config` with random weights, loaded by the hf backend as a run loads it."""
    for path in byte_base.iterdir():
        if "tokenizer" in path.name:
            (folder / path.name).write_bytes(path.read_bytes())
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).save_pretrained(folder)
    request = LoadRequest(
        find_base(str(folder)), rank=case.rank, gradient_checkpointing=case.gradient_checkpointing
    )
    return hf.load(request)


def standing(model: HfModel, optimiser: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """Every tensor that lies there between two steps."""
    for module in model.adapter.peft.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None:
                yield tensor
                state = getattr(tensor, "quant_state", None)
                yield from (
                    ()
                    if state is None
                    else (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
                )
    for values in optimiser.state.values():
        yield from (value for value in values.values() if isinstance(value, torch.Tensor))


def storages(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages of these tensors, each once."""
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


class RealStep:
    """A real optimiser step, of as many micro-batches as the case has."""

    def __init__(self, model: HfModel, case: Case) -> None:
        self.model, self.case = model, case
        self.parameters = [parameter for _, parameter in model.trainable()]
        self.optimiser = build_optimiser(
            model.trainable(), TrainSection(optimizer=case.optimizer), model.device
        )  # type: ignore[arg-type]
        ids = torch.randint(6, 262, (1, case.tokens))
        self.batch = Batch(ids, ids.clone(), (case.tokens,), (0,), packed=False)
        model.training(True)

    def take(self) -> None:
        for _ in range(self.case.micro_batches):
            self.model.loss(self.batch, self.case.tokens).value.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        for parameter in self.parameters:
            parameter.grad = None


def profiled_rise(step: RealStep) -> int:
    """The highest sum of the profiler's allocations and frees during a step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step.take()
    events = seen.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    assert len(changes) > 100, "the profiler saw memory"
    return max(accumulate(size for _, size in changes))


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) if "peak in" in one else one for one in TINY]
)
def test_a_simulated_step_is_what_a_real_one_allocates(
    name: str, byte_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bitsandbytes, peft and our backend on real tensors, counted by storages and, independently, by the
    profiler's allocator events.

    Traps: adapters in another type than simulated, a mask of T x T, a tensor that autograd keeps, a
    dequantised copy that nobody counts.
    """
    monkeypatch.setattr(chunks, "LOGITS_AT_ONCE", 1 << 20)  # several pieces of logits with a small vocabulary
    monkeypatch.setattr(kept_whole, "ram", lambda: (64.0, 0.0))  # a card keeps no matrices whole
    config, case = TINY[name]
    step = RealStep(real_model(byte_base, tmp_path, config, case), case)
    step.take()
    lying = [*standing(step.model, step.optimiser), step.batch.ids, step.batch.labels]
    static = storages(lying)
    live = LiveBytes()
    live.watch(lying)
    with live:
        live.tally.restart("step")
        step.take()
    counted = max(live.tally.peaks.values())
    profiled = static + profiled_rise(step)
    simulated = simulate_config(config, name, case)
    print(
        f"\n{name}: simulated {simulated.peak_bytes / MIB:.2f} MiB, counted {counted / MIB:.2f} ({simulated.peak_bytes / counted - 1:+.3%}), "
        f"profiled {profiled / MIB:.2f} ({simulated.peak_bytes / profiled - 1:+.3%}); static {simulated.static_bytes / MIB:.2f}, "
        f"really {static / MIB:.2f}; peak in: {simulated.peak_phase}"
    )
    assert simulated.peak_phase == ("loss" if "loss" in name else "top layer")
    assert simulated.static_bytes == pytest.approx(static, rel=0.001)
    assert simulated.peak_bytes == pytest.approx(counted, rel=0.005)
    assert simulated.peak_bytes == pytest.approx(profiled, rel=0.005)


@pytest.mark.slow
def test_a_packed_row_in_16_bits_needs_what_one_document_needs(
    byte_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is simulated is one document of all tokens, in bf16 as on a card; a run packs several into the
    row, whose outputs of attention are joined in one more [T, H] for the layer behind. Trap: a copy for each
    document.
    """
    monkeypatch.setattr(chunks, "LOGITS_AT_ONCE", 1 << 20)
    monkeypatch.setattr(
        hf, "compute_dtype", lambda wanted, device: torch.bfloat16
    )  # refused on a CPU for its slowness alone
    monkeypatch.setattr(hf, "prove_head", lambda model: None)
    config, case = TINY["llama, peak in a block"]
    case = replace(case, tokens=256, compute_dtype="bf16")
    step = RealStep(real_model(byte_base, tmp_path, config, case), case)
    fuse_norms(step.model.base)  # as on a card
    step.take()
    lying = [*standing(step.model, step.optimiser), step.batch.ids, step.batch.labels]
    step.batch = replace(step.batch, lengths=(50, 100, 6, 50, 50), members=(0, 1, 2, 3, 4), packed=True)
    live = LiveBytes()
    live.watch(lying)
    with live:
        live.tally.restart("step")
        step.take()
    counted = max(live.tally.peaks.values())
    joined = 2 * case.tokens * config["hidden_size"]
    simulated = simulate_config(config, "llama", case).peak_bytes + joined
    print(
        f"\npacked, bf16: {counted / MIB:.2f} MiB, simulated {simulated / MIB:.2f} ({simulated / counted - 1:+.4%})"
    )
    assert step.model.base.dtype == torch.bfloat16
    assert simulated == pytest.approx(counted, rel=0.005)


# Few layers for many


@pytest.mark.parametrize(
    ("backend", "tokens"), [("hf", 96), pytest.param("unsloth", 640, marks=pytest.mark.slow)]
)
def test_few_layers_extended_are_all_layers(backend: str, tokens: int) -> None:
    """To the byte, in every figure. Trap: one line through the peaks of two depths, where the deep model's
    peak lies in another phase."""
    shape = replace(sized(256, 512, 5, vocabulary=5000), key_value=128)
    case = Case(64, tokens, backend)
    extended, whole = simulate_case(shape, case), simulate_case(shape, replace(case, whole=True))
    assert extended.depths == (3, DEEP) and whole.depths == (5,)
    assert (extended.peak_bytes, extended.static_bytes, extended.gradient_bytes) == (
        whole.peak_bytes,
        whole.static_bytes,
        whole.gradient_bytes,
    )
    assert extended.terms == whole.terms
    assert extended.phases == {name: size for name, size in whole.phases.items() if name != "a layer between"}
    assert whole.phases["a layer between"] <= whole.peak_bytes


def test_a_simulation_says_of_what_it_is_made() -> None:
    found = simulate_case(sized(256, 512, 3, vocabulary=1003), Case(8, 64))
    assert sum(found.terms.values()) == found.static_bytes
    assert found.terms["linear layers"] == 3 * (4 * nf4_bytes(256 * 256) + 3 * nf4_bytes(256 * 512))
    assert found.terms["embedding and head"] == 2 * 2 * 1003 * 256
    assert found.terms["adapter"] == found.gradient_bytes == 4 * 8 * 3 * (4 * 512 + 3 * 768)
    assert found.peak_bytes == max(found.phases.values())
    assert found.working_bytes > 0


@pytest.mark.slow
def test_more_of_anything_needs_more() -> None:
    """Traps: a setting that is read and not used."""
    base = Case(8, 128, whole=True)
    shape = sized(256, 512, 2, vocabulary=1000)
    peak = simulate_case(shape, base).peak_bytes
    more = [
        replace(base, rank=64),
        replace(base, tokens=512),
        replace(base, quantise="none"),
        replace(base, optimizer="adamw"),
    ]
    more += [replace(base, compute_dtype="fp32"), replace(base, gradient_checkpointing=False)]
    for case in more:
        assert simulate_case(shape, case).peak_bytes > peak, case
    assert simulate_case(shape, replace(base, targets=("q_proj",))).peak_bytes < peak


# The model of Unsloth's engine


def lean_twin(model: HfModel) -> unsloth_block.LeanModel:
    """The engine's model with the weights of a loaded one."""
    base = model.base
    shape = read_architecture(base.config.to_dict(), "tiny")
    twin = unsloth_block.LeanModel(shape, 4, torch.float32)
    twin.work.scale = 2.0
    twin.embedding, twin.head = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    twin.norm = model.decoder.norm.weight
    for block, layer in zip(twin.blocks, model.decoder.layers, strict=True):
        block.norms = torch.nn.ParameterList(
            [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]
        )
        for name, one in block.layers.items():
            theirs = layer.get_submodule(f"{'self_attn' if name[0] in 'qkvo' else 'mlp'}.{name}")
            one.weight = theirs.base_layer.weight
            one.a, one.b = (
                torch.nn.Parameter(matrix["default"].weight.detach().clone())
                for matrix in (theirs.lora_A, theirs.lora_B)
            )
    return twin


def test_the_model_of_the_engine_computes_a_llama(tiny_base: Path) -> None:
    """Loss and every adapter's gradient are those of transformers and peft. Trap: a buffer counted once
    that holds two things at a time."""
    model = hf.load(LoadRequest(find_base(str(tiny_base)), rank=4, alpha=8.0))
    torch.manual_seed(1)
    for _, parameter in model.trainable():
        parameter.data += 0.05 * torch.randn_like(parameter)
    twin = lean_twin(model)
    ids = torch.randint(6, 262, (1, 300))
    batch = Batch(ids, ids.clone(), (300,), (0,), packed=False)
    wanted, found = model.loss(batch, 299).value, twin.loss(batch, 299).value
    assert found.item() == pytest.approx(wanted.item(), abs=1e-5)
    wanted.backward()
    found.backward()
    theirs = {
        name.replace(".lora_A.default.weight", ".a").replace(".lora_B.default.weight", ".b"): one.grad
        for name, one in model.trainable()
    }
    for name, parameter in twin.trainable():
        _, place, _, layer, side = name.split(".")
        (other,) = [
            one
            for full, one in theirs.items()
            if f"layers.{place}." in full and full.endswith(f"{layer}.{side}")
        ]
        torch.testing.assert_close(parameter.grad, other, atol=2e-6, rtol=2e-4)


# Bad input


def test_what_cannot_be_simulated_is_said() -> None:
    case = Case(8, 64)
    with pytest.raises(ModelError, match=r"here/config\.json: transformers cannot build a 'nosuch' model"):
        simulate_config({"model_type": "nosuch"}, "here/config.json", case)
    with pytest.raises(ModelError, match="cannot build a 'llama' model"):
        simulate_config({"model_type": "llama", "hidden_size": "wide"}, "here/config.json", case)
    with pytest.raises(ModelError, match="no linear layers"):
        simulate_config(config_of(sized(256, 512, 2)), "here", replace(case, targets=("wrong",)))
    with pytest.raises(UsageError, match="not on unsloth"):
        simulate_config(config_of(sized(256, 512, 2)), "here", replace(case, backend="unsloth"))


def test_what_values_decide_is_refused_in_layers_not_guessed() -> None:
    """A mask in a layer picks the tokens of an expert, which fake tensors do not know; the loss's mask
    picks all that are trained, which are all. Trap: every expert is given every token, without a word."""
    live = FakeLiveBytes()
    with FakeTensorMode(), live:
        hidden, mask = torch.empty(7, 4), torch.empty(7, dtype=torch.bool)
        for phase in ("forward", "top layer"):
            live.tally.enter(phase)
            for decide in (lambda: hidden[mask], mask.nonzero, mask.int().sum().item):
                with pytest.raises(DataDependentOutputException):
                    decide()
        live.tally.enter("loss")
        assert hidden[mask].shape == hidden.shape and hidden.sum().item() == 1


@pytest.mark.slow
def test_lists_of_a_value_for_each_layer_are_cut_with_the_layers() -> None:
    """Trap: `layer_types` in a config.json, which has to be as long as the model is deep; and two kinds of
    layers taken for one."""
    config = {
        **config_of(replace(sized(256, 512, 6, vocabulary=1000), model_type="qwen3")),
        "layer_types": ["full_attention"] * 6,
    }
    assert simulate_config(config, "here", Case(8, 64)).depths == (3, DEEP)
    config["layer_types"][1], config["sliding_window"], config["use_sliding_window"] = (
        "sliding_attention",
        32,
        True,
    )
    assert simulate_config(config, "here", Case(8, 64)).depths == (6,)


# The closed form


def modelled(setting: Setting) -> float:
    """The closed form's model part: all terms but those that are no tensor of the model."""
    return sum(term.nominal for term in count(setting) if term.name not in ("context", "fragmentation"))


def compared(backend: str, name: str, rank: int, tokens: int) -> float:
    """Prints and gives the closed form's error against the simulation."""
    started = time.monotonic()
    found = simulate_case(LLAMAS[name], Case(rank, tokens, backend))
    ours = modelled(Setting(LLAMAS[name], backend=backend, rank=rank, tokens=tokens))
    error = ours / found.peak_bytes - 1
    print(
        f"{backend:8} {name:>4} rank {rank:3} tokens {tokens:5}: simulated {found.peak_bytes / GIB:6.3f} GiB, closed {ours / GIB:6.3f} "
        f"({error:+.2%}), {time.monotonic() - started:.1f} s, in: {found.peak_phase}"
    )
    return error


def test_the_closed_form_agrees_for_33b() -> None:
    """The one that people ask about; the whole table is a slow test."""
    assert abs(compared("unsloth", "33b", 16, 2048)) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "name"), list(product(("hf", "unsloth"), LLAMAS)))
def test_the_closed_form_agrees_at_real_size(backend: str, name: str) -> None:
    """Within 1 % of the model part, 2.5 % at 512 tokens. A Latin square: the three models share the nine pairs of
    rank and tokens."""
    ranks, lengths, first = (8, 16, 64), (512, 2048, 8192), list(LLAMAS).index(name)
    errors = {
        (rank, tokens): compared(backend, name, rank, tokens)
        for rank, tokens in zip(ranks, lengths[first:] + lengths[:first], strict=True)
    }
    print(f"{backend} {name}: largest {max(errors.values(), key=abs):+.2%}")
    assert not {
        case: error for case, error in errors.items() if abs(error) > (0.025 if case[1] == 512 else 0.01)
    }


@pytest.mark.slow
def test_33b_with_all_its_layers_is_the_extended_one() -> None:
    started = time.monotonic()
    whole = simulate_case(LLAMAS["33b"], Case(16, 2048, whole=True))
    seconds = time.monotonic() - started
    started = time.monotonic()
    extended = simulate_case(LLAMAS["33b"], Case(16, 2048))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n33b: {whole.peak_bytes / GIB:.3f} GiB; all layers in {seconds:.1f} s, extended in {time.monotonic() - started:.1f} s, peak RSS {rss:.0f} MiB"
    )
    assert extended.peak_bytes == whole.peak_bytes


FAMILIES_AT_SIZE: dict[str, dict[str, Any]] = {
    "gemma2": {"intermediate_size": 14_336, "head_dim": 256, "vocab_size": 256_000},
    "gemma3_text": {"intermediate_size": 10_240, "head_dim": 256, "vocab_size": 262_208},
    "glm": {"intermediate_size": 13_696, "head_dim": 128, "vocab_size": 151_552},
    "glm4": {"intermediate_size": 13_696, "head_dim": 128, "vocab_size": 151_552},
    "mistral": {"intermediate_size": 14_336, "vocab_size": 32_768},
    "phi3": {"intermediate_size": 17_920, "vocab_size": 100_352},
    "qwen2": {"intermediate_size": 18_944, "vocab_size": 152_064},
    "qwen3": {"intermediate_size": 12_288, "head_dim": 128, "vocab_size": 151_936},
}
"""Blocks as wide as those of a published model, four of them."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "rank", "tokens"),
    [*((kind, 16, 2048) for kind in FAMILIES_AT_SIZE), ("gemma2", 64, 8192), ("phi3", 64, 8192)],
)
def test_the_closed_form_agrees_for_each_family(kind: str, rank: int, tokens: int) -> None:
    """Within 1 % of the model part. Traps: a fused layer's output taken for two, norms behind a layer,
    scores of T x T."""
    sizes = {"hidden_size": 3072, "num_hidden_layers": 4, "num_attention_heads": 16, "num_key_value_heads": 4}
    config = {"model_type": kind, **sizes, **FAMILIES_AT_SIZE[kind]}
    shape = read_architecture(config, kind)
    found = simulate_case(shape, Case(rank, tokens, whole=True))
    ours = modelled(Setting(shape, backend="hf", rank=rank, tokens=tokens))
    print(f"{kind:12} rank {rank} tokens {tokens}: {found.peak_bytes / GIB:.3f}, closed {ours / GIB:.3f}")
    assert ours == pytest.approx(found.peak_bytes, rel=0.01)
