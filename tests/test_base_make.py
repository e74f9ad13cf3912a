"""`doitune base make` writes what merging and quantising in memory gives, in little memory, and survives
being killed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import QuantState, quantize_4bit
from safetensors.torch import load_file, save_file
from tiny_lora import ADDED, make_parts, merged_by_peft

from doitune.backends import hf
from doitune.backends.loaded import LoadRequest
from doitune.backends.tokenizer import load_tokenizer
from doitune.base import make
from doitune.base.assembly import open_assembly
from doitune.base.find import find_base
from doitune.base.folder import RECORD
from doitune.base.headers import ITEM_BYTES, read_header
from doitune.base.make import Made, Order, make_base
from doitune.base.nf4 import STATE, STATE_BYTES, nf4_bytes
from doitune.base.record import check_folder, read_record
from doitune.base.tensors import EMBEDDING
from doitune.base.tokens import read_tokens
from doitune.errors import DiskError, DoituneError, LockedError, ModelError, Stopped
from doitune.prompt.encoded import IGNORED, Encoded
from doitune.system.disk import file_sha256

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LLaMA and its language LoRA; the folders' name has a space and Chinese characters."""
    return make_parts(tmp_path_factory.mktemp("parts 零件"))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards and several pieces a tensor, though the base is tiny."""
    monkeypatch.setattr(make, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(make, "PIECE", 1_000)


def order(parts: tuple[Path, ...], out: Path, to: str = "nf4") -> Order:
    base, *loras = parts
    assembly = open_assembly(base, [(path.name, path) for path in loras])
    tokens = read_tokens(parts, assembly.vocabulary)
    return Order("tiny", assembly, tokens.files, to, out, ())


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All that the weights files of a folder hold."""
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def in_memory(merged: dict[str, torch.Tensor], to: str) -> dict[str, torch.Tensor]:
    """What the folder is to hold: the linear layers quantised whole by bitsandbytes, all else as it is."""
    found = {}
    for name, tensor in merged.items():
        if to == "nf4" and name.split(".")[-2] in LINEARS:
            packed, state = quantize_4bit(tensor.float(), compress_statistics=True, quant_type="nf4")
            state.dtype = tensor.dtype
            found[name] = packed
            found |= {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}
        else:
            found[name] = tensor
    return found


