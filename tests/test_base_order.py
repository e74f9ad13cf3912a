"""`doitune base make` as a user calls it: defaults from the model recipe, sizes compared with it,
tokenizer from the LoRA."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_lora import ADDED, make_parts

from doitune.backends.tokenizer import load_tokenizer
from doitune.base import known, order
from doitune.base.families import FAMILIES
from doitune.base.make import make_base
from doitune.base.order import Wish, take_order
from doitune.base.sentencepiece import Piece, fast_tokenizer, read_model
from doitune.errors import ModelError
from doitune.recipe.files import list_models
from doitune.recipe.resolve import resolve


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, parts: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    """A model recipe of the tiny base; tests may change its sizes."""
    sizes = {"hidden": 64, "intermediate": 128, "layers": 2, "heads": 4, "vocabulary": 262 + ADDED}
    section = resolve("baseline", model="33b").recipe.model

    def found(name: str) -> Any:
        return section.model_copy(
            update={"name": "bases/tiny", "architecture": section.architecture.model_copy(update=sizes)}
        )

    monkeypatch.setattr(order, "model_section", found)
    llama = replace(FAMILIES["llama"], language_loras={"tiny": str(parts[1])})
    monkeypatch.setitem(FAMILIES, "llama", llama)
    monkeypatch.chdir(tmp_path)
    return sizes


def test_the_recipe_gives_lora_and_folder(parts: tuple[Path, Path], recipe: dict[str, Any]) -> None:
    notes: list[str] = []
    made = make_base(take_order(Wish("tiny", str(parts[0])), notes.append))
    assert made.folder == Path("bases/tiny") and len(load_tokenizer(made.folder)) == 262 + ADDED
    assert any("language LoRA of tiny" in note for note in notes)


def test_a_base_that_has_the_vocabulary_is_only_quantised(
    parts: tuple[Path, Path], recipe: dict[str, Any]
) -> None:
    """The trap: the language LoRA is merged a second time into a base that somebody has merged already."""
    merged = make_base(take_order(Wish("tiny", str(parts[0]), out=Path("merged"), to="fp16"), print)).folder
    taken = take_order(Wish("tiny", str(merged), out=Path("again")), print)
    assert taken.parts.loras == ()
    straight = make_base(take_order(Wish("tiny", str(parts[0]), out=Path("straight")), print)).folder
    again = make_base(taken).folder
    assert (again / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("size", "value"),
    [("hidden", 4096), ("layers", 32), ("intermediate", 11008), ("heads", 32), ("vocabulary", 49953)],
)
def test_parts_of_another_size_than_the_recipe(
    parts: tuple[Path, Path], recipe: dict[str, Any], size: str, value: int
) -> None:
    """The trap: a 7b LLaMA given for 33b is found out after an hour."""
    recipe[size] = value
    with pytest.raises(ModelError, match=f"{size} would be .*, the recipe tiny has {value}"):
        take_order(Wish("tiny", str(parts[0]), (str(parts[1]),)), print)


def test_a_base_without_its_lora_names_the_cure(
    parts: tuple[Path, Path], recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "llama", replace(FAMILIES["llama"], language_loras={}))
    with pytest.raises(ModelError, match="vocabulary would be 262") as caught:
        take_order(Wish("tiny", str(parts[0])), print)
    assert "--lora" in caught.value.hint


def test_the_loras_stand_in_the_recipes_notes() -> None:
    """One fact in two places: what the recipe's note says is what is done."""
    loras = FAMILIES["llama"].language_loras
    assembled = [
        card.name for card in list_models() if known.model_section(card.name).name.startswith("bases/")
    ]
    assert {"13b", "33b"} <= set(assembled) <= loras.keys()
    for name in assembled:
        note = known.model_section(name).note
        assert loras[name] in note and f"doitune base make {name} --from LLAMA" in note


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def _field(number: int, wire: int, data: bytes) -> bytes:
    return _varint(number << 3 | wire) + (_varint(len(data)) if wire == 2 else b"") + data


def model_file(pieces: Sequence[Piece], kind: int = 2) -> bytes:
    """A sentencepiece model as its library writes it."""
    body = b"".join(
        _field(
            1,
            2,
            _field(1, 2, one.text.encode())
            + _field(2, 5, struct.pack("<f", one.score))
            + (_field(3, 0, _varint(one.kind)) if one.kind != 1 else b""),
        )
        for one in pieces
    )
    return (
        body
        + _field(2, 2, _field(3, 0, _varint(kind)) + _field(35, 0, _varint(1)) + _field(40, 0, _varint(0)))
        + _field(3, 2, _field(1, 2, b"identity") + _field(4, 0, _varint(0)))
    )


