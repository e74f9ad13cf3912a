"""Who cuts a base's texts: its tokenizer.model, by sentencepiece itself, where it has the pieces of the fast
tokenizer beside it; else the fast tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from doitune.backends.tokenizer_trial import refuse_wild
from doitune.base.sentencepiece import MODEL_FILE, SPACE, are_ranks, user_defined, with_blank
from doitune.prompt.cut import TEXT, Cut, fast_ids
from doitune.prompt.sample import sample_texts

TRIED_TEXTS = 256
"""Texts on which the cut is told from the fast tokenizer's: hundredths of a second. Where one piece in a
thousand is cut otherwise, this many show it."""


def load_cut(folder: Path, tokenizer: Any) -> tuple[Cut | None, str]:
    """The cut by the folder's tokenizer.model for its fast tokenizer, or None and why that one cuts (""
    without such a file).

    Blanks are kept as the fast tokenizer has them: before each text, and before what follows an added token
    where it sets one there, as the tokenizers of LLaMA did before 2023 (`legacy`). ModelError for a damaged
    file.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        return None, ""
    refuse_wild(folder)
    data = path.read_bytes()
    if are_ranks(data):
        return None, f"{MODEL_FILE} is tiktoken's, not sentencepiece's"
    import sentencepiece

    backend = tokenizer.backend_tokenizer
    plain = sentencepiece.SentencePieceProcessor(model_proto=data)
    pieces = [plain.id_to_piece(number) for number in range(plain.get_piece_size())]
    added = backend.get_added_tokens_decoder()
    if other := _other_pieces(pieces, backend, added):
        return None, other
    own = _own(added, pieces, data)
    first, later = _blanks(backend, own)
    processors = {
        blank: sentencepiece.SentencePieceProcessor(model_proto=with_blank(data, blank))
        for blank in (False, True)
    }
    if any(one.encode("a", out_type=str)[0].startswith(SPACE) != blank for blank, one in processors.items()):
        return None, f"{MODEL_FILE} does not write blanks as {SPACE} before words"
    cut = Cut(processors, first, later, *_splitter(backend, own))
    return replace(cut, mark=_mark(cut, backend, pieces)), ""


def _other_pieces(pieces: list[str], backend: Any, added: Mapping[int, Any]) -> str:
    """The first token that is another in the two files; "" where there is none. Added tokens may be named
    anew and stand on top."""
    vocabulary = {number: text for text, number in backend.get_vocab(with_added_tokens=False).items()}
    for number in range(max([len(pieces), *vocabulary]) + 1):
        here = pieces[number] if number < len(pieces) else None
        there = vocabulary.get(number)
        if here != there and number not in added:
            return f"token {number} is {there!r} in tokenizer.json, {here!r} in {MODEL_FILE}"
    return ""


def _own(added: Mapping[int, Any], pieces: list[str], data: bytes) -> dict[int, Any]:
    """The added tokens without those that sentencepiece itself finds in a text: plain words that its model
    names user-defined."""
    doubtful = {number for number, token in added.items() if not token.special and number < len(pieces)}
    known = user_defined(data) if doubtful else frozenset()
    return {number: token for number, token in added.items() if not (number in doubtful and number in known)}


def _splitter(backend: Any, added: Mapping[int, Any]) -> tuple[Any, dict[int, int], re.Pattern[str] | None]:
    """See Cut: what finds `added` in a text as `backend` does."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    splitter: Any = Tokenizer(WordLevel({"\0": TEXT}, unk_token="\0"))
    normalised = any(token.normalized for token in added.values()) and backend.normalizer is not None
    if normalised:
        splitter.normalizer = backend.normalizer
    splitter.add_tokens([*added.values()])
    numbers = {splitter.token_to_id(token.content): number for number, token in added.items()}
    literals = "|".join(re.escape(token.content) for token in added.values() if token.content)
    return splitter, numbers, None if normalised else re.compile(literals or "(?!)")


def _blanks(backend: Any, added: Mapping[int, Any]) -> tuple[bool, dict[int, bool]]:
    """Whether the fast tokenizer sets a blank before a text, and before what follows each added token."""

    def starts(text: str, after: int | None = None) -> bool | None:
        one = backend.encode(text, add_special_tokens=False)
        place = 0 if after is None else one.ids.index(after) + 1 if after in one.ids else len(one.ids)
        return one.tokens[place].startswith(SPACE) if place < len(one.ids) else None

    first = bool(starts("."))
    # a dot ends a word, which tokens of single words need
    asked = {number: starts(f"{token.content}.", number) for number, token in added.items()}
    plain = next((one for one in asked.values() if one is not None), first)
    return first, {number: plain if one is None else one for number, one in asked.items()}


def _mark(cut: Cut, backend: Any, pieces: list[str]) -> str:
    """See Cut."""
    texts = sample_texts(pieces, TRIED_TEXTS)
    ids = cut.text_ids(texts)
    return "" if ids == fast_ids(backend, texts) else sha256(json.dumps(ids).encode()).hexdigest()
