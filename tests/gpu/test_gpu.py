"""What only a card can show: bf16 packing, 4-bit layers on CUDA, a short training, and a resume within
rounding."""

from __future__ import annotations

import os
import random
import signal
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("this machine has no CUDA card", allow_module_level=True)

from bitsandbytes.nn import Linear4bit
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from doitune.backends import hf
from doitune.backends.dropout import Places, SteadyDropout
from doitune.backends.hf_model import HfModel
from doitune.backends.lean_norm import lean_norms
from doitune.backends.loaded import LoadRequest
from doitune.base.find import find_base
from doitune.errors import Stopped
from doitune.prompt.batch import flatten, pad, trained_tokens
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.model import open_trained
from doitune.train.events import Event, StepLog
from doitune.train.packing import prove_packing
from doitune.train.session import resume, start


def rows(lengths: tuple[int, ...]) -> list[Encoded]:
    """Random examples; the later half of each is trained."""
    dice = random.Random(0)
    found = []
    for length in lengths:
        ids = tuple(dice.randrange(6, 262) for _ in range(length))
        found.append(Encoded(ids, (*[IGNORED] * (length // 2), *ids[length // 2 :])))
    return found


ROWS = rows((9, 17, 31, 54, 80, 23, 120))


def model_of(base: Path, **fields: Any) -> HfModel:
    """The base with an adapter that is not zero."""
    model = hf.load(LoadRequest(find_base(str(base)), rank=4, **fields))
    torch.manual_seed(1)
    with torch.no_grad():
        for _, parameter in model.trainable():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


@pytest.mark.parametrize("quantise", ["nf4", "none"])
@pytest.mark.parametrize("dtype", ["auto", "fp32"])
def test_packed_equals_separate_on_the_card(tiny_base: Path, quantise: str, dtype: str) -> None:
    model = model_of(tiny_base, quantise=quantise, compute_dtype=dtype)
    proof = prove_packing(model, ROWS)
    assert proof.exact, proof
    assert (
        model.compute_dtype == ("float32" if dtype == "fp32" else model.compute_dtype)
        and model.compute_dtype != "float64"
    )


def test_a_leak_is_larger_than_what_bf16_rounds(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trap: an allowance so wide that a leak passes under it."""
    from doitune.backends import documents

    real = documents.attend

    def leaking(*arguments: Any, **keywords: Any) -> Any:
        bounds = keywords.get("cu_seq_lens_q")
        if bounds is not None:
            keywords["cu_seq_lens_q"] = bounds[[0, -1]]
        return real(*arguments, **keywords)

    monkeypatch.setattr(documents, "attend", leaking)
    try:
        assert not prove_packing(model_of(tiny_base), ROWS).exact
    finally:
        monkeypatch.undo()
        documents.register()


class Operations(TorchDispatchMode):
    """While it is on, hears the operations below autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma2RMSNorm])
def test_a_norm_is_one_kernel_that_rounds_as_transformers_does(kind: Any) -> None:
    """At most the last bit of bf16 apart, as sums of squares are in another order. Trap: torch writes it out here, too."""
    torch.manual_seed(0)
    own = kind(1024).to("cuda", torch.bfloat16).requires_grad_(False)
    own.weight.copy_(torch.randn(1024))
    lean, found = deepcopy(own), []
    lean_norms(lean)
    x, arriving = (torch.randn(2, 100, 1024).to("cuda", torch.bfloat16) for _ in range(2))
    for norm in (own, lean):
        given = x.clone().requires_grad_()
        with Operations() as seen:
            out = norm(given)
            out.backward(arriving)
        found.append((out.detach().float(), given.grad.float(), seen.names))
    (out, grad, _), (ours, our_grad, names) = found
    assert {"aten::_fused_rms_norm", "aten::_fused_rms_norm_backward"} <= set(names), names
    torch.testing.assert_close(ours, out, rtol=2**-7, atol=0)
    assert float((our_grad - grad).norm() / grad.norm()) < 0.01


def test_dropout_drops_the_same_on_a_card_as_on_a_cpu() -> None:
    """Trap: products of words that do not wrap alike."""
    places, kept = Places(), []
    drop = SteadyDropout(0.25, 3, places).train()
    for device in ("cpu", "cuda"):
        torch.manual_seed(5)
        places.put(flatten(ROWS).to(torch.device(device)))
        kept.append(drop.kept(torch.ones(1, sum(len(row.ids) for row in ROWS), 512, device=device)))
    assert kept[0].float().mean() < 0.8 and torch.equal(kept[0], kept[1].cpu())


def test_layers_lie_in_4_bits_on_the_card(tiny_base: Path) -> None:
    model = model_of(tiny_base)
    layers = [module for module in model.base.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 14
    assert all(
        layer.weight.is_cuda and layer.weight.dtype == torch.uint8 and layer.weight.quant_state.nested
        for layer in layers
    )
    assert all(parameter.is_cuda and parameter.dtype == torch.float32 for _, parameter in model.trainable())


def test_gradients_do_not_depend_on_the_split(tiny_base: Path) -> None:
    model = model_of(tiny_base, compute_dtype="fp32")
    total = trained_tokens(ROWS)
    found = []
    for batches in ([pad(ROWS)], [flatten(ROWS)], [pad([one]) for one in ROWS]):
        for batch in batches:
            model.loss(batch, total).value.backward()
        found.append(torch.cat([p.grad.flatten() for _, p in model.trainable() if p.grad is not None]))
        for _, parameter in model.trainable():
            parameter.grad = None
    assert float(found[0].norm()) > 1e-4
    for other in found[1:]:
        assert float((other - found[0]).norm() / found[0].norm()) < 1e-3


def test_replies_in_a_batch_are_those_of_one_at_a_time(tiny_base: Path) -> None:
    model = model_of(tiny_base, compute_dtype="fp32")
    model.training(False)
    prompts = [one.ids for one in ROWS]
    together = model.generate(prompts, max_new_tokens=6, stop_ids=(2,))
    alone = [model.generate([prompt], max_new_tokens=6, stop_ids=(2,))[0] for prompt in prompts]
    assert [reply.ids for reply in together] == [reply.ids for reply in alone]


@pytest.mark.parametrize("checkpointing", ["always", "never"])
def test_a_short_training_lowers_the_loss(tiny_recipe: Path, tmp_path: Path, checkpointing: str) -> None:
    resolved = resolve(
        str(tiny_recipe), overrides=["train.epochs=4", f"train.gradient_checkpointing={checkpointing}"]
    )
    run = start(resolved, runs=tmp_path / "runs", scorer=None, on_event=lambda event: None)
    losses = [line["loss"] for line in run.log.lines() if line["event"] == "step"]
    validations = [line["loss"] for line in run.log.lines() if line["event"] == "validation"]
    assert len(losses) == 16 and losses[-1] < losses[0] and validations[-1] < validations[0]
    assert run.read_json("origin.json")["device"].startswith("cuda")
    _, model, _, step = open_trained(run, "last")
    assert step == 16 and model.device.type == "cuda"


def test_a_resume_is_the_same_run_within_rounding(tiny_recipe: Path, tmp_path: Path) -> None:
    """Atomic additions on a card may differ in the last bits; the weights agree within 1e-3 of their size."""
    from safetensors.torch import load_file

    def stop(event: Event) -> None:
        if isinstance(event, StepLog) and event.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    resolved = resolve(str(tiny_recipe))
    through = start(resolved, runs=tmp_path / "a", scorer=None, on_event=lambda event: None)
    with pytest.raises(Stopped):
        start(resolved, runs=tmp_path / "b", scorer=None, on_event=stop)
    (folder,) = (tmp_path / "b" / "tiny").iterdir()
    resumed = resume(Run(folder), scorer=None, on_event=lambda event: None)
    first, second = (
        load_file(run.checkpoints.all()[-1].folder / "adapter_model.safetensors")
        for run in (through, resumed)
    )
    assert first and set(first) == set(second)
    for name, tensor in first.items():
        assert float((tensor - second[name]).norm() / tensor.norm().clamp(min=1e-6)) < 1e-3, name
