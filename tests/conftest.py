"""Small worlds for the tests: a random two-layer LLaMA with a byte tokenizer, and a corpus of a few rows
of each ability."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from patience import HANGS

import doitune.demo

DEMO = Path(__file__).parents[1] / "doitune" / "demo"
if str(DEMO) not in doitune.demo.__path__:
    doitune.demo.__path__.append(str(DEMO))  # of an installed wheel: `making` is in the checkout alone

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tiny products: waiting for a second thread on a busy machine costs more than it brings

# one commit, one verdict: the inputs that are tried follow from the test alone
hypothesis.settings.register_profile("doitune", derandomize=True, database=None)
hypothesis.settings.load_profile("doitune")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All tests share the cores, a file of tests at a time; chosen ones run here, where `-s` shows what they print."""
    whole = config.args == config.getini("testpaths") and config.option.capture != "no"
    return min(8, os.cpu_count() or 1) if whole else 0


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cache of the tests is their own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: 2 layers, hidden 64, grouped heads, byte-level vocabulary of 262 with two reserved
    tokens."""
    folder = tmp_path_factory.mktemp("tiny 小") / "base"
    make_tiny_base(folder)
    return folder


def make_tiny_base(folder: Path, *, tied: bool = True, seed: int = 0) -> None:
    """Write a random tiny LLaMA and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    names = [
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        "<reserved_0>",
        "<reserved_1>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
    ]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], byte_fallback=True, unk_token="<unk>", fuse_unk=False)
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<reserved_0>", "<reserved_1>"],
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(names),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


ROWS = {
    "biology": lambda n: (
        f"第{n}种鸟吃什么？\nA. 虫\nB. 草\nC. 鱼\nD. 果",
        "ABCD"[n % 4],
        {"question_format": 0},
    ),
    "history": lambda n: (f"第{n}年有战争。对吗？", "正确" if n % 2 else "错误", {"question_format": 0}),
    "code": lambda n: (
        f"写出{n}加一",
        f"print({n}+1)",
        {"question_format": 1, "choices": [f"print({n}+1)", f"print({n}-1)", "天晴"]},
    ),
    "math": lambda n: (f"{n}+1=?", f"答案是{n + 1}", {"question_format": 0, "answer": str(n + 1)}),
}


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus folder in the layout: four abilities, 40 rows to learn from, 6 valid and 8 test rows each."""
    root = tmp_path_factory.mktemp("语料 corpus")
    for split, first, count in (("1000", 0, 40), ("full", 0, 40), ("valid", 100, 6), ("test", 200, 8)):
        for ability, make in ROWS.items():
            path = root / "curated" / split / f"{ability}_{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                "".join(_line(make, ability, number, split) for number in range(first, first + count)),
                encoding="utf-8",
            )
    return root


def _line(
    make: Callable[[int], tuple[str, str, dict[str, object]]], ability: str, number: int, split: str
) -> str:
    question, answer, extra = make(number)
    row: dict[str, object] = {
        "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
        "type": ability,
        "idx": number,
    }
    if split in ("valid", "test"):
        row.update(extra)
    return json.dumps(row, ensure_ascii=False) + "\n"


@pytest.fixture
def tiny_recipe(tmp_path: Path, tiny_base: Path, tiny_corpus: Path) -> Path:
    """A recipe file that trains the tiny base on the tiny corpus: 32 examples, 8 a step, 2 epochs."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        "summary: a tiny training for tests\n"
        f"model:\n  name: {tiny_base}\n"
        "lora:\n  rank: 4\n  alpha: 8\n  dropout: 0.1\n"
        f"data:\n  corpus: {tiny_corpus}\n  budget:\n    biology: 8\n    history: 8\n    code: 8\n    math: 8\n"
        "train:\n  examples_per_step: 8\n  epochs: 2\n  learning_rate: 1e-2\n  max_tokens: 256\n  validation_rows_per_ability: 3\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of SmolLM2-135M-Instruct; the script needs `gguf`, which is put into a folder of its own
    where it is missing."""
    script = Path(__file__).parents[2] / "shared" / "tools" / "smollm2.py"
    if not script.is_file():
        pytest.skip(f"{script} is not here: the real model cannot be made")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    ready = Path("~/.cache/doitune-dev/smollm2-135m/model.safetensors").expanduser()
    if not ready.is_file() and importlib.util.find_spec("gguf") is None:
        target = tmp_path_factory.mktemp("gguf")
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), "gguf"]
        done = subprocess.run(install, capture_output=True, text=True, timeout=HANGS, check=False)
        if done.returncode:
            pytest.skip(
                f"gguf, which reads the real model's file, cannot be installed: {done.stderr.strip()[-200:]}"
            )
        environment["PYTHONPATH"] = str(target)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=3 * HANGS,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"the real model cannot be made: {done.stderr.strip()[-300:]}")
    return Path(done.stdout.strip().splitlines()[-1])
