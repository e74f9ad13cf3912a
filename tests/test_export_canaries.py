"""What leaves this machine says nothing of it: no secret and no path of it is in any byte of any export."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from test_own_template import TUNED, base_with

from doitune.evals.request import Request
from doitune.evals.targets import evaluate_target
from doitune.export.adapter import export_adapter
from doitune.export.gguf import export as exporting
from doitune.export.gguf import lora
from doitune.export.merged import Wish
from doitune.recipe.resolve import resolve
from doitune.run.folder import Run
from doitune.run.layout import RECIPE
from doitune.selftest.world import make_world
from doitune.system import secrets
from doitune.train.session import start

PATHS = ("canary-home", "canary-bases", "canary-rows", "canary-runs", "canary-author")
"""Folders on the way to home, base, corpus and runs, and that of the base's author, as its files name it."""
SECRETS = {
    "HF_TOKEN": "hf_" + "Q" * 34,
    "WANDB_API_KEY": "canary0123456789wandb",
    "MY_SERVICE_TOKEN": "canary0123456789service",
}
USER_INFO = "reader:canary0123456789address"
PLANTED = (*PATHS, *SECRETS.values(), "canary0123456789address")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Iterator[Run]:
    """Trained and asked at home, on a base and rows in folders below it."""
    home = tmp_path_factory.mktemp("x") / "canary-home"
    rows = make_world(home / "canary-rows").recipe.parent / "corpus"
    base = base_with(home / "canary-bases" / "mine", tiny_base, TUNED)
    _name_places(base)
    recipe = home / "own.yaml"
    recipe.write_text(_recipe(base, rows), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SECRETS, "HOME": str(home)}.items():
            patch.setenv(name, value)
        secrets.known.cache_clear()
        runs = home / "canary-runs"
        found = start(resolve(str(recipe)), runs=runs, scorer=None, on_event=lambda event: None)
        evaluate_target(str(found.folder), Request(("doit-valid",)), runs=runs, on_progress=lambda *_: None)
        yield found
    secrets.known.cache_clear()


def _name_places(base: Path) -> None:
    """Write into a base's files where its author had it, as older libraries do."""
    author = "/home/canary-author/models/x"
    for name, more in (
        ("config.json", {"_name_or_path": author}),
        ("tokenizer_config.json", {"name_or_path": author, "tokenizer_file": author, "vocab_file": author}),
    ):
        path = base / name
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **more}), encoding="utf-8")
    weights = base / "model.safetensors"
    save_file(
        load_file(weights), weights, metadata={"format": "pt", "from": author, "key": SECRETS["HF_TOKEN"]}
    )
    (base / "README.md").write_text(f"---\nlicense: {SECRETS['HF_TOKEN']}\n---\n", encoding="utf-8")


def _recipe(base: Path, rows: Path) -> str:
    note = f"from https://{USER_INFO}@example.org/{SECRETS['MY_SERVICE_TOKEN']}"
    return (
        f"summary: {json.dumps(note)}\nmodel:\n  name: {json.dumps(str(base))}\n  note: {json.dumps(note)}\n"
        f"lora:\n  rank: 4\n  alpha: 8\ndata:\n  corpus: {json.dumps(str(rows))}\n  budget:\n    biology: 8\n    history: 8\n"
        "train:\n  examples_per_step: 4\n  epochs: 2\n  learning_rate: 1e-2\n  max_tokens: 256\n"
        "  validation_rows_per_ability: 2\n  trackers: [tensorboard]\n"
    )


def _measured(path: Path, kind: str, *given: Any) -> dict[str, Any]:
    """What llama.cpp would have said (`test_export_gguf.py` asks it itself)."""
    pair = {"agreement": 1.0, "kl_nats": 0.0, "most_kl_nats": 0.0}
    prompt = {"chats": 5, "equal": True}
    return {"quant": kind, "same": True, "problems": [], "prompt": prompt, "parity": pair, "evaluation": None}


def test_no_secret_and_no_path_is_in_any_export(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(exporting, "measure_file", _measured)
    monkeypatch.setattr(exporting, "why_no_reader", lambda: "")
    monkeypatch.setattr(exporting.Bench, "of", lambda *given: SimpleNamespace(clear=lambda: None))
    monkeypatch.setattr(lora, "measure_file", _measured)
    out = tmp_path / "out"
    export_adapter(run, out / "adapter", on_note=lambda text: None)
    found = exporting.export_gguf(exporting.Files(Wish(run, out, questions=2), ("f16", "q8_0"), ollama=True))
    assert found.same and lora.export_lora(Wish(run, out / "gguf-adapter", questions=2)).same
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {
        "adapter/README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "adapter/export.json",
        "merged/README.md", "merged/config.json", "merged/doitune-base.json", "merged/export.json",
        "merged/model.safetensors", "merged/tokenizer_config.json", "gguf/README.md", "gguf/Modelfile",
        "gguf/export.json", "gguf/model-f16.gguf", "gguf/model-q8_0.gguf", "gguf-adapter/README.md", "gguf-adapter/base-f16.gguf", "gguf-adapter/adapter-f32.gguf",
    } <= {str(path.relative_to(out)) for path in files}  # fmt: skip
    hits = [(path.name, one) for path in files for one in PLANTED if one.encode() in path.read_bytes()]
    assert not hits
    config = json.loads((out / "merged" / "tokenizer_config.json").read_text("utf-8"))
    assert config["chat_template"] == TUNED, "a template in a file of its own is where TGI looks, too"


def test_the_canaries_are_where_an_export_starts_from(run: Run) -> None:
    """Trap: a search for what was never there. The run itself names its places, for whoever resumes it."""
    recipe = (run.folder / RECIPE).read_text("utf-8")
    assert all(one in recipe for one in ("canary-home", "canary-bases", "canary-rows"))
    base = Path(str(resolve(str(run.folder / RECIPE)).recipe.model.name))
    header = (base / "model.safetensors").read_bytes()
    assert b"canary-author" in header[8 : 8 + struct.unpack("<Q", header[:8])[0]]
    assert all(one in secrets.known() for one in SECRETS.values())
    assert all(secrets.redact(one) == secrets.MARK for one in SECRETS.values())
