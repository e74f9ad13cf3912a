"""Our side of the contract with Unsloth: the order of imports, the words it is called with, what it may not
do, and the same losses as hf.

A stand-in named `unsloth` takes the place of the library: it holds a real tiny transformers model with peft's
layers and understands the words that Unsloth's decoder understands. This proves nothing about Unsloth itself:
its own code runs in tests/test_unsloth_kernels.py (on the CPU) and tests/gpu (on a card).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_tiny_base
from patience import HANGS

from doitune.backends import unsloth
from doitune.backends.loss import FrozenHead, HeadLoss
from doitune.backends.pick import begin, pick_backend
from doitune.base.find import find_base
from doitune.errors import FitError

ROOT = Path(__file__).parents[1]

STAND_IN = """
import json, os, sys
early = [name for name in ("transformers", "peft", "trl") if name in sys.modules]
with open(os.environ["SEEN"], "a") as stream:
    seen = {name: os.environ.get(name) for name in ("UNSLOTH_DISABLE_STATISTICS", "UNSLOTH_COMPILE_LOCATION", "UNSLOTH_OFFLOAD_FP32", "PYTORCH_ALLOC_CONF")}
    stream.write(json.dumps({"early": early, "environment": seen}) + "\\n")
print("a banner")

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, DynamicCache


def understand(decoder, longest):
    own = decoder.forward

    def forward(input_ids, position_ids=None, attention_mask=None, past_key_values=None, use_cache=False, **words):
        if "packed_seq_lengths" not in words:
            input_ids = input_ids[:, :longest]  # as the library does, silently
        packed = words.get("packed_seq_lengths")
        if packed is not None:
            owner = torch.repeat_interleave(torch.arange(len(packed)), packed.long())
            place = torch.arange(len(owner))
            seen = (owner[:, None] == owner[None]) & (place[:, None] >= place[None])
            attention_mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[None, None]
        elif decoder.training:
            attention_mask = None
        cache = DynamicCache() if use_cache or past_key_values is not None else None
        for layer, (keys, values) in enumerate(past_key_values or ()):
            cache.update(keys.clone(), values.clone(), layer)
        out = own(input_ids=input_ids, position_ids=position_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=cache is not None)
        out.past_key_values = tuple((one.keys, one.values) for one in cache.layers) if use_cache else None
        return out

    decoder.forward = forward


class FastLanguageModel:
    @staticmethod
    def from_pretrained(**words):
        with open(os.environ["SEEN"], "a") as stream:
            stream.write(json.dumps({"from_pretrained": {**words, "dtype": str(words["dtype"])}}) + "\\n")
        model = AutoModelForCausalLM.from_pretrained(words["model_name"], dtype=words["dtype"], attn_implementation="sdpa")
        if os.environ.get("STAND_IN") == "resizes":
            model.resize_token_embeddings(model.config.vocab_size + 8)
        if os.environ.get("STAND_IN") == "adds tokens":
            model._need_to_train_embeddings = True
        understand(model.model, words["max_seq_length"])
        print("a model")
        return model, None

    @staticmethod
    def get_peft_model(model, r, target_modules, lora_alpha, lora_dropout, bias, use_gradient_checkpointing, random_state):
        with open(os.environ["SEEN"], "a") as stream:
            stream.write(json.dumps({"get_peft_model": [r, sorted(target_modules), lora_alpha, bias, use_gradient_checkpointing, random_state]}) + "\\n")
        torch.manual_seed(random_state)
        adapted = get_peft_model(model, LoraConfig(r=r, lora_alpha=lora_alpha, lora_dropout=lora_dropout, target_modules=target_modules, bias=bias, task_type="CAUSAL_LM"))
        if os.environ.get("STAND_IN") == "trains the head":
            model.lm_head.weight.requires_grad_(True)
        return adapted
