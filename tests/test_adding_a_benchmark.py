"""A new benchmark is one file in `evals/suites/` and one entry in `data/suites.py`: a copy of the package gets
both, and every command knows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS

ROOT = Path(__file__).parents[1]

ENTRY = """
    Benchmark(
        name="sums",
        title="small sums",
        file="small_sums",
        most_shots=2,
        licence="CC0 for the test",
        repository="someone/sums",
        archive="sums.zip",
        mib=0.5,
        known="",
    ),
"""

FILE = '''
"""Small sums with four options; a set's first two rows are its solved examples."""

import json
import re

from doitune.data.example import Message
from doitune.evals.task import Item, Task

SUITE = "sums"
SETS = ("plus", "minus")
FILES = re.compile(r"(?:plus|minus)\\.jsonl")
LAYOUT = "plus.jsonl and minus.jsonl"
LETTERS = ("A", "B", "C", "D")


def task(folder, shots=0):
    items = tuple(item for name in SETS for item in _items(folder, name, shots))
    return Task(SUITE, items, headline=SETS, shots=shots)


def _items(folder, name, shots):
    rows = [json.loads(row) for row in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    turns = [
        turn
        for row in rows[:shots]
        for turn in (Message("user", row["question"]), Message("assistant", row["answer"]))
    ]
    for number, row in enumerate(rows[2:]):
        question = (*turns, Message("user", row["question"]))
        yield Item(
            f"{SUITE}/{name}#{number}", name, "single_choice", "letters", question, row["answer"], LETTERS, shots=shots
        )
'''

DRIVER = """
import contextlib, io, json, sys
from doitune.__main__ import main
said = {}
for name, arguments in json.load(sys.stdin).items():
    out, sys.argv = io.StringIO(), ["doitune", *arguments]
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as left:
            said[name] = [left.code, out.getvalue()]
json.dump(said, sys.stdout)
"""

Commands = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the new file and the new entry, and nothing else changed."""
    folder = tmp_path_factory.mktemp("house")
    for name in ("doitune", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "doitune/evals/suites/small_sums.py").write_text(FILE, encoding="utf-8")
    table = folder / "doitune/data/suites.py"
    text, changed = re.subn(
        r"^_ENTRIES.* = \(\n", lambda found: found[0] + ENTRY, table.read_text("utf-8"), flags=re.M
    )
    assert changed == 1
    table.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def commands(house: Path, tmp_path: Path) -> Commands:
    """Runs commands of the copy, one after another in one process: exit code and stdout by name."""

    def run(**wanted: list[str]) -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": str(house), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(wanted),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        failed = {name: code for name, (code, _) in found.items() if code}
        return {**{name: text for name, (_, text) in found.items()}, "failed": failed, "stderr": done.stderr}

    return run


def _data(folder: Path) -> Path:
    folder.mkdir()
    for name, sign in (("plus", "+"), ("minus", "-")):
        rows = (
            {"question": f"{7 + n}{sign}{n}是几？\nA. {7 + n}\nB. 7\nC. 1\nD. 0", "answer": "ABCD"[n % 4]}
            for n in range(8)
        )
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_help_texts_name_it(commands: Commands) -> None:
    """Trap: a help text with a list of its own."""
    said = commands(
        eval=["eval", "--help"],
        compare=["compare", "--help"],
        fetch=["data", "fetch", "--help"],
        check=["data", "check", "--help"],
    )
    assert not said["failed"]
    for name in ("eval", "compare", "fetch", "check"):
        assert re.search(r"\bsums\b", said[name]), name
    assert "sums 2" in said["eval"], "most shots"
    assert "sums (small sums; 0.5 MiB; licence CC0 for the test)" in " ".join(said["fetch"].split())


def test_a_recipe_with_it_is_trained_evaluated_compared_and_reported(
    commands: Commands, tmp_path: Path, tiny_recipe: Path, tiny_corpus: Path
) -> None:
    """The recipe names it, the fetch brings it, each number of shots is an evaluation, and a page shows them."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        tiny_recipe.read_text("utf-8") + "eval:\n  suite: [sums]\n  shots: [0, 2]\n", encoding="utf-8"
    )
    said = commands(
        fetch=["data", "fetch", "sums", "--from", str(_data(tmp_path / "data")), "--json"],
        check=["recipes", "check", str(recipe)],
        show=["recipes", "show", str(recipe)],
        leaks=["data", "check", str(tiny_corpus), "--against", "sums", "--json"],
        train=["train", str(recipe), "--set", "train.epochs=1", "--json"],
        eval=["eval", "last", "--json"],
        table=["eval", "last", "--suite", "sums", "--shots", "2"],
        compare=["compare", "last", "--suite", "sums-2shot", "--json"],
        report=["report", "last", "--out", "page.html"],
        shots=["eval", "last", "--suite", "sums", "--shots", "3"],
    )
    assert said["failed"] == {"shots": 2} and "sums has at most 2 examples" in said["stderr"], said["stderr"]
    assert json.loads(said["fetch"])["licence"] == "CC0 for the test"
    assert "sums" in said["show"]
    found = json.loads(said["eval"])["evaluations"]
    assert [(one["suite"], one["shots"], one["checkpoint"] == "base") for one in found] == [
        ("sums", 0, True),
        ("sums", 0, False),
        ("sums", 2, True),
        ("sums", 2, False),
    ]
    assert all([line["name"] for line in one["sets"]] == ["plus", "minus"] for one in found)
    assert all(one["n"] == 12 and one["mean"]["chance"] == 0.25 for one in found)
    assert "sums, 2 shots" in said["table"]
    pairs = json.loads(said["compare"])["pairs"]
    assert [pair["set"] for pair in pairs] == ["mean", "plus", "minus"] and pairs[0]["n"] == 12
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "sums-2shot" in page and "minus" in page


def test_a_recipe_may_not_name_another(commands: Commands, tmp_path: Path, tiny_recipe: Path) -> None:
    """Trap: a check that lets every name through would pass the tests above."""
    tiny_recipe.write_text(tiny_recipe.read_text("utf-8") + "eval:\n  suite: [sumz]\n", encoding="utf-8")
    said = commands(check=["recipes", "check", str(tiny_recipe)])
    assert said["failed"] == {"check": 65}
    assert "sumz" in said["stderr"] and "sums" in said["stderr"]
