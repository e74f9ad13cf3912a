"""A base of 2 GB is made, and one in 16 bits is loaded, in little more memory than what they leave behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from patience import HANGS
from safetensors.torch import save_file

HIDDEN, INTERMEDIATE, LAYERS, ROWS, OWN_ROWS, RANK = 4096, 11008, 4, 32000, 49953, 8
"""Four layers of LLaMA 7b, and the vocabulary of Chinese-LLaMA Plus."""

MEASURED = """
import json, re, sys, threading, time

def anonymous():
    with open("/proc/self/smaps_rollup") as maps:
        return int(re.search(r"Anonymous:\\s+(\\d+)", maps.read())[1]) / 1024

def measure(work):
    start, peak, done = anonymous(), 0.0, threading.Event()

    def watch():
        nonlocal peak
        while not done.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        kept = work()
    finally:
        done.set()
        watcher.join()
    print(json.dumps({"peak_mib": peak - start, "left_mib": anonymous() - start, "seconds": time.monotonic() - began}))
    return kept
"""

MAKE = """
import bitsandbytes, torch
from pathlib import Path
from doitune.base.assembly import open_assembly
from doitune.base.make import Order, make_base
from doitune.base.tokens import read_tokens
base, lora, out = map(Path, sys.argv[1:])

def work():
    parts = open_assembly(base, [("lora", lora)])
    make_base(Order("large", parts, read_tokens([base, lora], parts.architecture.vocabulary).files, "nf4", out, ()))

measure(work)
"""

LOAD = """
import torch
from doitune.backends.loaded import LoadRequest; from doitune.backends import hf
from doitune.base.find import find_base
from bitsandbytes.nn import Linear4bit
torch.nn.functional.linear(torch.ones(4, 4), torch.ones(4, 4))
import transformers.models.llama.modeling_llama
model = measure(lambda: hf._load_base(LoadRequest(find_base(sys.argv[1])), torch.device("cpu"), torch.float32))
assert any(isinstance(module, Linear4bit) for module in model.modules())
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="asks Linux for its memory"),
]


def measured(program: str, *arguments: Path) -> dict[str, float]:
    """Run a program in a process of its own; its memory beyond what its imports take."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=3 * HANGS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    print(found)
    return found


def layer(number: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Random weights of one block."""
    shapes = {
        **{f"self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
        "mlp.gate_proj": (INTERMEDIATE, HIDDEN), "mlp.up_proj": (INTERMEDIATE, HIDDEN), "mlp.down_proj": (HIDDEN, INTERMEDIATE),
        "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,),
    }  # fmt: skip
    generator = torch.Generator().manual_seed(number)
    return {
        f"model.layers.{number}.{name}.weight": (torch.randn(shape, generator=generator) * 0.02).to(dtype)
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """A LLaMA of 2.1 GB in fp16, a shard a layer."""
    folder = tmp_path_factory.mktemp("large") / "llama"
    folder.mkdir()
    ends = {
        "model.embed_tokens.weight": torch.randn(ROWS, HIDDEN).half(),
        "lm_head.weight": torch.randn(ROWS, HIDDEN).half(),
        "model.norm.weight": torch.ones(HIDDEN).half(),
    }
    for number in range(LAYERS + 1):
        group = ends if number == LAYERS else layer(number, torch.float16)
        save_file(
            group,
            folder / f"model-{number + 1:05d}-of-{LAYERS + 1:05d}.safetensors",
            metadata={"format": "pt"},
        )
    config = json.loads((tiny_base / "config.json").read_text())
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "vocab_size": ROWS, "num_attention_heads": 32,
             "num_key_value_heads": 32, "head_dim": 128, "tie_word_embeddings": False}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | sizes))
    shutil.copy(tiny_base / "tokenizer.json", folder)
    table = {name: path.name for path in folder.glob("*.safetensors") for name in _names(path)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) > 2 * 10**9
    return folder


def _names(path: Path) -> list[str]:
    from doitune.base.headers import read_header

    return list(read_header(path))


def language_lora(folder: Path) -> Path:
    """A LoRA on every linear layer, with an embedding and a head of its own (0.8 GB in fp16)."""
    folder.mkdir()
    found = {
        f"base_model.model.{name}": torch.randn(OWN_ROWS, HIDDEN).half()
        for name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    for number in range(LAYERS):
        for name, weight in layer(number, torch.float16).items():
            if weight.dim() == 2:
                stem = f"base_model.model.{name.removesuffix('.weight')}"
                found[f"{stem}.lora_A.weight"] = torch.randn(RANK, weight.shape[1]).half() * 0.02
                found[f"{stem}.lora_B.weight"] = torch.randn(weight.shape[0], RANK).half() * 0.02
    save_file(found, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "fan_in_fan_out": False, "bias": "none"}
        )
    )
    return folder


def test_a_base_of_2_gb_is_made_in_a_stream(llama: Path, tmp_path: Path) -> None:
    """At most two tensors and the output's buffer, so 33b is made on a machine of 16 GB; the largest
    tensor here is 409 MB."""
    found = measured(MAKE, llama, language_lora(tmp_path / "lora"), tmp_path / "made")
    assert found["peak_mib"] < 380  # 0.4 GB
    size = sum(path.stat().st_size for path in (tmp_path / "made").glob("*.safetensors"))
    assert size > 1.2 * 10**9, "nothing was made"


def test_a_base_in_16_bits_is_loaded_in_a_stream(llama: Path) -> None:
    """At most two tensors beyond what it leaves behind. Traps: the whole checkpoint in memory before it is
    quantised; four or five fp32 copies of the matrix at work, which bitsandbytes' CPU quantiser makes of all
    that it is given. Embedding and head are in fp32 on a CPU."""
    found = measured(LOAD, llama)
    tensors = 2 * 2 * ROWS * HIDDEN / 2**20
    output = (
        2 * 4 * ROWS * HIDDEN + 0.516 * LAYERS * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * INTERMEDIATE)
    ) / 2**20
    assert found["left_mib"] > 0.9 * output
    assert found["peak_mib"] < output + tensors
