"""What only a card can show of the unsloth backend: bf16 kernels, offloaded checkpoints, packed rows, and
hf's losses beside its own.

The two backends never share a process, so each is measured in one of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from conftest import make_tiny_base

if not torch.cuda.is_available():
    pytest.skip("this machine has no CUDA card", allow_module_level=True)
try:
    metadata.version("unsloth")
except metadata.PackageNotFoundError:
    pytest.skip("the gpu extra is not installed here (pip install 'doitune[gpu]')", allow_module_level=True)

ROOT = Path(__file__).parents[2]

MEASURE = """
import json, random, sys
from pathlib import Path
import torch
from doitune.backends.loaded import LoadRequest
from doitune.backends.pick import begin, pick_backend
from doitune.base.find import find_base
from doitune.prompt.batch import flatten, pad, trained_tokens
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.train.packing import prove_packing
name, base, folder, fields = sys.argv[1], find_base(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
begin(name, base)
dice = random.Random(0)
top = 262 + fields.get("new_rows", 0)
def example(length):
    ids = tuple(dice.randrange(6, top) for _ in range(length))
    return Encoded(ids, (*[IGNORED] * (length // 2), *ids[length // 2:]))
rows = [example(length) for length in (9, 17, 31, 54, 80, 23, 120)]
model = pick_backend(name, base)[1].load(LoadRequest(base, rank=4, alpha=8.0, seed=3, **fields))
first = folder / "first"
if first.exists():
    model.load_adapter(first)
else:
    first.mkdir(parents=True)
    model.save_adapter(first)
proof = prove_packing(model, rows)
model.training(True)
optimiser = torch.optim.AdamW([parameter for _, parameter in model.trainable()], lr=5e-3)
losses, total = [], trained_tokens(rows)
for step in range(20):
    loss = model.loss((flatten if proof.exact else pad)(rows), total)
    loss.value.backward()
    losses.append(float(loss.value.detach()))
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
model.training(False)
after = folder / "after"
if after.exists():
    model.load_adapter(after)
else:
    after.mkdir()
    model.save_adapter(after)
with torch.no_grad():
    sums = model.loss(pad(rows), 1).sums.tolist()
letters = model.logits(pad(rows), [10, 11, 12, 13]).float()
replies = [list(reply.ids) for reply in model.generate([row.ids for row in rows], max_new_tokens=6, stop_ids=(2,))]
print(json.dumps({
    "losses": losses, "packed": proof.exact, "proof": str(proof), "sums": sums, "letters": letters.tolist(), "replies": replies,
    "trained": [key for key, _ in model.trainable()], "device": str(model.device),
}))
"""


def measured(name: str, base: Path, folder: Path, **fields: object) -> dict[str, list[float]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", MEASURE, name, str(base), str(folder), json.dumps(fields)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"gradient_checkpointing": True},
        {"new_rows": 3},
        {"quantise": "none"},
        {"dropout": 0.1, "gradient_checkpointing": True},
    ],
    ids=["nf4", "offloaded", "new rows", "16 bits", "dropout"],
)
def test_unsloth_learns_as_hf_does(tmp_path: Path, fields: dict[str, object]) -> None:
    """From the same adapter, 20 steps: losses within 2 %; afterwards, with one adapter in both, the same
    losses and the same letters."""
    make_tiny_base(tmp_path / "base", tied=False)
    ours, theirs = (
        measured(name, tmp_path / "base", tmp_path / "adapters", **fields) for name in ("unsloth", "hf")
    )
    assert ours["packed"], ours["proof"]
    assert ours["losses"][-1] < 0.98 * ours["losses"][0]
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=0.02)
    assert ours["trained"] == theirs["trained"]
    assert ours["sums"] == pytest.approx(theirs["sums"], rel=0.02)
    mine, other = (torch.tensor(one["letters"]) for one in (ours, theirs))
    gaps = other.topk(2).values.diff().abs()[:, 0] > 0.05  # closer than that is rounding
    assert gaps.any() and torch.equal(mine.argmax(-1)[gaps], other.argmax(-1)[gaps])


def test_offloaded_checkpoints_change_no_gradient(tmp_path: Path) -> None:
    """In fp32, with dropout: recomputed activations have to meet the mask of the first pass."""
    make_tiny_base(tmp_path / "base", tied=False)
    fields = {"compute_dtype": "fp32", "dropout": 0.2}
    plain = measured("unsloth", tmp_path / "base", tmp_path / "adapters", **fields)
    offloaded = measured(
        "unsloth", tmp_path / "base", tmp_path / "adapters", gradient_checkpointing=True, **fields
    )
    assert offloaded["losses"] == pytest.approx(plain["losses"], rel=1e-4)


RECOVER = """
import sys
from pathlib import Path
import torch
from doitune.backends.loaded import LoadedModel
from doitune.recipe.resolve import resolve
from doitune.train.session import start
asked = []
def fail_once(self, batch, trained_tokens, own=None):
    asked.append(batch)
    if len(asked) == int(sys.argv[3]):
        raise torch.OutOfMemoryError("asked for by the test")
    return own(self, batch, trained_tokens)
def listen(event):
    if "held" in getattr(event, "text", ""):
        from doitune.backends.unsloth_model import UnslothModel
        UnslothModel.loss = lambda self, batch, tokens, own=UnslothModel.loss: fail_once(self, batch, tokens, own)
overrides = ["model.backend=unsloth", "train.max_steps=4", "lora.dropout=0", "train.validation_rows_per_ability=0"]
run = start(resolve(sys.argv[1], overrides=overrides), runs=Path(sys.argv[2]), scorer=None, on_event=listen)
print(run.checkpoints.all()[-1].folder)
"""


def test_a_lack_of_memory_changes_no_result(tiny_recipe: Path, tmp_path: Path) -> None:
    """The same weights within bf16's rounding, and the event is logged."""
    from safetensors.torch import load_file

    folders = []
    for name, at in (("through", "0"), ("short", "12")):
        words = [sys.executable, "-c", RECOVER, str(tiny_recipe), str(tmp_path / name), at]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        folders.append(Path(done.stdout.strip().splitlines()[-1]))
    metrics = (folders[1].parents[1] / "metrics.jsonl").read_text(encoding="utf-8")
    assert '"out_of_memory"' in metrics
    through, short = (load_file(folder / "adapter_model.safetensors") for folder in folders)
    assert through and set(through) == set(short)
    for name, tensor in through.items():
        assert float((tensor - short[name]).norm() / tensor.norm().clamp(min=1e-6)) < 0.05, name
