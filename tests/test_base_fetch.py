"""A base comes whole from the hub, whatever the line does, is recorded, and `base check` sees every byte
that changes afterwards."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS
from safetensors.torch import save
from small_hub import COMMIT, SmallHub, serving

from doitune.base.headers import read_header
from doitune.base.record import check_folder, write_record
from doitune.errors import ModelError

NAME = "someone/small-llama"


@pytest.fixture
def hub(tmp_path: Path, tiny_base: Path) -> Iterator[SmallHub]:
    """A hub with the tiny base, and with files beside it that are never taken."""
    files = {path.name: path.read_bytes() for path in tiny_base.iterdir()}
    more = {
        "modeling_x.py": b"raise SystemExit",
        "training_args.bin": b"x",
        "consolidated.safetensors": b"x" * 9000,
        "original/params.json": b"{}",
    }
    with serving(SmallHub({**files, **more}, repository=NAME, kind="models")) as served:
        yield served


def run(
    hub: SmallHub, folder: Path, *arguments: str, offline: bool = False
) -> tuple[int, dict[str, Any], str]:
    """A command in a process of its own, as HF_ENDPOINT is read when the hub's client is imported: exit
    code, JSON document, notes."""
    env = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "1" if offline else "0", "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "doitune", "base", *arguments, "--json"],
        capture_output=True,
        text=True,
        env=env,
        cwd=folder,
        timeout=HANGS,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_base_is_fetched_recorded_and_checked(hub: SmallHub, tmp_path: Path) -> None:
    code, found, notes = run(hub, tmp_path, "fetch", NAME)
    assert code == 0 and found["revision"] == COMMIT
    assert "0.4 MiB" in notes and COMMIT[:12] in notes
    folder = Path(found["folder"])
    assert {path.name for path in folder.iterdir()} - {"doitune-base.json"} == {
        name for name in hub.files if name.startswith(("config", "generation", "model.", "tokenizer"))
    }
    assert json.loads((folder / "doitune-base.json").read_text())["revision"] == COMMIT
    code, report, _ = run(hub, tmp_path, "check", NAME, offline=True)
    assert code == 0, (report, "what was fetched is found without the hub")
    assert report["whole"] and report["compared_with"] == "record"
    weights = (folder / "model.safetensors").resolve()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x55")
    code, report, _ = run(hub, tmp_path, "check", NAME, offline=True)
    assert code == 65 and [one["file"] for one in report["differences"]] == ["model.safetensors"]
    (folder / "doitune-base.json").unlink()
    code, report, _ = run(hub, tmp_path, "check", NAME, offline=True)
    assert code == 65 and report["compared_with"] == "hub" and "digest" in report["differences"][0]["problem"]
    code, found, _ = run(hub, tmp_path, "fetch", NAME)
    assert code == 0, "a damaged file in the cache is fetched again"
    assert not check_folder(folder).differences


def test_a_broken_line_and_changed_bytes(hub: SmallHub, tmp_path: Path) -> None:
    hub.flip["model.safetensors"] = 1
    code, found, _ = run(hub, tmp_path, "fetch", NAME)
    assert code == 0 and not check_folder(Path(found["folder"])).differences
    hub.flip["model.safetensors"] = 9
    own = tmp_path / "own 目录"
    own.mkdir()
    code, found, _ = run(hub, own, "fetch", NAME)
    assert code == 65 and "damaged twice" in found["problem"]


@pytest.mark.parametrize(
    ("arguments", "offline", "problem", "hint"),
    [
        (("fetch", NAME), True, "HF_HUB_OFFLINE", "unset it"),
        (("fetch", "nobody/nothing"), False, "no model", "check the name"),
        (("fetch", NAME, "--revision", "gone"), False, "no revision 'gone'", "--revision"),
        (("fetch", "33b"), False, "may not be published whole", "doitune base make 33b --from LLAMA"),
        (("fetch", "demo"), False, "on this disk already", "base check"),
        (("fetch", "12b"), False, "neither a known model nor a hub name", "33b"),
        (("check", "33b"), True, "no base '33b' on this disk", "doitune base make 33b --from LLAMA"),
        (("check", "a/b"), True, "no base 'a/b' on this disk", "doitune base fetch a/b"),
        (("make", "12b", "--from", "."), True, "no model recipe `12b`", "33b"),
        (("make", "33b", "--from", "./nothing"), True, "no folder './nothing'", "hub name"),
        (("make", "7b", "--from", "."), True, "no folder of yours", "--out"),
        (("make", "33b", "--from", ".", "--to", "int8"), True, "--to 'int8'", "nf4"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(
    hub: SmallHub, tmp_path: Path, arguments: tuple[str, ...], offline: bool, problem: str, hint: str
) -> None:
    code, found, _ = run(hub, tmp_path, *arguments, offline=offline)
    assert code in (2, 65) and problem in found["problem"] and hint in found["hint"], found


def test_a_repository_of_pickles_is_no_base_but_a_part(hub: SmallHub, tmp_path: Path) -> None:
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")
    hub.files.pop("consolidated.safetensors")
    code, found, _ = run(hub, tmp_path, "fetch", NAME)
    assert code == 65 and "can run code" in found["problem"] and "base make" in found["hint"]
    assert not hub.got("pytorch_model.bin")


def test_the_list_names_every_model_and_asks_no_hub(hub: SmallHub, tmp_path: Path) -> None:
    code, found, _ = run(hub, tmp_path, "list")
    states = {one["name"]: one for one in found["bases"]}
    assert code == 0 and {"7b", "13b", "33b", "demo"} <= states.keys()
    assert states["demo"]["state"] == "whole" and states["33b"]["get"] == "doitune base make 33b --from LLAMA"
    assert not hub.asked


@pytest.fixture
def recorded(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base with its record."""
    import shutil

    copy = Path(shutil.copytree(tiny_base, tmp_path / "base 模型"))
    write_record(copy, {"made": "assembled"})
    assert not check_folder(copy).differences
    return copy


