"""Damaged recipes, rows and command lines: never a traceback, always the place, never long. The default
run takes a sample of the full one."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from soon import soon

from doitune.__main__ import main
from doitune.data.scan import scan_examples
from doitune.demo.corpus import write_corpus
from doitune.errors import DoituneError, FitError
from doitune.recipe.files import recipes_folder
from doitune.recipe.resolve import resolve

FULL = pytest.mark.slow
LIMIT_SECONDS = 0.1
"""Of one recipe or row, in CPU time (other processes do not count)."""

RECIPE_PIECES = [
    *(
        b"&a ",
        b"*a",
        b"!!python/object/apply:os.system ",
        b"<<: ",
        b"---\n",
        b"...\n",
        b"[" * 40,
        b"{a: ",
        b"\t",
        b"\x00",
        b"\xff\xfe",
        b"\xe2\x80\xae",
    ),
    *(
        b"\xef\xbb\xbf",
        b"| ",
        b"> ",
        b"%YAML 9.9\n",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"9" * 400,
        b"1:30",
        b"extends: demo\n",
        b"extends: x\n",
        b"null",
        b"{}",
    ),
    *(
        b"- ",
        b"? ",
        b"train:\n",
        b"  budget: ",
        b"\r",
        b"#",
        b"'",
        b'"',
        b"\\",
        b"1e999",
        b"nan",
        b"-0",
        b"0x1f",
        b"trust_remote_code: true\n",
        b"${HOME}",
    ),
]
ROW_PIECES = [
    *(
        b'"',
        b"{",
        b"]",
        b"\\",
        b"\\u",
        b"\\ud83d",
        b"NaN",
        b"\xff",
        b"\x00",
        b"null",
        b"1e9999",
        b"[" * 60,
        b'{"a":' * 60,
        b"9" * 5000,
        b"\xe2\x80\xa8",
    ),
    *(
        b'"messages"',
        b'"role"',
        b'"content"',
        b'"idx": 1,',
        b"-",
        b"true",
        b"\\u0000",
        b"\xc2\x85",
        b"\x1b]0;x\x07",
        b"\xef\xbb\xbf",
        b"<|im_end|>",
    ),
]


def damaged(data: bytes, dice: random.Random, pieces: list[bytes]) -> bytes:
    """A few edits: bytes, pieces of the language, cuts, and lines said twice."""
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(len(data) + 1)
        kind = dice.randrange(5)
        if kind == 0:
            data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + dice.choice(pieces) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + dice.randint(1, 30) :]
        elif kind == 3:
            lines = data.split(b"\n")
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
            data = b"\n".join(lines)
        else:
            end = min(len(data), at + dice.randint(1, 20))
            data = data[:at] + data[at:end] * dice.randint(2, 4) + data[end:]
    return data


SEEDS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
PORTIONS = [pytest.param(0, 500), *(pytest.param(seed, 1_000, marks=FULL) for seed in SEEDS)]
WHOLE_FILE = re.compile(
    r"is missing|is larger than|is not UTF-8|extend each other|a recipe is a mapping|a mapping of sections|not readable as YAML|the budget asks|asks for"
)


def error_of(path: Path) -> DoituneError | None:
    """What the recipe is refused for."""
    try:
        resolve(str(path))
    except DoituneError as error:
        return error
    return None


@pytest.mark.parametrize(("seed", "count"), PORTIONS)
def test_damaged_recipes(tmp_path: Path, seed: int, count: int) -> None:
    """Trap: YAML's own errors, numbers of 5,000 digits and impossible escapes leave as tracebacks."""
    dice = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted(recipes_folder().rglob("*.yaml"))]
    assert len(seeds) > 20
    path = tmp_path / "配方 x.yaml"
    refused, without_line = 0, []
    for _ in range(count):
        path.write_bytes(damaged(dice.choice(seeds), dice, RECIPE_PIECES))
        if error := soon(lambda: error_of(path), LIMIT_SECONDS, path.read_bytes()):
            refused += 1
            assert error.exit_code == 65
            for one in error.problems:
                assert (
                    str(path) in one.place
                    or one.place.startswith("recipes/")
                    or one.problem.startswith("and ")
                ), one
                if not re.search(r":\d+$", one.place):
                    without_line.append(one.problem)
            error.problem.encode("utf-8")
    assert refused > count / 4
    odd = [
        problem
        for problem in without_line
        if not WHOLE_FILE.search(problem) and not problem.startswith("and ")
    ]
    assert not odd, odd[:5]


@pytest.mark.parametrize(("seed", "count"), PORTIONS)
def test_damaged_rows(tmp_path: Path, seed: int, count: int) -> None:
    """Trap: RecursionError, lone surrogates, NaN; every line is a row or a finding with its number."""
    dice = random.Random(100 + seed)
    write_corpus(tmp_path)
    seeds = [
        line
        for path in sorted(tmp_path.rglob("*_test.json"))
        for line in path.read_bytes().split(b"\n")[:20]
        if line
    ]
    assert len(seeds) > 50
    path = tmp_path / "行.json"
    found = 0
    for _ in range(count):
        line = damaged(dice.choice(seeds), dice, ROW_PIECES).replace(b"\n", b" ")
        path.write_bytes(seeds[0] + b"\n" + line + b"\n" + seeds[1] + b"\n")
        scan = soon(
            lambda: scan_examples(path, ability="math", id_prefix="c", split="test"), LIMIT_SECONDS, line
        )
        assert len(scan.examples) + len(scan.findings) == 3
        for one in scan.findings:
            assert (
                one.line in (1, 2, 3)
                and one.place == f"{path}:{one.line}"
                and one.problem.isprintable()
                and one.hint
            )
        found += bool(scan.findings)
    assert found > count / 4


