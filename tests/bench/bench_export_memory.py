"""Anonymous memory of an export: a model of 2 GB (random weights, 16 bits, shards on the disk) with a LoRA is written
as a merged folder and as GGUF files.
    python tests/bench/bench_export_memory.py FOLDER [--layers 20] [--quants f16,q8_0] [--own]

Sampled is RssAnon of the writing process, every 5 ms; pages of mapped files are the disk's cache and not counted. The
base's values are rounded as 4-bit training has them (`--own`: its own). Comparing with the trained model is no part of
this: it loads the models. Target: at most 0.5 GB beyond the interpreter with the libraries that write it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

HIDDEN, INNER, HEADS, RANK = 2048, 5632, 16, 16
TARGET_BYTES = 500_000_000
LIBRARIES = "libraries"


def make_model(folder: Path, layers: int) -> None:
    """Base and adapter, a layer in memory at a time."""
    import torch
    from safetensors.torch import save_file

    from doitune.base.find import find_base

    base, adapter, demo = folder / "base", folder / "adapter", find_base("demo")
    base.mkdir(parents=True)
    adapter.mkdir()
    dice = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=dice) * 0.02).to(torch.bfloat16)

    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER, "rms_norm_eps": 1e-5,
              "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "vocab_size": demo.size("vocabulary"),
              "max_position_embeddings": 2048, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "dtype": "bfloat16"}  # fmt: skip
    (base / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(demo.folder / name, base / name)
    ends = {
        "model.embed_tokens.weight": random(config["vocab_size"], HIDDEN),
        "lm_head.weight": random(config["vocab_size"], HIDDEN),
    }  # type: ignore[call-overload]
    ends["model.norm.weight"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
    where, factors = {}, {}
    for number in range(layers + 1):
        tensors, shapes = (ends, {}) if number == layers else ({}, shapes_of(number))
        for name, shape in shapes.items():
            tensors[name] = random(*shape) if len(shape) > 1 else torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) > 1:
                side = f"base_model.model.{name.removesuffix('.weight')}.lora_"
                factors |= {
                    f"{side}A.weight": random(RANK, shape[1]),
                    f"{side}B.weight": random(shape[0], RANK),
                }
        file = f"model-{number + 1:05d}-of-{layers + 1:05d}.safetensors"
        save_file(tensors, base / file)
        where |= dict.fromkeys(tensors, file)
    (base / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    save_file(factors, adapter / "adapter_model.safetensors")
    said = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(said))


def shapes_of(layer: int) -> dict[str, tuple[int, ...]]:
    """A block's tensors."""
    sizes = dict.fromkeys(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"), (HIDDEN, HIDDEN)
    )
    sizes |= {
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    norms = dict.fromkeys(("input_layernorm", "post_attention_layernorm"), (HIDDEN,))
    return {f"model.layers.{layer}.{name}.weight": shape for name, shape in {**sizes, **norms}.items()}


def write(folder: Path, what: str, own: bool) -> None:
    """One format, by the code of the export; `merged` is what the others are made of. LIBRARIES: nothing, once
    all is loaded that writes it."""
    import torch

    from doitune.base.find import find_base
    from doitune.base.make import Order, make_base
    from doitune.base.nf4 import rounded
    from doitune.export.gguf.file import TYPES

    if what in TYPES:
        from doitune.export.gguf.file import plan_file, write_file

        write_file(plan_file(folder / "merged", what), folder / f"{what}.gguf", lambda progress: None)
        return
    from doitune.backends.tokenizer import load_tokenizer
    from doitune.export.parts import open_parts
    from doitune.export.tokenizer import exported_tokens
    from doitune.prompt.template import open_template

    base = find_base(str(folder / "base"))
    rows = base.size("vocabulary")
    template = open_template(load_tokenizer(base.folder), kind="doit", tokens="reuse", vocabulary_rows=rows)
    tokens = exported_tokens(template, base.folder, rows)
    parts = open_parts(base.folder, folder / "adapter", rounded=not own)
    if what == LIBRARIES:
        rounded(torch.zeros(64, 64))
        return
    make_base(Order("bench", parts, tokens, "", folder / "merged", ()))


def anonymous_bytes(pid: int) -> int:
    """RssAnon of a process; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def peak_of(command: list[str]) -> tuple[int, float]:
    """The most anonymous memory of a process, and its seconds."""
    began, most = time.monotonic(), 0
    process = subprocess.Popen(command)

    def watch() -> None:
        nonlocal most
        while process.poll() is None:
            most = max(most, anonymous_bytes(process.pid))
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        sys.exit(f"the writing ended with code {code}")
    return most, time.monotonic() - began


def main(given: Any) -> None:
    """Make the model where it is not there, write each format in a process of its own, print the figures."""
    if given.write:
        write(given.folder, given.write, given.own)
        return
    shutil.rmtree(given.folder / "merged", ignore_errors=True)
    if not (given.folder / "adapter" / "adapter_config.json").is_file():
        shutil.rmtree(given.folder, ignore_errors=True)
        make_model(given.folder, given.layers)
    size = sum(path.stat().st_size for path in (given.folder / "base").glob("*.safetensors"))
    bare, _ = peak_of([sys.executable, "-c", "import time; time.sleep(0.5)"])
    loaded, _ = peak_of([sys.executable, __file__, str(given.folder), "--write", LIBRARIES])
    print(
        f"model: {size / 1e9:.2f} GB; anonymous: a Python that imports nothing {bare / 1e6:.0f} MB, with the libraries {loaded / 1e6:.0f} MB"
    )
    worst = 0
    for what in ("merged", *given.quants.split(",")):
        most, seconds = peak_of(
            [sys.executable, __file__, str(given.folder), "--write", what, *(["--own"] if given.own else [])]
        )
        worst = max(worst, most - loaded)
        beyond = f"{max(0, most - loaded) / 1e6:.0f} MB beyond the libraries of a merge"
        print(
            f"{what}: at most {(most - bare) / 1e6:.0f} MB above Python, {beyond}, {seconds:.0f} s",
            flush=True,
        )
    print("target met" if worst <= TARGET_BYTES else f"TARGET MISSED: {worst / 1e6:.0f} MB")
    sys.exit(int(worst > TARGET_BYTES))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="some 8 GB are written into it")
    parser.add_argument("--layers", type=int, default=20, help="of about 103 MB each")
    parser.add_argument("--quants", default="f16,q8_0")
    parser.add_argument("--own", action="store_true")
    parser.add_argument("--write", default="", help=argparse.SUPPRESS)
    main(parser.parse_args())