"""

CARD = """
import sys, torch
torch.cuda.is_available = lambda own=torch.cuda.is_available: sys._getframe(1).f_code.co_filename.endswith("backends/unsloth.py") or own()
"""
"""A card for the one question that decides for Unsloth; bitsandbytes, which asks too, would load code that
is not there."""

MEASURE = """
import json, random, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from doitune.backends.loaded import LoadRequest
from doitune.backends.pick import begin, pick_backend
from doitune.backends.written import Wish
from doitune.base.find import find_base
from doitune.prompt.batch import flatten, pad
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.train.packing import prove_packing
name, base, folder, new = sys.argv[1], find_base(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
begin(name, base)
dice = random.Random(0)
def example(length):
    ids = tuple(dice.randrange(6, 262 + new) for _ in range(length))
    return Encoded(ids, (*[IGNORED] * (length // 2), *ids[length // 2:]))
rows = [example(length) for length in (9, 30, 17, 24)]
chosen, backend = pick_backend(name, base)
model = backend.load(LoadRequest(base, quantise=sys.argv[5], compute_dtype="fp32", rank=4, alpha=8.0, new_rows=new, seed=3))
if name == "unsloth":
    torch.manual_seed(1)
    with torch.no_grad():
        for _, parameter in model.trainable():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    folder.mkdir()
    model.save_adapter(folder)
else:
    model.load_adapter(folder)
found = {}
for training in (True, False):
    model.training(training)
    for make in (pad, flatten):
        loss = model.loss(make(rows), 40)
        loss.value.backward()
        found[f"{make.__name__}/{training}/sums"] = loss.sums
        found[f"{make.__name__}/{training}/gradient"] = torch.cat([parameter.grad.flatten() for _, parameter in model.trainable()])
        for _, parameter in model.trainable():
            parameter.grad = None
with torch.no_grad(), model.without_adapter():
    found["bare"] = model.loss(pad(rows), 1).sums
found["logits"] = model.logits(pad(rows), [9, 200, 2])
model.training(True)  # while it trains, Unsloth drops masks; asking may not depend on it
prefix = model.read(rows[1].ids[:16])
found["after"] = model.logits(pad(rows[2:]), list(range(20)), prefix)
with torch.no_grad():
    found["losses after"] = model.loss(pad(rows[2:]), 1, prefix).sums
written = model.generate([row.ids for row in rows], max_new_tokens=8, stop_ids=(2,), watch_ids=(9, 10))
found["replies"] = torch.tensor([[*reply.ids, *[0] * (8 - len(reply.ids))] for reply in written])
heard = []
spoken = model.speak(Wish(rows[0].ids, 8, (2,)), heard.append, lambda: False)
assert spoken.ids == written[0].ids == tuple(heard), "what is heard as it is written is the reply"
few = []
assert len(model.speak(Wish(rows[0].ids, 8, (2,)), few.append, lambda: len(few) >= 2).ids) == 2
found["scores"] = torch.tensor([[*reply.first_scores, *reply.last_scores] for reply in written])
model.training(False)
long = example(600)
with torch.no_grad():
    found["longer than the context"] = model.loss(pad([long]), 1).sums
save_file({key: value.detach().contiguous() for key, value in found.items()}, folder / f"{name}.safetensors")
proof = prove_packing(model, rows)
trained = [key for key, _ in model.trainable()]
print(json.dumps({"backend": chosen, "packs": proof.exact, "prefix": model.shares_prefix, "trained": trained, "dtype": model.compute_dtype}))
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which `unsloth` is the stand-in, installed as the release this
    backend was written against."""
    site = tmp_path / "site"
    (site / "unsloth").mkdir(parents=True)
    (site / "unsloth" / "__init__.py").write_text(STAND_IN)
    for name in ("unsloth", "unsloth_zoo"):
        installed(site, name, "2026.10.7")
    seen = str(tmp_path / "seen.jsonl")
    paths = os.pathsep.join([str(site), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "SEEN": seen, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def installed(site: Path, name: str, version: str) -> None:
    folder = site / f"{name}-2026.10.7.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def run(program: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=HANGS,
        check=False,
    )


def seen(environment: dict[str, str]) -> list[dict[str, Any]]:
    path = Path(environment["SEEN"])
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(("tied", "new"), [pytest.param(True, 0, marks=pytest.mark.slow), (False, 3)])
def test_every_verb_says_what_the_hf_backend_says(
    stand_in: dict[str, str], tmp_path: Path, tied: bool, new: int
) -> None:
    """Also: an adapter that one backend saved is read by the other; rows longer than the context are not
    cut; standard output stays ours."""
    make_tiny_base(tmp_path / "base", tied=tied)
    said = {}
    for name, program in (("unsloth", CARD + MEASURE), ("hf", MEASURE)):
        done = run(
            program,
            name,
            str(tmp_path / "base"),
            str(tmp_path / "adapter"),
            str(new),
            "none",
            environment=stand_in,
        )
        assert done.returncode == 0, done.stderr
        said[name] = json.loads(done.stdout)  # nothing else was printed there
    same(said["unsloth"], said["hf"], tmp_path / "adapter", new)


def same(ours: dict[str, Any], theirs: dict[str, Any], folder: Path, new: int) -> None:
    """Two measured backends agree within fp32's rounding."""
    from safetensors.torch import load_file

    assert ours == {**theirs, "backend": "unsloth"} and ours["packs"] and ours["prefix"]
    assert all(".lora_" in name or name.endswith(".rows") for name in ours["trained"])
    assert len(ours["trained"]) == 28 + (2 if new else 0)
    first, second = (load_file(folder / f"{name}.safetensors") for name in ("unsloth", "hf"))
    assert set(first) == set(second) and len(first) == 15
    for key, value in first.items():
        assert (
            float((value.float() - second[key].float()).norm() / second[key].float().norm().clamp(min=1e-9))
            < 2e-6
        ), key
    assert not [path for path in folder.iterdir() if path.suffix not in (".safetensors", ".json", ".md")], (
        "no pickle"
    )


def test_unsloth_is_imported_before_transformers_in_a_real_training(
    stand_in: dict[str, str], tiny_recipe: Path, tmp_path: Path
) -> None:
    """Trap: the tokenizer, read long before the weights, pulls transformers in, and Unsloth's patches come
    too late."""
    program = CARD + (
        "import sys\nfrom pathlib import Path\nfrom doitune.recipe.resolve import resolve\nfrom doitune.train.session import start\n"
        "from doitune.run.model import open_trained\nimport doitune.train.trial as trial\n"
        "resolved = resolve(sys.argv[1], overrides=['model.quantise=none', 'model.compute_dtype=fp32', 'train.max_steps=2', "
        "'train.gradient_checkpointing=never', 'train.validation_rows_per_ability=0'])\n"
        "torch.manual_seed(0)\n"
        "try:\n    start(resolved, runs=Path(sys.argv[2]), scorer=None, on_event=lambda event: None)\n"
        "except AssertionError as error:\n    print(error)\n"
    )
    run(program, str(tiny_recipe), str(tmp_path / "runs"), environment=stand_in)
    records = seen(stand_in)
    assert records and records[0]["early"] == []
    environment = records[0]["environment"]
    assert environment["UNSLOTH_DISABLE_STATISTICS"] == "1" and environment["UNSLOTH_OFFLOAD_FP32"] == "exact"
    assert (
        environment["UNSLOTH_COMPILE_LOCATION"].startswith(str(tmp_path))
        and environment["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    )
    assert "from_pretrained" in records[1]


def test_what_unsloth_is_told(stand_in: dict[str, str], tmp_path: Path) -> None:
    make_tiny_base(tmp_path / "base")
    program = CARD + (
        "import sys\nfrom doitune.backends.loaded import LoadRequest; from doitune.backends.pick import begin; from doitune.backends import unsloth\nfrom doitune.base.find import find_base\nbase = find_base(sys.argv[1])\n"
        "begin('auto', base)\nunsloth.load(LoadRequest(base, quantise='nf4', compute_dtype='fp32', rank=4, seed=5, max_tokens=100, gradient_checkpointing=True))\n"
    )
    done = run(program, str(tmp_path / "base"), environment=stand_in)
    assert done.returncode == 0, done.stderr
    told, adapter = seen(stand_in)[1:]
    assert told["from_pretrained"] == {
        "model_name": str(tmp_path / "base"), "max_seq_length": 512, "dtype": "torch.float32", "load_in_4bit": True, "device_map": {"": "cuda:0"},
        "fix_tokenizer": False, "trust_remote_code": False, "use_gradient_checkpointing": "unsloth", "use_exact_model_name": True,
        "offload_embedding": False, "random_state": 5, "local_files_only": True, "use_safetensors": True,
    }  # fmt: skip
    layers = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert adapter["get_peft_model"] == [4, layers, 32.0, "none", "unsloth", 5]


def test_a_matrix_that_would_be_trained_or_resized_is_refused(
    stand_in: dict[str, str], tmp_path: Path
) -> None:
    """Trap: gigabytes of gradients that no plan knows of, or an adapter that fits no other copy of the
    base."""
    make_tiny_base(tmp_path / "base", tied=False)
    program = CARD + (
        "import os, sys\nfrom doitune.backends.loaded import LoadRequest; from doitune.backends import unsloth\nfrom doitune.base.find import find_base\nfrom doitune.errors import DoituneError\n"
        "for fault in sys.argv[2:]:\n    os.environ['STAND_IN'] = fault\n"
        "    try:\n        unsloth.load(LoadRequest(find_base(sys.argv[1]), quantise='none', compute_dtype='fp32'))\n"
        "    except DoituneError as error:\n        print(fault, error, sep=': ')\n"
    )
    faults = {
        "resizes": "made 270 rows of the 262",
        "adds tokens": "trains the whole embedding",
        "trains the head": "would train",
    }
    done = run(program, str(tmp_path / "base"), *faults, environment=stand_in)
    for fault, words in faults.items():
        assert re.search(f"^{fault}: .*{words}", done.stdout, re.MULTILINE), (fault, done.stdout, done.stderr)


def test_without_a_card_unsloth_is_never_imported(tmp_path: Path) -> None:
    """Trap: importing it patches torch, and on a machine without a card it raises."""
    (tmp_path / "unsloth").mkdir()
    (tmp_path / "unsloth" / "__init__.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\n")
    for name in ("unsloth", "unsloth_zoo"):
        installed(tmp_path, name, "2026.10.7")
    make_tiny_base(tmp_path / "base")
    program = (
        "import sys, torch\ntorch.cuda.is_available = lambda: False\nfrom doitune.backends.pick import begin, pick_backend; from doitune.backends import unsloth\n"
        "from doitune.base.find import find_base\nbase = find_base(sys.argv[1])\nbegin('auto', base)\nprint(unsloth.why_not(base), pick_backend('auto', base)[0])\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = run(program, str(tmp_path / "base"), environment=environment)
    assert "needs a CUDA card" in done.stdout and done.stdout.strip().endswith("hf"), done.stderr
    assert not (tmp_path / "canary").exists()


def test_other_versions_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> None:
    from doitune.backends import hf

    assert hf.why_not() is None  # imported while there is no card
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = {
        "unsloth": "2026.11.1",
        "unsloth_zoo": "2026.10.7",
        "transformers": "5.17.0",
    }
    monkeypatch.setattr(unsloth, "version_of", found.get)
    assert (
        unsloth.why_not()
        == "unsloth 2026.11.1 is installed, and this backend was written against 2026.10.7 to 2026.10.9"
    )
    with pytest.raises(FitError, match=r"unsloth 2026.11.1 is installed"):
        begin("unsloth", find_base(str(tiny_base)))
    found["unsloth"] = "2026.10.9.post1"
    assert "transformers is imported in this process already" in str(unsloth.why_not())
    found["unsloth_zoo"] = ""
    assert unsloth.why_not() == "unsloth_zoo is not installed (pip install 'doitune[gpu]')"
    assert pick_backend("auto")[0] == "hf"


def test_a_base_that_unsloth_computes_otherwise_is_left_to_hf(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: a sliding window counted over padding, an architecture that is compiled afresh."""
    base = find_base(str(tiny_base))
    assert unsloth._why_not_base(base) is None
    config = base.config
    for change, reason in (
        ({"model_type": "baichuan"}, "baichuan"),
        ({"sliding_window": 64}, "sliding window"),
        ({"quantization_config": {"bnb_4bit_quant_type": "nf4"}}, "scales in 32 bits"),
    ):
        monkeypatch.setattr(type(base), "config", property(lambda self, change=change: {**config, **change}))
        assert reason in str(unsloth._why_not_base(base))
    monkeypatch.setattr(
        type(base),
        "config",
        property(lambda self: {**config, "sliding_window": 64, "use_sliding_window": False}),
    )
    assert unsloth._why_not_base(base) is None


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("new", [0, 2])
@pytest.mark.parametrize(("cap", "biased"), [(None, False), (0.7, False), (None, True), (0.7, True)])
def test_the_heads_loss_and_gradient_are_those_of_autograd(
    at_once: int, new: int, cap: float | None, biased: bool
) -> None:
    """Losses that count differently too: the gradient is made before anybody knows how much each counts. Trap: a
    cap whose own slope is forgotten."""
    torch.manual_seed(0)
    hidden = torch.randn(7, 5, requires_grad=True)
    weight = torch.randn(11, 5)
    bias = torch.randn(11) if biased else None
    rows = torch.randn(new, 5, requires_grad=True) if new else None
    targets = torch.tensor([0, 3, 10, 10 + new, 4, 10 + new, 1])
    counts = torch.rand(7)
    logits = torch.nn.functional.linear(hidden, weight, bias)
    if rows is not None:
        logits = torch.cat([logits, hidden @ rows.T], dim=-1)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    wanted = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    inputs = [hidden] if rows is None else [hidden, rows]
    slopes = torch.autograd.grad((wanted * counts).sum(), inputs)
    head = FrozenHead(weight, at_once, bias, cap)
    found = HeadLoss.apply(hidden, rows, targets, head)
    assert torch.allclose(found, wanted, atol=1e-6)
    for one, other in zip(torch.autograd.grad((found * counts).sum(), inputs), slopes, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(HeadLoss.apply(hidden, rows, targets, head), found)
