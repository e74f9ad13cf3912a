"""A whole training, evaluation, report and crash, watched from inside: no socket, no pickle, no process,
no write elsewhere, no secret anywhere."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS

pytestmark = pytest.mark.slow

WATCH = """
import json, os, pickle, sys

seen = {"connect": [], "bind": [], "process": [], "write": [], "remote": []}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def hook(event, about):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        seen["connect"].append(repr(about[-1]) if event != "socket.getaddrinfo" else repr(about[0]))
    elif event == "socket.bind":
        seen["bind"].append(repr(about[-1]))
    elif event in ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.fork", "os.forkpty", "pty.spawn"):
        seen["process"].append(repr(about[:2]))
    elif event == "open" and isinstance(about[0], (str, bytes)) and ((isinstance(about[1], str) and set(about[1]) & set("wax+")) or (about[2] or 0) & WRITING):
        seen["write"].append(os.path.abspath(os.fsdecode(about[0])))
    elif event in ("os.mkdir", "os.rename", "os.remove"):
        seen["write"].append(os.path.abspath(os.fsdecode(about[0])))
    elif event == "import" and about[0].split(".")[0] in ("kernels", "transformers_modules"):
        seen["remote"].append(about[0])

sys.addaudithook(hook)
os.umask(0)

def refuse(*_, **__):
    raise AssertionError("a pickle was opened or written")

import torch, transformers, bitsandbytes, peft, accelerate  # what they do as they are imported is theirs

for room, names in ((pickle, ("load", "loads", "Unpickler")), (torch, ("load", "save"))):
    for name in names:
        setattr(room, name, refuse)
for part in seen.values():
    part.clear()
from doitune.__main__ import main
if sys.argv[1] == "CRASH":
    import doitune.prepare.material
    def broken(*_):
        raise ZeroDivisionError("a bug that says " + " ".join(os.environ.values()))
    doitune.prepare.material.draw = broken
    del sys.argv[1]
try:
    main()
finally:
    with open(os.environ["SEEN_HERE"], "w") as stream:
        json.dump(seen, stream)
"""
OWN = "canary" + "0123456789abcdef"
TOKENS = {
    "HF_TOKEN": "hf_" + "Q" * 34, "WANDB_API_KEY": OWN + "wandb", "OPENAI_API_KEY": "sk-proj-" + "Z" * 40, "GH_TOKEN": "ghp_" + "Y" * 36,
    "AWS_SECRET_ACCESS_KEY": OWN + "/aws+x", "DB_PASSWORD": OWN + '"q\\uote', "MY_SERVICE_TOKEN": OWN + "密", "SOME_SETTING": OWN + "plain-name",
}  # fmt: skip
"""One in a variable of a plain name: such values are in no record, as the environment is not recorded."""
USER_INFO = "reader:" + OWN + "remote"


ASKED = {
    "train": {"HF_HUB_OFFLINE": "1"},
    "resume": {"HF_HUB_OFFLINE": "1"},
    "stopped": {"HF_HUB_OFFLINE": "1", "DOITUNE_FAULT": "step.after:1:sigterm"},
}


@dataclass(frozen=True)
class Watched:
    """What the commands did and said."""

    folder: Path
    seen: dict[str, dict[str, list[str]]]
    said: dict[str, str]

    def everything(self) -> str:
        """All that was printed, and every file that was written."""
        files = [
            path
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != "config" and not path.name.startswith("seen-")
        ]
        assert len(files) > 10
        return "\n".join(
            [*self.said.values(), *(path.read_bytes().decode("utf-8", "replace") for path in files)]
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_corpus: Path) -> Watched:
    """train, stop and resume, eval, report and a crash, each in a process of its own; from eval on they
    may ask the network, and do not."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text(
        f'[remote "origin"]\n\turl = https://{USER_INFO}@example.org/x.git\n'
    )
    recipe = folder / "tiny.yaml"
    recipe.write_text(
        f"model:\n  name: {tiny_base}\nlora:\n  rank: 4\ndata:\n  corpus: {tiny_corpus}\n  budget:\n    biology: 4\n    math: 4\n"
        "train:\n  examples_per_step: 4\n  epochs: 1\n  max_tokens: 256\n  validation_rows_per_ability: 2\n",
        encoding="utf-8",
    )
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}, **TOKENS, "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(Path(__file__).parents[1]),
    }  # fmt: skip
    (folder / "tmp").mkdir()
    seen, said = {}, {}
    for name, words in {
        "train": ["train", str(recipe), "--json"],
        "stopped": ["train", str(recipe)],
        "resume": ["resume", "last"],
        "eval": ["eval", "last", "--limit", "2"],
        "report": ["report", "last"],
        "mistake": [
            "train",
            f"https://{USER_INFO}@example.org/r.yaml",
            "--set",
            f"model.name={TOKENS['HF_TOKEN']}",
        ],
        "crash": ["CRASH", "train", str(recipe)],
    }.items():
        where = folder / f"seen-{name}.json"
        done = subprocess.run(
            [sys.executable, "-B", "-c", WATCH, *words],
            cwd=folder,
            env={**environment, **ASKED.get(name, {}), "SEEN_HERE": str(where)},
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )
        assert done.returncode == {"mistake": 65, "crash": 70, "stopped": 143}.get(name, 0), (
            done.stdout + done.stderr
        )
        seen[name], said[name] = json.loads(where.read_text()), done.stdout + done.stderr
    return Watched(folder, seen, said)