# Command lines

COMMANDS = [
    *(
        ["train"],
        ["resume"],
        ["eval"],
        ["score"],
        ["compare"],
        ["plan"],
        ["report"],
        ["chat"],
        ["export"],
        ["doctor"],
        ["grow"],
        ["advise"],
    ),
    *(["recipes", name] for name in ("list", "show", "diff", "copy", "check", "explain")),
    *(["data", name] for name in ("fetch", "check", "stats", "draw", "preview")),
    *(["base", name] for name in ("list", "fetch", "make", "check")),
    *(["runs", name] for name in ("list", "show", "prune")),
    *([], ["recipes"], ["data"], ["nonsense"], ["train", "train"]),
]
OPTIONS = [
    *(
        "--help",
        "--json",
        "--model",
        "-m",
        "--corpus",
        "-c",
        "--set",
        "-s",
        "--runs",
        "--dry-run",
        "--suite",
        "--checkpoint",
        "--limit",
        "--shots",
    ),
    *(
        "--data",
        "--protocol",
        "--exact",
        "--no-base",
        "--wrong",
        "--margin",
        "--out",
        "--max-tokens",
        "--rows",
        "--ability",
        "--against",
        "--from",
    ),
    *("--revision", "--picture", "--card", "--lora", "--nonsense", "--", "-", "-x"),
]
VALUES = [
    *(
        "demo",
        "baseline",
        "curated-160",
        "mine.yaml",
        "broken.yaml",
        "rows.jsonl",
        "bad.jsonl",
        "a folder",
        "last",
        "base",
        "runs",
        "nowhere",
        ".",
        "..",
        "",
    ),
    *(
        "0",
        "1",
        "-1",
        "1e9",
        "99999999999999999999",
        "0.5",
        "nan",
        "cmmlu",
        "doit-test",
        "doit-test,cmmlu",
        "fixed",
        "paper",
        "best,last",
        "24gb",
        "owner/name",
    ),
    *(
        "lora.rank=8",
        "lora.rank=x",
        "train.epochs=",
        "=",
        "a.b.c=1",
        "train.max_steps=0",
        "model.name=../..",
        "data.source=../x",
        "data.budget={math: 1}",
        "x" * 5000,
    ),
    *(
        "[/foo]",
        "\x1b]0;title\x07",
        "\u202egnp.exe",
        "中文",
        "https://user:word@example.org/x",
        "hf_" + "a" * 34,
        "cmmlu=nowhere",
        "C:\\x",
        "~",
        "$HOME",
        "\udcff",
    ),
]
TEXT = st.text(st.characters(exclude_characters="/\0\\", codec="utf-8"), max_size=12)
WORD = st.sampled_from(OPTIONS) | st.sampled_from(VALUES) | TEXT
LINES = st.builds(
    lambda command, words: [*command, *words], st.sampled_from(COMMANDS), st.lists(WORD, max_size=6)
)
CODES = {0, 2, 65, 74, 75, 78}
"""What a command that never trains may end with (cli.md); 70 would be a bug of ours here."""


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], None]:
    """Types a command where models cannot be loaded, no process started and no network reached; checks how
    it ended."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    (tmp_path / "mine.yaml").write_text("extends: demo\ntrain:\n  epochs: 1\n", encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("extends: demo\ntrain:\n  epochs: one\n", encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(
        '{"messages":[{"role":"user","content":"1+1"},{"role":"assistant","content":"2"}],"ability":"math"}\n'
    )
    (tmp_path / "bad.jsonl").write_bytes(b'{"messages": NaN}\n\xff\n[/foo] \x1b[2J\n')

    def cut(*_: Any, **__: Any) -> Any:
        raise FitError("this test loads no model and starts no process")

    for importer in ("doitune.run.model", "doitune.backends.pick"):  # first who imports it, or the cut stays
        monkeypatch.setattr(f"{importer}.pick_backend", cut)
    monkeypatch.setattr(subprocess, "Popen", cut)

    def type_(words: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["doitune", *words])
        typed = TextIOWrapper(BytesIO(b"1+1=?\n"))  # pytest's own may not be read
        monkeypatch.setattr(sys, "stdin", typed)
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        assert left.value.code in CODES, (words, left.value.code, shown.err[-2000:])
        assert "Traceback" not in shown.err + shown.out, words
        assert not re.search(
            r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown.out + shown.err
        ), words

    return type_


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: Any) -> Any:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    return


def _lines_of(examples: int) -> Callable[..., None]:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(LINES)
    def test(desk: Callable[[list[str]], None], no_network: None, words: list[str]) -> None:
        desk(words)

    return test


test_command_lines = _lines_of(100)
test_two_thousand_command_lines = FULL(_lines_of(2000))


def test_the_environment_is_offline() -> None:
    """The commands above would ask a hub otherwise."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