def same(made: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Bit for bit; the state's JSON but for blanks at its end."""
    assert made.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if name.endswith(STATE):
            assert json.loads(bytes(made[name].tolist())) == json.loads(bytes(tensor.tolist())), name
        else:
            assert made[name].dtype == tensor.dtype and torch.equal(made[name], tensor), name


@pytest.mark.parametrize("to", ["nf4", "bf16", "fp16"])
@pytest.mark.usefixtures("small_shards")
def test_it_is_what_merging_and_quantising_in_memory_gives(
    parts: tuple[Path, Path], tmp_path: Path, to: str
) -> None:
    """The trap: pieces, shards or our own merge change a bit. The other side is peft's merge and
    bitsandbytes' whole-matrix quantisation."""
    made = make_base(order(parts, tmp_path / "made", to))
    assert made.shards > 3 and made.kept_shards == 0
    merged = merged_by_peft(parts[0], [parts[1]], torch.bfloat16 if to == "bf16" else torch.float16)
    assert merged[EMBEDDING].shape[0] == 262 + ADDED
    same(tensors(made.folder), in_memory(merged, to))
    assert made.bytes == sum(path.stat().st_size for path in made.folder.glob("*.safetensors"))


@pytest.mark.parametrize(
    "lora",
    [{"use_rslora": True}, {"modules_to_save": None, "target_modules": ["q_proj", "down_proj"]}],
    ids=["rslora", "no rows of its own"],
)
def test_other_forms_of_lora(tmp_path: Path, lora: dict[str, Any]) -> None:
    """The trap: alpha / r where the adapter was trained with alpha / sqrt(r); a head that is looked for in
    an adapter without one."""
    base, adapter = make_parts(tmp_path, **lora)
    if lora.get("modules_to_save", ()) is None:
        (adapter / "adapter_model.safetensors").write_bytes(
            _without_embedding(adapter / "adapter_model.safetensors")
        )
        shutil.copy(base / "tokenizer.json", adapter)
    made = make_base(order((base, adapter), tmp_path / "made", "fp16"))
    same(tensors(made.folder), merged_by_peft(base, [adapter], torch.float16))


def _without_embedding(path: Path) -> bytes:
    """peft writes a resized embedding unasked; a LoRA without rows of its own has none."""
    from safetensors.torch import save

    return save({name: tensor for name, tensor in load_file(path).items() if "lora_" in name})


def test_two_loras_add_up_and_the_last_brings_the_rows(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """Chinese-Alpaca Plus is made so: both adapters' layers, the second's embedding and head."""
    _, second = make_parts(tmp_path / "second", seed=5)
    made = make_base(order((*parts, second), tmp_path / "made"))
    same(tensors(made.folder), in_memory(merged_by_peft(parts[0], [parts[1], second], torch.float16), "nf4"))


def test_it_loads_as_the_merged_base_quantised_on_the_fly(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """The backend's model from the pre-quantised folder answers as from the merged 16-bit folder, to the
    bit, and can be trained."""
    paths = [make_base(order(parts, tmp_path / to, to)).folder for to in ("nf4", "fp16")]
    rows = [Encoded((1, 70, 80, 90, 262 + ADDED - 1), (IGNORED, IGNORED, 80, 90, 262 + ADDED - 1))]
    from doitune.prompt.batch import pad

    losses = []
    for path in paths:
        model = hf.load(LoadRequest(find_base(str(path)), rank=4, seed=3))
        layer = model.base.model.layers[0].mlp.up_proj.base_layer
        assert layer.compute_dtype == torch.float32 and layer.weight.quant_state.dtype == torch.float32, (
            "bf16 is 180 times slower on a CPU"
        )
        loss = model.loss(pad(rows), 3).value
        loss.backward()
        losses.append(loss.item())
        assert any(
            parameter.grad is not None and bool(parameter.grad.any()) for _, parameter in model.trainable()
        )
        assert load_tokenizer(path).convert_ids_to_tokens(262 + ADDED - 1) == chr(ord("一") + ADDED - 1)
    assert losses[0] == losses[1]


def test_a_base_in_four_bits_is_not_taken_for_sixteen(parts: tuple[Path, Path], tmp_path: Path) -> None:
    made = make_base(order(parts, tmp_path / "made"))
    with pytest.raises(ModelError, match="in 4 bits already"):
        hf.load(LoadRequest(find_base(str(made.folder)), quantise="none", rank=4))
    with pytest.raises(ModelError, match="quantised already"):
        open_assembly(made.folder, [])


def test_bin_files_give_the_same_bytes(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """LLaMA and its LoRAs of 2023: pytorch_model-*.bin with rotary buffers, adapter_model.bin with the
    names of the first peft."""
    old, lora = tmp_path / "old", tmp_path / "old lora"
    shutil.copytree(parts[0], old)
    shutil.copytree(parts[1], lora)
    weights = load_file(old / "model.safetensors") | {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)
    }
    (old / "model.safetensors").unlink()
    names = sorted(weights)
    for number, group in enumerate((names[:9], names[9:]), 1):
        torch.save({name: weights[name] for name in group}, old / f"pytorch_model-{number:05d}-of-00002.bin")
    factors = load_file(lora / "adapter_model.safetensors")
    (lora / "adapter_model.safetensors").unlink()
    torch.save(
        {
            name.replace(".weight", ".default.weight") if "lora_" in name else name: one
            for name, one in factors.items()
        },
        lora / "adapter_model.bin",
    )
    config = json.loads((lora / "adapter_config.json").read_text())
    keys = ("peft_type", "r", "lora_alpha", "target_modules", "modules_to_save", "fan_in_fan_out", "bias")
    (lora / "adapter_config.json").write_text(
        json.dumps({key: config[key] for key in keys} | {"merge_weights": False, "enable_lora": None})
    )
    made = [
        make_base(order(pair, tmp_path / name)).folder
        for pair, name in ((parts, "new"), ((old, lora), "from bin"))
    ]
    assert file_sha256(made[0] / "model.safetensors") == file_sha256(made[1] / "model.safetensors")


def test_the_files_can_be_mapped_and_read_by_others(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """Every number lies at a multiple of its size; bitsandbytes reads the states back; sizes were known
    before."""
    made = make_base(order(parts, tmp_path / "made"))
    stored = read_header(made.folder / "model.safetensors")
    assert all(one.start % ITEM_BYTES[one.dtype] == 0 for one in stored.values())
    name = "model.layers.1.mlp.down_proj.weight"
    found = tensors(made.folder)
    state = QuantState.from_dict(
        {key.removeprefix(f"{name}."): one for key, one in found.items() if key.startswith(f"{name}.")},
        torch.device("cpu"),
    )
    assert state.nested and state.shape == (64, 128) and state.dtype == torch.float16
    size = sum(one.end - one.start for key, one in stored.items() if key.startswith(name))
    assert 0 <= nf4_bytes(64 * 128) + STATE_BYTES - size < 256


def run_killed(wanted: Order, at: int, place: str = "report") -> int:
    """Make it in a process of its own that is killed (SIGKILL) at its `at`-th arrival at `place`; its exit
    status.

    Places: a report of progress; `doitune.base.find.MODULE.FUNCTION`, before it is called.
    """
    child = os.fork()
    if child == 0:
        seen = 0

        def arrive(*arguments: Any, then: Callable[..., Any] | None = None) -> Any:
            nonlocal seen
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return then(*arguments) if then else None

        try:
            if place != "report":
                module, function = (
                    importlib.import_module(f"doitune.base.{place.split('.')[0]}"),
                    place.split(".")[1],
                )
                setattr(module, function, partial(arrive, then=getattr(module, function)))
            make_base(wanted, arrive if place == "report" else None)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.usefixtures("small_shards")
def test_killed_anywhere_it_goes_on_to_the_same_bytes(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """The trap: a shard that was half written, or one of other parts, becomes a piece of the base."""
    whole = make_base(order(parts, tmp_path / "whole"))
    wanted = {path.name: file_sha256(path) for path in whole.folder.iterdir()}
    kept = []
    for at in (1, 4, 9, 14, 19, 24):
        out = tmp_path / f"killed {at}"
        assert os.WIFSIGNALED(run_killed(order(parts, out), at)) and not out.exists()
        made = make_base(order(parts, out))
        kept.append(made.kept_shards)
        assert {path.name: file_sha256(path) for path in out.iterdir()} == wanted
    assert kept[0] == 0 and kept == sorted(kept) and kept[-1] > kept[1] > 0
    assert not list(tmp_path.glob(".*")), "staging folder, journal or lock is left"


@pytest.mark.parametrize(
    ("place", "at", "kept"),
    [
        ("journal.sync_folder", 3, 2),
        ("journal.write_json", 4, 2),
        ("make.write_record", 1, 6),
        ("make.rename", 1, 6),
        ("make.sync_folder", 2, 6),
    ],
)
@pytest.mark.usefixtures("small_shards")
def test_killed_between_two_steps_of_the_writer(
    parts: tuple[Path, Path], tmp_path: Path, place: str, at: int, kept: int
) -> None:
    """A shard has its name but is not in the journal; the folder is whole but has no name, or has it and
    the journal is still there."""
    wanted = make_base(order(parts, tmp_path / "whole")).folder
    out = tmp_path / "made"
    assert os.WIFSIGNALED(run_killed(order(parts, out), at, place))
    assert make_base(order(parts, out)).kept_shards == kept
    assert {path.name: file_sha256(path) for path in out.iterdir()} == {
        path.name: file_sha256(path) for path in wanted.iterdir()
    }
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("small_shards")
def test_several_kills_in_one_making(parts: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "made"
    for _ in range(3):  # each time one shard more is finished, and the next has its name
        assert os.WIFSIGNALED(run_killed(order(parts, out), 3, "journal.write_json"))
    assert make_base(order(parts, out)).kept_shards == 3
    same(tensors(out), in_memory(merged_by_peft(parts[0], [parts[1]], torch.float16), "nf4"))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_or_foreign_shard_is_made_again(parts: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "made"
    run_killed(order(parts, out), 19)
    staging = tmp_path / ".made.part"
    done = sorted(path for path in staging.glob("*.safetensors"))
    assert len(done) > 2
    _flip(done[0])
    (staging / "extra.json").write_text("{}")
    made = make_base(order(parts, out))
    assert made.kept_shards == len(done) - 1
    same(tensors(out), in_memory(merged_by_peft(parts[0], [parts[1]], torch.float16), "nf4"))
    assert not (out / "extra.json").exists()


@pytest.mark.usefixtures("small_shards")
def test_other_parts_start_again(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """The trap: shards of the old LoRA and of the new one in one base."""
    out = tmp_path / "made"
    run_killed(order(parts, out), 14)
    _, other = make_parts(tmp_path / "other", seed=7)
    made = make_base(order((parts[0], other), out))
    assert made.kept_shards == 0
    same(tensors(out), in_memory(merged_by_peft(parts[0], [other], torch.float16), "nf4"))


def test_a_whole_base_is_left_alone_and_another_is_not_overwritten(
    parts: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "made"
    first = make_base(order(parts, out))
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert make_base(order(parts, out)) == Made(out, first.bytes, 1, 1)
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(ModelError, match=r"is there already.*: it holds .* in nf4, and not .* in bfloat16$"):
        make_base(order(parts, out, "bf16"))
    assert before == {path.name: path.stat().st_mtime_ns for path in out.iterdir()}


@pytest.mark.usefixtures("small_shards")
def test_an_interrupt_keeps_what_is_finished(parts: tuple[Path, Path], tmp_path: Path) -> None:
    seen = 0

    def on_progress(progress: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 14:
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="are kept") as caught:
        make_base(order(parts, tmp_path / "made"), on_progress)
    assert caught.value.exit_code == 130
    assert make_base(order(parts, tmp_path / "made")).kept_shards > 0


def test_two_makers_of_one_base(parts: tuple[Path, Path], tmp_path: Path) -> None:
    met = []

    def on_progress(progress: object) -> None:
        if not met:
            met.append(True)
            with pytest.raises(LockedError):
                make_base(order(parts, tmp_path / "made"))

    make_base(order(parts, tmp_path / "made"), on_progress)
    assert met


def test_room_is_asked_for_before_a_byte_is_written(
    parts: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))  # type: ignore[attr-defined]
    with pytest.raises(DiskError, match="are needed") as caught:
        make_base(order(parts, tmp_path / "made"))
    assert "--out" in caught.value.hint and caught.value.exit_code == 74
    assert not list(tmp_path.rglob("*.safetensors*"))
    assert not list(tmp_path.glob(".made*")), "a refusal leaves nothing behind"


def test_the_record_says_what_it_was_made_of(parts: tuple[Path, Path], tmp_path: Path) -> None:
    made = make_base(order(parts, tmp_path / "made"))
    record = read_record(made.folder)
    assert record is not None and record["made"] == "assembled"
    assert {one["sha256"] for one in record["from"]["weights"]} == {
        file_sha256(parts[0] / "model.safetensors"), file_sha256(parts[1] / "adapter_model.safetensors"),
    }  # fmt: skip
    assert record["files"]["model.safetensors"]["sha256"] == file_sha256(made.folder / "model.safetensors")
    assert record["from"]["versions"]["torch"] == torch.__version__
    report = check_folder(made.folder)
    assert report.compared_with == "record" and not report.differences
    assert RECORD not in find_base(str(made.folder)).sha256(), "the record is no part of the model's identity"
    config = json.loads((made.folder / "config.json").read_text())
    assert (
        config["vocab_size"] == 262 + ADDED
        and config["dtype"] == "float16"
        and (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    )


def _edit(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    found = load_file(path)
    change(found)
    save_file(found, path)


def _config(folder: Path, name: str, **fields: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")


WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
DOWN = "model.layers.1.mlp.down_proj.weight"
FACTOR = f"base_model.model.{DOWN.removesuffix('.weight')}.lora_A.weight"
WRONG: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "base: a tensor is missing": (lambda b, a: _edit(b / WEIGHTS, lambda t: t.pop(DOWN)), f"{DOWN} is missing"),
    "base: one too many": (lambda b, a: _edit(b / WEIGHTS, lambda t: t.update({"model.layers.2.x": torch.ones(2)})), "layers.2.x is no tensor of such"),
    "base: another size": (lambda b, a: _config(b, "config.json", intermediate_size=96), "up_proj.weight is 128 x 64, not 96 x 64"),
    "base: whole numbers": (lambda b, a: _edit(b / WEIGHTS, lambda t: t.update({DOWN: torch.ones(64, 128, dtype=torch.int8)})), "of type I8"),
    "base: truncated": (lambda b, a: (b / WEIGHTS).write_bytes((b / WEIGHTS).read_bytes()[:-7]), "not a whole safetensors file"),
    "base: not a LLaMA": (lambda b, a: _config(b, "config.json", model_type="gpt2"), "gpt2"),
    "base: quantised": (lambda b, a: _config(b, "config.json", quantization_config={"quant_method": "gptq"}), "quantised already"),
    "base: no weights": (lambda b, a: (b / WEIGHTS).unlink(), "holds no model.safetensors"),
    "base: Meta's files": (lambda b, a: (b / WEIGHTS).rename(b / "consolidated.00.pth"), "holds no model.safetensors"),
    "lora: of another size": (lambda b, a: _edit(a / ADAPTER, lambda t: t.update({FACTOR: torch.ones(4, 96)})), "is 64 x 96, this base needs 64 x 128"),
    "lora: another rank": (lambda b, a: _config(a, "adapter_config.json", r=8), "not of rank 8"),
    "lora: half a pair": (lambda b, a: _edit(a / ADAPTER, lambda t: t.pop(FACTOR)), "has one factor of two"),
    "lora: deeper": (
        lambda b, a: _edit(a / ADAPTER, lambda t: t.update({name.replace("layers.1", "layers.7"): one.clone() for name, one in t.items()})), "does not have",
    ),
    "lora: no head": (lambda b, a: _edit(a / ADAPTER, lambda t: [t.pop(name) for name in [*t] if "lm_head" in name]), "lm_head.weight is 262 x 64, not 273 x 64"),
    "lora: dora": (lambda b, a: _config(a, "adapter_config.json", use_dora=True), "use_dora is True"),
    "lora: the other way round": (lambda b, a: _config(a, "adapter_config.json", fan_in_fan_out=True), "fan_in_fan_out is True"),
    "lora: no rank": (lambda b, a: _config(a, "adapter_config.json", r="four"), "r is 'four'"),
    "lora: no config": (lambda b, a: (a / "adapter_config.json").unlink(), "no language adapter"),
    "lora: something else": (lambda b, a: _edit(a / ADAPTER, lambda t: t.update({"x.lora_magnitude": torch.ones(2)})), "no part of a plain LoRA"),
    "tokens: another model's": (lambda b, a: _config(a, "tokenizer.json", added_tokens=[{"id": 300, "content": "x"}]), "has 301 tokens, the embedding has 273 rows"),
    "tokens: none": (lambda b, a: [(folder / "tokenizer.json").unlink() for folder in (a, b)], "holds a tokenizer"),
    "tokens: broken": (lambda b, a: (a / "tokenizer.json").write_text("[]"), "not readable"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_parts_are_refused_before_a_byte_is_written(
    parts: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    base, lora = (Path(shutil.copytree(path, tmp_path / path.name)) for path in parts)
    spoil, problem = WRONG[name]
    spoil(base, lora)
    with pytest.raises(ModelError) as caught:
        make_base(order((base, lora), tmp_path / "made"))
    assert problem in caught.value.problem and caught.value.hint and caught.value.exit_code == 65
    assert not [path for path in tmp_path.iterdir() if "made" in path.name]


def test_values_that_are_not_finite_never_reach_a_base(parts: tuple[Path, Path], tmp_path: Path) -> None:
    """bf16 holds what fp16 cannot: an infinite weight would be NaN at the first token."""
    base = Path(shutil.copytree(parts[0], tmp_path / "base"))
    _edit(
        base / WEIGHTS,
        lambda found: found.update({"model.norm.weight": torch.full((64,), 1e6, dtype=torch.bfloat16)}),
    )
    with pytest.raises(ModelError, match=r"model\.norm\.weight has values that are not finite"):
        make_base(order((base, parts[1]), tmp_path / "made", "fp16"))
    assert not (tmp_path / "made").exists()


class Bomb:
    """A pickle that runs a command when it is opened by a reader that runs what it reads."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def _bombs(canary: Path) -> list[Any]:
    import builtins
    import importlib
    import subprocess

    script = f"open({str(canary)!r}, 'w').close()"
    shell = f"touch '{canary}'"
    tensor = torch.ones(2)
    return [
        Bomb(os.system, shell), Bomb(os.popen, shell), Bomb(builtins.exec, script), Bomb(builtins.eval, f"__import__('os').system({shell!r})"),
        Bomb(subprocess.call, ["touch", str(canary)]), Bomb(subprocess.Popen, ["touch", str(canary)]), Bomb(builtins.open, str(canary), "w"),
        Bomb(importlib.import_module, "antigravity"), Bomb(shutil.copyfile, __file__, str(canary)), Bomb(Path.touch, canary),
        {"model.norm.weight": tensor, "x": Bomb(os.system, shell)}, {"model.norm.weight": [tensor, Bomb(os.mkdir, str(canary))]},
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin"])
def test_a_pickle_that_runs_something_is_refused_unrun(
    parts: tuple[Path, Path], tmp_path: Path, name: str, number: int
) -> None:
    """The only place of doitune that opens a pickle. The bomb is real: the plain reader sets it off below."""
    base, lora = (Path(shutil.copytree(path, tmp_path / path.name)) for path in parts)
    for path in [base / WEIGHTS] if name == "pytorch_model.bin" else [lora / ADAPTER]:
        path.unlink()
    canary = tmp_path / "canary"
    bombs = _bombs(canary)
    assert len(bombs) == 12
    torch.save(bombs[number], (base if name == "pytorch_model.bin" else lora) / name)
    with pytest.raises(ModelError, match="nothing of it was run"):
        make_base(order((base, lora), tmp_path / "made"))
    assert not canary.exists()


def test_the_bombs_are_real(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save(_bombs(canary)[0], tmp_path / "bomb.bin")
    torch.load(tmp_path / "bomb.bin", weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("kind", ["legacy", "text", "list", "numbers", "cut"])
def test_bin_files_that_are_no_table_of_tensors(tmp_path: Path, kind: str) -> None:
    from doitune.base.pickled import open_pickled

    path = tmp_path / "x.bin"
    if kind == "legacy":
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1")
    else:
        torch.save({"list": [torch.ones(2)], "numbers": {"a": 1}}.get(kind, {"a": torch.ones(1000)}), path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError) as caught:
        open_pickled(path)
    assert caught.value.hint


def test_an_old_torch_opens_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from doitune.base.pickled import open_pickled

    torch.save({"a": torch.ones(2)}, tmp_path / "x.bin")
    assert open_pickled(tmp_path / "x.bin")["a"].tolist() == [1, 1]
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    with pytest.raises(DoituneError, match="known holes"):
        open_pickled(tmp_path / "x.bin")