@pytest.mark.parametrize("change", ["flip", "cut", "gone", "more"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_every_change_is_seen(recorded: Path, name: str, change: str) -> None:
    path = recorded / name
    data = path.read_bytes()
    if change == "gone":
        path.unlink()
    elif change == "more":
        (recorded / f"more-{name}").write_bytes(data)
    else:
        path.write_bytes(data[:-1] + (bytes([data[-1] ^ 4]) if change == "flip" else b""))
    report = check_folder(recorded)
    assert report.differences and any(name in one.file or name in one.problem for one in report.differences)


def test_a_flipped_weight_is_seen_though_nothing_else_could(recorded: Path) -> None:
    """The trap: safetensors has no checksum."""
    path = recorded / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    read_header(path)
    assert [one.problem for one in check_folder(recorded).differences] == [
        "other bytes than recorded (sha256)"
    ]


def _file(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _entry(start: int, end: int, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": [1] if shape is None else shape, "data_offsets": [start, end]}


HEADERS = {
    "empty": b"", "short": b"\x01\x02", "huge": _file(b"{}", length=2**63), "over 100 MB": _file(b"{}", length=100_000_001), "longer than the file": _file(b"{}", length=400),
    "no JSON": _file(b"{nothing"), "a list": _file([1]), "deep": _file(b"[" * 100_000), "binary": _file(b"\xff\xfe\xfd"),
    "twice": _file(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
    "entry": _file({"a": 1}), "dtype": _file({"a": _entry(0, 4, dtype="F31")}, b"1234"), "outside": _file({"a": _entry(0, 400, [100])}, b"1234"),
    "negative": _file({"a": _entry(-4, 0)}, b"1234"), "backwards": _file({"a": _entry(4, 0)}, b"1234"), "overlap": _file({"a": _entry(0, 4), "b": _entry(0, 4)}, b"1234"),
    "hole": _file({"a": _entry(4, 8)}, b"12345678"), "tail": _file({"a": _entry(0, 4)}, b"12345"), "shape": _file({"a": _entry(0, 4, [2])}, b"1234"),
    "huge shape": _file({"a": _entry(0, 4, [2**61, 2**61, 2**61])}, b"1234"), "true": _file({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, b"1234"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(HEADERS))
def test_a_bad_header_is_one_clear_message(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(HEADERS[name])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        read_header(path)


def test_headers_of_the_library_are_read_as_it_wrote_them(tmp_path: Path) -> None:
    import torch

    tensors = {
        "b": torch.ones(3, 2, dtype=torch.bfloat16),
        "a": torch.ones(5),
        "none": torch.ones(0, 4),
        "one": torch.tensor(1.0),
    }
    (tmp_path / "x.safetensors").write_bytes(save(tensors))
    assert {name: one.shape for name, one in read_header(tmp_path / "x.safetensors").items()} == {
        name: tuple(one.shape) for name, one in tensors.items()
    }


def test_mutated_headers_never_crash(tmp_path: Path, tiny_base: Path) -> None:
    import random

    data, chance, path = (
        (tiny_base / "model.safetensors").read_bytes()[:6000],
        random.Random(0),
        tmp_path / "x.safetensors",
    )
    refused = 0
    for _ in range(500):
        mutated = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            mutated[chance.randrange(3000)] = chance.randrange(256)
        path.write_bytes(mutated)
        try:
            read_header(path)
        except ModelError:
            refused += 1
    assert refused == 500