def test_no_secret_is_printed_or_written(watched: Watched) -> None:
    """Trap: a token on the command line lands in the run record; a crash shows the environment."""
    everything = watched.everything()
    assert (
        "***" in watched.said["mistake"]
        and "***" in watched.said["crash"]
        and "ZeroDivisionError" in watched.said["crash"]
    )
    hits = {
        name
        for name, value in {**TOKENS, "git": OWN + "remote"}.items()
        if value in everything and name != "SOME_SETTING"
    }
    assert not hits
    recorded = everything.replace(watched.said["crash"], "")
    assert OWN not in recorded, "the environment is not recorded"


def test_no_socket_is_opened_and_none_ever_listens(watched: Watched) -> None:
    """Offline, and where the network may be asked: no telemetry, by us or by a library."""
    assert {name: seen["connect"] + seen["bind"] for name, seen in watched.seen.items()} == {
        key: [] for key in watched.seen
    }


def test_no_process_is_started_and_no_code_is_fetched(watched: Watched) -> None:
    """bitsandbytes asks the package `kernels`, where that is installed, for compiled code from the hub."""
    started = [
        one
        for seen in watched.seen.values()
        for one in seen["process"]
        if not re.search(r"lscpu|ldconfig|uname|/bin/sh|gcc|objdump|nvidia-smi", one)
        and "/doitune/backends/tokenizer_child.py"
        not in one  # our own, limited: it tries the base's tokenizer
    ]
    assert not started
    assert not [
        one
        for seen in watched.seen.values()
        for one in seen["remote"]
        if one.startswith("transformers_modules")
    ]


def test_writing_stays_in_the_run_and_the_cache(watched: Watched) -> None:
    """With a umask that forbids nothing, a run's folder still is its owner's: one closed door before all
    that lies inside."""
    allowed = (str(watched.folder), "/dev/", "/proc/")
    elsewhere = [
        path for seen in watched.seen.values() for path in seen["write"] if not path.startswith(allowed)
    ]
    assert not elsewhere
    runs = next((watched.folder / "runs").glob("*/*"))
    assert (runs / "done.json").is_file()
    assert not runs.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def test_the_environment_is_recorded_by_a_list_of_what_is_allowed(watched: Watched) -> None:
    origin: dict[str, Any] = json.loads(
        next(watched.folder.glob("runs/*/*/origin.json")).read_text(encoding="utf-8")
    )
    assert "environment" not in origin and TOKENS["HF_TOKEN"] not in json.dumps(origin)
    assert {"versions", "platform", "command", "backend", "device", "base", "data", "encoder"} <= set(origin)
