"""What ids say, where a tokenizer writes each token as bytes: put together here, ten times as quickly as the
tokenizer decodes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doitune.prompt.template import Template

_BEFORE = ("ByteFallback", "Fuse", "Replace")
"""Decoders before `ByteLevel` that leave tokens alone which stand for bytes; what they do to another token
shows where it is decoded alone."""


class Spelling:
    """The bytes of each token of a template's tokenizer, none where that does not decode by bytes."""

    def __init__(self, template: Template) -> None:
        backend = template.tokenizer.backend_tokenizer
        self._bytes: dict[int, bytes] = {}
        if not _by_bytes(backend.decoder):
            return
        known = {
            number: data
            for token, number in backend.get_vocab(with_added_tokens=False).items()
            if number not in template.control_ids and (data := _spelt(token)) is not None
        }
        alone = backend.decode_batch([[number] for number in known], skip_special_tokens=True)
        for (number, data), text in zip(known.items(), alone, strict=True):
            if data.decode("utf-8", "replace") == text:
                self._bytes[number] = data

    def is_said(self, ids: Sequence[int], text: str) -> bool:
        """Whether it is certain that ids say a text, to the letter."""
        try:
            return b"".join([self._bytes[number] for number in ids]) == text.encode()
        except (KeyError, UnicodeEncodeError):
            return False


def _by_bytes(decoder: Any) -> bool:
    try:
        known = json.loads(decoder.__getstate__())
        parts = known["decoders"] if known["type"] == "Sequence" else [known]
        return parts[-1]["type"] == "ByteLevel" and all(one["type"] in _BEFORE for one in parts[:-1])
    except (AttributeError, LookupError, TypeError, ValueError):
        return False


def _alphabet() -> dict[str, int]:
    """The character that a byte-level vocabulary writes for each byte: itself where it is printed, else one
    from U+0100 on. Source: GPT-2's encoder."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + at): byte for at, byte in enumerate(others)}


_ALPHABET = _alphabet()


def _spelt(token: str) -> bytes | None:
    """The bytes of a token; None where it has a character that stands for none."""
    found = [_ALPHABET.get(one, -1) for one in token]
    return bytes(found) if min(found, default=-1) >= 0 else None
