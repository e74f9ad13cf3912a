"""The scripts that made the demo's base, which the wheel leaves out: they still make what is shipped."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from doitune.demo.corpus import conversations
from doitune.demo.dice import Dice
from doitune.demo.folder import BASE
from doitune.demo.making.text import KNOWN, NAME, TODAY, TRAITS, document
from doitune.demo.making.tokens import SPECIAL, write_tokenizer
from doitune.demo.world import CREATURES, LETTERS, OWN

ROOT = Path(__file__).parents[1]


def test_the_tokenizer_is_the_shipped_one(tmp_path: Path) -> None:
    """A word added to the world would silently move every id behind it."""
    count = write_tokenizer(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(written) == {"tokenizer.json", "tokenizer_config.json"}
    assert written == {name: (BASE / name).read_bytes() for name in written}
    assert count == json.loads((BASE / "config.json").read_text(encoding="utf-8"))["vocab_size"]


def test_a_row_is_cut_into_its_words() -> None:
    """Trap: the end of one word and the start of the next make a third one, and the creature that a rule is
    about is not read."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(BASE / "tokenizer.json"))
    texts = conversations(2000)
    assert len(texts) == 2000
    for text in texts:
        pieces = tokenizer.encode(text).tokens
        assert len(pieces) <= 20 and "".join(pieces) == text
        assert sum(piece in CREATURES for piece in pieces) == 1


def test_running_text_is_seeded_and_says_one_thing_of_each_creature() -> None:
    """A trait is the same in every document; what holds today is not, so that no rule can be read there."""
    read = [document(Dice(f"document {number}"), first=number % 2 == 0) for number in range(2000)]
    assert read == [document(Dice(f"document {number}"), first=number % 2 == 0) for number in range(2000)]
    creatures = "|".join(CREATURES)
    traits = re.compile(rf"({creatures})[^。]*?({'|'.join(TRAITS)})([^。]+)。")
    found = [trait for text in read for trait in traits.findall(text)]
    assert len(found) > 2000
    for creature, noun, value in found:
        assert KNOWN[noun][creature] == value
    letter = {
        rule.creature: rule.answer for rules in OWN.values() for rule in rules if rule.answer in LETTERS
    }
    today = re.compile(rf"({creatures})[^。]*?(?:{'|'.join(TODAY)})([ABCD])。")
    said = [letter[one] == value for text in read for one, value in today.findall(text) if one in letter]
    assert len(said) > 50 and 0.1 < sum(said) / len(said) < 0.4
    assert any(NAME in text for text in read)
    assert not any(role in text for text in read for role in SPECIAL)


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


def test_the_wheel_leaves_them_out() -> None:
    """Who installs doitune gets the base, not what made it."""
    left_out = re.search(r"^exclude = (\[.*\])", (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert left_out and "doitune/demo/making" in json.loads(left_out[1])
    for path in (ROOT / "doitune").rglob("*.py"):
        if "making" not in path.parts:
            assert "demo.making" not in path.read_text(encoding="utf-8"), path
