"""Unsloth's own code, installed in an environment of its own, on the CPU: its kernels in Triton's
interpreter, its decoder under our backend.

Marker `gpu_extra` (3 GB to install, minutes to run): `pytest -m gpu_extra`. fp32 only: in the interpreter
bf16 gives NaN. It says nothing of a card's speed, of code that Triton generates for one, of flash attention,
or of checkpoints that are offloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import make_tiny_base
from test_unsloth_backend import CARD, MEASURE, same

pytestmark = pytest.mark.gpu_extra

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "unsloth_cpu"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "doitune" / "gpu-extra"

TOLERANCES = {
    "rms_norm": 1e-5, "swiglu": 1e-5, "rope": 1e-6, "rope_with_positions": 1e-6, "cross_entropy": 1e-5, "cross_entropy_in_pieces": 1e-5,
    "lora_mlp": 1e-5, "lora_qkv": 1e-5, "lora_w": 1e-5,
}  # fmt: skip
"""Largest difference from plain torch, forward and backward, as a share of the largest value."""


@pytest.fixture(scope="session")
def interpreter() -> Path:
    """A Python with the `gpu` extra, made once for each list of dependencies and kept; torchvision is
    taken out, whose operators need a card."""
    asked = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.scripts]")[0]
    key = hashlib.sha256(
        f"{sys.version_info[:2]}{asked.split('dependencies = [', 1)[1]}".encode()
    ).hexdigest()[:12]
    home = CACHE / key
    python = home / "bin" / "python"
    if not (home / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", f"{ROOT}[gpu]"], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "uninstall", "-q", "-y", "torchvision", "doitune"], check=True
        )  # the checkout itself is tested
        (home / "whole").touch()
    return python


def run(python: Path, *arguments: str, folder: Path) -> str:
    """What a script prints, run from an empty folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SCRIPTS), str(ROOT)]),
        "XDG_CACHE_HOME": str(folder),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [str(python), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip().splitlines()[-1]


def test_kernels_agree_with_plain_torch(interpreter: Path, tmp_path: Path) -> None:
    found = json.loads(run(interpreter, str(SCRIPTS / "kernels.py"), folder=tmp_path))
    assert set(found) == set(TOLERANCES)
    assert not {name: found[name] for name, allowed in TOLERANCES.items() if not found[name] <= allowed}, (
        found
    )


def test_a_matrix_is_dequantised_once_a_pass(interpreter: Path, tmp_path: Path) -> None:
    """Of each of 7 linear layers, forward and backward: three times where a block is recomputed, as its checkpoint
    runs it whole. Trap: a release that does it once more."""
    make_tiny_base(tmp_path / "base")
    script = CARD + (SCRIPTS / "launches.py").read_text(encoding="utf-8")
    found = json.loads(run(interpreter, "-c", script, str(tmp_path / "base"), folder=tmp_path))
    assert found == {"layers": 2, "whole": 2 * 2 * 7, "triton": 18}


@pytest.mark.parametrize(("tied", "new", "quantise"), [(True, 0, "nf4"), (False, 3, "none")])
def test_every_verb_over_unsloths_decoder_says_what_the_hf_backend_says(
    interpreter: Path, tmp_path: Path, tied: bool, new: int, quantise: str
) -> None:
    """Losses, gradients, packed rows, prefixes, replies, token rows: through Unsloth's from_pretrained,
    get_peft_model and forward."""
    make_tiny_base(tmp_path / "base", tied=tied)
    words = [str(tmp_path / "base"), str(tmp_path / "adapter"), str(new), quantise]
    ours = run(interpreter, "-c", f"{CARD}import on_cpu\n{MEASURE}", "unsloth", *words, folder=tmp_path)
    theirs = run(interpreter, "-c", MEASURE, "hf", *words, folder=tmp_path)
    same(json.loads(ours), json.loads(theirs), tmp_path / "adapter", new)
    assert not (tmp_path / "unsloth_compiled_cache").exists(), "nothing is left in the current folder"


SIGNATURES = """
import inspect, json
import on_cpu, torch
from pathlib import Path
import unsloth, unsloth_zoo
from unsloth import FastLanguageModel
from doitune.backends.loaded import LoadRequest; from doitune.backends import unsloth as backend, unsloth_load
from doitune.base.find import find_base
import sys
request = LoadRequest(find_base(sys.argv[1]))
said = on_cpu.options(request, torch.float16)
words = inspect.signature(FastLanguageModel.from_pretrained).bind(**said)
adapter = inspect.signature(FastLanguageModel.get_peft_model).bind(object(), **unsloth_load.adapter_options(request, ["q_proj"]))
source = "".join(path.read_text(encoding="utf-8") for package in (unsloth, unsloth_zoo) for path in Path(package.__file__).parent.rglob("*.py"))
names = [name for name in backend.ENVIRONMENT if name.startswith("UNSLOTH")] + ["UNSLOTH_COMPILE_LOCATION", "packed_seq_lengths", "_need_to_train_embeddings"]
print(json.dumps({
    "passed on": sorted(words.arguments.get("kwargs", {})), "adapter passed on": sorted(adapter.arguments.get("kwargs", {})),
    "unknown": [name for name in names if name not in source],
    "torch's own checkpoint": __import__("torch.utils.checkpoint", fromlist=["checkpoint"]).checkpoint.__module__,
}))
"""


def test_what_unsloth_is_told_it_understands(interpreter: Path, tmp_path: Path) -> None:
    """Trap: a word that a new release renames would be handed on to transformers, or an environment
    variable read by nobody."""
    make_tiny_base(tmp_path / "base")
    found = json.loads(run(interpreter, "-c", SIGNATURES, str(tmp_path / "base"), folder=tmp_path))
    assert found["passed on"] == ["local_files_only", "use_safetensors"] and found["adapter passed on"] == []
    assert found["unknown"] == []