def sentencepiece_cuts(text: str, pieces: Sequence[Piece]) -> list[int]:
    """The ids that sentencepiece gives: of all neighbours the pair of the highest score is joined first,
    the leftmost of equals."""
    ids = {one.text: number for number, one in enumerate(pieces)}
    symbols = list("▁" + text.replace(" ", "▁"))
    while True:
        joins = [
            (-pieces[ids[a + b]].score, place)
            for place, (a, b) in enumerate(zip(symbols, symbols[1:]))
            if a + b in ids and pieces[ids[a + b]].kind == 1
        ]
        if not joins:
            break
        place = min(joins)[1]
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
    return [
        number
        for symbol in symbols
        for number in (
            [ids[symbol]] if symbol in ids else [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()]
        )
    ]


def llama_pieces(words: Sequence[str], added: Sequence[str] = ()) -> list[Piece]:
    """Pieces in LLaMA's order: ends, bytes, joined pieces of falling score, single characters; `added`
    have the score 0 as Chinese-LLaMA's."""
    control = [Piece("<unk>", 0.0, 2), Piece("<s>", 0.0, 3), Piece("</s>", 0.0, 3)]
    data = [Piece(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    letters = sorted({char for word in words for char in word})
    ranked = [*words, *letters]
    return [
        *control,
        *data,
        *(Piece(word, -float(number + 1), 1) for number, word in enumerate(ranked)),
        *(Piece(word, 0.0, 1) for word in added),
    ]


WORDS = ("▁t", "he", "in", "▁the", "re", "▁there", "er", "en", "ing", "中国", "▁中", "th", "国人", "人民")
TEXTS = (
    "the thing there",
    "therein",
    "中国人民",
    "人民 in 中国",
    "a b  c",
    "龘 the",
    "国人中国人",
    "ererere",
    "",
)


def test_a_tokenizer_of_sentencepiece_cuts_as_before(tmp_path: Path) -> None:
    pieces = llama_pieces(WORDS)
    (tmp_path / "tokenizer.model").write_bytes(model_file(pieces))
    read = read_model((tmp_path / "tokenizer.model").read_bytes(), "x")
    assert list(read) == pieces
    document, note = fast_tokenizer(read)
    (tmp_path / "tokenizer.json").write_bytes(document)
    assert note == ""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    tokenizer = load_tokenizer(tmp_path)
    for text in TEXTS:
        if text:
            assert tokenizer.encode(text, add_special_tokens=False) == sentencepiece_cuts(text, pieces), text
            assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_pieces_that_share_a_score_are_told_of() -> None:
    """Chinese-LLaMA's pieces: they come before LLaMA's own, and the order among them is said to be
    another."""
    pieces = llama_pieces(WORDS, ("国家", "中国人", "家人"))
    document, note = fast_tokenizer(tuple(pieces))
    merges = [tuple(pair) for pair in json.loads(document)["model"]["merges"]]
    assert merges[0] == ("中国", "人") or set(merges[:1]) <= {("国", "家"), ("中", "国人"), ("中国", "人")}
    assert "3 pieces share their score" in note


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 40,
        b"version https://git-lfs",
        model_file(llama_pieces(WORDS), kind=1),
        model_file(llama_pieces(WORDS))[:-9],
    ],
)
def test_what_is_no_tokenizer_of_llama(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_model(data, "tokenizer.model")


def test_a_lora_with_a_sentencepiece_model_only(
    parts: tuple[Path, Path], recipe: dict[str, Any], tmp_path: Path
) -> None:
    """As published: no tokenizer.json anywhere; the base must still load."""
    base, lora = (Path(shutil.copytree(path, tmp_path / path.name)) for path in parts)
    for folder in (base, lora):
        (folder / "tokenizer.json").unlink()
    (lora / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>"})
    )
    pieces = llama_pieces(("th", "he"))
    (lora / "tokenizer.model").write_bytes(model_file(pieces))
    made = make_base(take_order(Wish("tiny", str(base), (str(lora),)), print))
    config = json.loads((made.folder / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert load_tokenizer(made.folder).encode("the", add_special_tokens=False) == sentencepiece_cuts(
        "the", pieces
    )
