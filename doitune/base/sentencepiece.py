"""A tokenizer.json from a sentencepiece model: LLaMA and its language LoRAs bring only tokenizer.model, which
fast tokenizers do not read.

Source: sentencepiece_model.proto (the fields read here) and sentencepiece's bpe_model.cc: of all neighbours
the pair whose piece has the highest score is joined first, the leftmost of equals. A fast tokenizer orders
pairs, too, but cannot have equals; where pieces share a score they are joined by their number instead of from
the left. So doitune cuts texts by tokenizer.model itself (`backends/tokenizer_cut.py`), and tokenizer.json is
for the rest: names of tokens, decoding, other programs.
"""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from doitune.errors import ModelError

BPE = 2
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
SPACE = "▁"
MODEL_FILE = "tokenizer.model"

MOST_PIECE = 256
"""Characters of a piece; merges are tried at each of them. Gemma's longest has under 100."""


@dataclass(frozen=True)
class Piece:
    """One token: its text, its score (higher joins earlier) and its kind."""

    text: str
    score: float
    kind: int


def read_model(data: bytes, place: str) -> tuple[Piece, ...]:
    """The pieces of a BPE sentencepiece model that sets a blank before the text, in the order of their
    ids. ModelError for another kind."""
    pieces, kind, prefixed = [], 1, True
    try:
        for number, value in _fields(data):
            if number == 1:
                pieces.append(_piece(value))
            elif number == 2:
                kind = dict(_fields(value)).get(3, 1)
            elif number == 3:
                prefixed = bool(dict(_fields(value)).get(3, 1))
    except (ValueError, IndexError, struct.error, TypeError) as error:
        raise ModelError(
            f"is not a sentencepiece model: {error}", "copy the tokenizer again", place=place
        ) from None
    if kind != BPE or not prefixed or not pieces or len({piece.text for piece in pieces}) != len(pieces):
        raise ModelError(
            "is not a tokenizer of LLaMA's kind (BPE with a blank before the text)",
            "put its tokenizer.json beside it",
            place=place,
        )
    return tuple(pieces)


def are_ranks(data: bytes) -> bool:
    """Whether a file called tokenizer.model is tiktoken's: lines of base64 and a rank."""
    return re.match(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n", data) is not None


def with_blank(data: bytes, wanted: bool) -> bytes:
    """The model that sets a blank before a text, or none. Source: protobuf joins a message that is given
    twice; normalizer_spec is field 3, its add_dummy_prefix field 3."""
    return data + bytes((3 << 3 | 2, 2, 3 << 3, wanted))


def user_defined(data: bytes) -> frozenset[int]:
    """Numbers of the pieces that sentencepiece finds in a text before it cuts the rest. `data` was read by
    sentencepiece before."""
    pieces = (value for number, value in _fields(data) if number == 1)
    return frozenset(number for number, value in enumerate(pieces) if _piece(value).kind == USER_DEFINED)


def fast_tokenizer(pieces: tuple[Piece, ...]) -> tuple[bytes, str]:
    """tokenizer.json with the same pieces, and what a reader must know ("" where it cuts exactly as
    sentencepiece)."""
    vocabulary = {piece.text: number for number, piece in enumerate(pieces)}
    special = [
        (number, piece)
        for number, piece in enumerate(pieces)
        if piece.kind in (CONTROL, USER_DEFINED) or number == 0
    ]
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    normalizers: list[dict[str, Any]] = [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(number, piece) for number, piece in special],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": pieces[0].text,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(pieces, vocabulary),
        },
    }
    return json.dumps(document, ensure_ascii=False).encode(), _note(pieces)


def _merges(pieces: tuple[Piece, ...], vocabulary: dict[str, int]) -> list[list[str]]:
    """Pairs in the order of joining: by the score of what they make, then by its number, then by where it
    is cut."""
    order = sorted(
        (number for number, piece in enumerate(pieces) if piece.kind == NORMAL),
        key=lambda number: (-pieces[number].score, number),
    )
    found = []
    for number in order:
        text = pieces[number].text
        for cut in range(1, len(text)):
            parts = (text[:cut], text[cut:])
            if all(part in vocabulary and pieces[vocabulary[part]].kind == NORMAL for part in parts):
                found.append([*parts])
    return found


def _note(pieces: tuple[Piece, ...]) -> str:
    shared = Counter(piece.score for piece in pieces if piece.kind == NORMAL and len(piece.text) > 1)
    equals = sum(count for count in shared.values() if count > 1)
    if not equals:
        return ""
    return (
        f"tokenizer.json was made from tokenizer.model, where {equals:,} pieces share their score: doitune "
        "cuts texts by tokenizer.model, as in pre-training; programs that read tokenizer.json alone cut some "
        "otherwise (`doitune base check` says how many)"
    )


def _added(number: int, piece: Piece) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": piece.text, **flags, "special": piece.kind != USER_DEFINED}


def _piece(data: Any) -> Piece:
    fields = dict(_fields(data))
    score = struct.unpack("<f", fields[2])[0] if 2 in fields else 0.0
    text = bytes(fields.get(1, b"")).decode()
    if len(text) > MOST_PIECE:
        raise ValueError(f"a piece of {len(text):,} characters")
    return Piece(text, score, int(fields.get(3, NORMAL)))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message: whole numbers as int, all else as bytes."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(wire, -1)
        if wire == 2:
            size, place = _varint(data, place)
        if size < 0 or place + size > len(data):
            raise ValueError(f"a field of {size} bytes at byte {place:,} of {len(data):,}")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
    raise ValueError(f"a number without an end at byte {place:,}")
