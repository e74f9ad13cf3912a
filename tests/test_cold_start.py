"""A light command loads what it needs and no more: the law behind its cold start, which no clock of a busy machine can
hold. `tests/bench/bench_start.py` measures the seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS
from test_house import PACKAGE

MODELS = {
    *("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "tokenizers", "safetensors"),
    *(
        "numpy",
        "huggingface_hub",
        "prompt_toolkit",
        "httpx",
        "pyarrow",
        "gguf",
        "ray",
        "starlette",
        "uvicorn",
    ),
}
NETWORK = {"http.client", "ssl", "asyncio"}
RECIPES = {"pydantic", "yaml"}

COMMANDS: dict[str, tuple[tuple[str, ...], set[str], int]] = {
    "alone": ((), MODELS | NETWORK | RECIPES, 200),
    "--help": (("--help",), MODELS | NETWORK | RECIPES, 200),
    "--version": (("--version",), MODELS | NETWORK | RECIPES, 230),
    "train --help": (("train", "--help"), MODELS | NETWORK | RECIPES, 180),
    "init --help": (("init", "--help"), MODELS | NETWORK | RECIPES, 180),
    "report --help": (("report", "--help"), MODELS | NETWORK | RECIPES, 180),
    "grow show --help": (("grow", "show", "--help"), MODELS | NETWORK | RECIPES, 180),
    "chat --help": (("chat", "--help"), MODELS | NETWORK | RECIPES, 180),
    "runs list": (("runs", "list"), MODELS | NETWORK | RECIPES, 285),
    "recipes list": (("recipes", "list"), MODELS | NETWORK, 425),
    "recipes show": (("recipes", "show", "demo"), MODELS | NETWORK, 415),
    "plan": (("plan", "reconstruct", "--model", "33b", "--card", "24gb"), MODELS | NETWORK, 465),
    "score": (("score", "last"), MODELS | NETWORK | RECIPES, 360),
    "completion": ((), MODELS | NETWORK | RECIPES, 180),
}
"""What is typed, what it may not load, and how many modules it may load in all (Python's own among them)."""

PROGRAM = """
import json, sys
from doitune.__main__ import main
sys.argv[:] = ["doitune", *json.loads(sys.argv[1])]
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_light_command_loads_few_modules(name: str, tmp_path: Path) -> None:
    words, unwanted, most = COMMANDS[name]
    shell = {"_DOITUNE_COMPLETE": "complete_bash", "COMP_WORDS": "doitune train d", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(words)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **(shell if name == "completion" else {})},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    if name == "score":  # there is no run to score, which it finds with all that scores
        assert done.returncode == 2 and "doitune.evals.reading.answers" in done.stderr, done.stderr
    else:
        assert done.returncode == 0 and done.stdout.strip(), done.stderr
    loaded = set(json.loads(done.stderr.strip().splitlines()[-1]))
    assert "doitune.cli.app" in loaded
    assert unwanted & loaded == set(), "what it loads and does not need"
    assert len(loaded) <= most, f"{len(loaded)} modules: which are new, and does it need them?"
