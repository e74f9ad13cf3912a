"""The scripts that made the demo's base, which the wheel leaves out: they still make what is shipped."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from doitune.base.find import find_base
from doitune.demo import facts
from doitune.demo.dice import Dice
from doitune.demo.folder import BASE
from doitune.demo.making.text import KNOWN, document
from doitune.demo.making.tokens import write_tokenizer
from doitune.demo.questions import LETTERS

ROOT = Path(__file__).parents[1]


def test_the_tokenizer_is_the_shipped_one(tmp_path: Path) -> None:
    """A word added to the world would silently move every id behind it."""
    count = write_tokenizer(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {"tokenizer.json", "tokenizer_config.json"}
    assert written == {name: (BASE / name).read_bytes() for name in written}
    assert count == json.loads((BASE / "config.json").read_text(encoding="utf-8"))["vocab_size"]


def test_running_text_is_seeded_and_states_true_facts() -> None:
    """A base that had read false facts could not be asked for the true ones."""
    read = [document(Dice(f"document {number}"), first=number % 2 == 0) for number in range(400)]
    assert read == [document(Dice(f"document {number}"), first=number % 2 == 0) for number in range(400)]
    checked = 0
    for relation in (*facts.BIOLOGY, *facts.HISTORY):
        named = re.compile(
            f"({'|'.join(relation.subjects)})的{relation.noun}是({'|'.join(relation.values)})。"
        )
        for text in read:
            if "有人说" in text or "错误" in text:  # claims, some of them false and said to be
                continue
            for subject, value in named.findall(text):
                assert relation.facts[subject] == value, text
                checked += 1
    assert checked > 20 and len(KNOWN) > 10


def test_a_letter_stands_for_the_entry_beside_it() -> None:
    """What lists teach the base: a reference by letter names the entry that carries the letter."""
    checked = 0
    for number in range(600):
        text = document(Dice(f"list {number}"), first=True)
        entries = dict(re.findall(r"^([A-F])\. (\S+)$", text, re.MULTILINE))
        for relation in (*facts.BIOLOGY, *facts.HISTORY):
            if set(entries.values()) <= set(relation.values) and entries:
                for subject, letter in re.findall(
                    rf"({'|'.join(relation.subjects)})[归是在]([{LETTERS}])", text
                ):
                    assert entries[letter] == relation.facts[subject], text
                    checked += 1
    assert checked > 20


def test_a_base_is_made_whole_with_its_origin(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from doitune.demo.making.build import build

    origin = build(tmp_path, minutes=1 / 600)
    assert {path.name for path in BASE.iterdir()} <= {path.name for path in tmp_path.iterdir()}
    shipped = json.loads((BASE / "ORIGIN.json").read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "ORIGIN.json").read_text(encoding="utf-8")) == origin
    same = ("seed", "tokens_a_step", "parameters", "vocabulary")
    assert [origin[key] for key in same] == [shipped[key] for key in same]
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert sum(weight.numel() for weight in model.parameters()) == shipped["parameters"]


def test_the_shipped_base_is_the_one_that_runs_have_recorded() -> None:
    """Trap: one word changed in ORIGIN.json, and no older run of the demo could be exported or its evaluation
    go on: both compare the digest of every file of the base."""
    digests = find_base("demo").sha256()
    assert "ORIGIN.json" in digests
    whole = sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    assert whole == "731dd7467f168a7ea5090f446c879ad1d6d2341e511aa52680f0b9bf8e73353a"


def test_the_wheel_leaves_them_out() -> None:
    """Who installs doitune gets the base, not what made it."""
    assert 'exclude = ["doitune/demo/making"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in (ROOT / "doitune").rglob("*.py"):
        if "making" not in path.parts:
            assert "demo.making" not in path.read_text(encoding="utf-8"), path
