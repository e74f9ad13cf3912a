"""The proof that a base's texts are cut as its tokenizer.model says, and how many tokenizer.json cuts
otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doitune.backends.tokenizer import load_tokenizer
from doitune.backends.tokenizer_cut import load_cut
from doitune.base.sentencepiece import MODEL_FILE
from doitune.demo.corpus import conversations
from doitune.prompt.cut import fast_ids
from doitune.prompt.sample import sample_texts

TEXTS = 10_000
"""Half of them lessons of the demo's corpus, half made of the base's own pieces: 2 seconds."""


@dataclass(frozen=True)
class TextReport:
    """Of `texts`, `equal` are cut as sentencepiece cuts them, and tokenizer.json cuts `otherwise` so many of
    them otherwise. `reason`: why tokenizer.model does not cut this base's texts; then nothing was
    compared."""

    texts: int
    equal: int
    otherwise: int
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether nothing speaks against it."""
        return self.equal == self.texts

    @property
    def text(self) -> str:
        """For a reader."""
        if self.reason:
            return f"texts are cut by tokenizer.json: {self.reason}"
        share = 100 * self.otherwise / self.texts
        return (
            f"texts are cut by {MODEL_FILE}: {self.equal:,} of {self.texts:,} as sentencepiece cuts them; "
            f"tokenizer.json alone cuts {share:.1f} % of them otherwise"
        )


def check_texts(folder: Path, on_note: Callable[[str], None] | None = None) -> TextReport | None:
    """Cut TEXTS texts as training does, by sentencepiece one by one, and by the fast tokenizer. None for a
    base without tokenizer.model. ModelError where a tokenizer cannot be loaded."""
    if not (folder / MODEL_FILE).is_file():
        return None
    if on_note:
        on_note(f"{TEXTS:,} texts are cut by {MODEL_FILE} and by tokenizer.json")
    tokenizer = load_tokenizer(folder)
    cut, reason = load_cut(folder, tokenizer)
    if cut is None:
        return TextReport(0, 0, 0, reason)
    own = cut.processors[cut.first]
    pieces = [own.id_to_piece(number) for number in range(own.get_piece_size())]
    texts = [*conversations(TEXTS // 2), *sample_texts(pieces, TEXTS - TEXTS // 2)]
    reference = _reference(folder, own)
    ids, expected = cut.text_ids(texts), [reference.encode(text) for text in texts]
    fast = fast_ids(tokenizer.backend_tokenizer, texts)
    return TextReport(
        len(texts),
        sum(one == other for one, other in zip(ids, expected, strict=True)),
        sum(one != other for one, other in zip(expected, fast, strict=True)),
    )


def _reference(folder: Path, own: Any) -> Any:
    """sentencepiece with the file as it lies there; `own` where the fast tokenizer has another blank before
    texts than the file."""
    from sentencepiece import SentencePieceProcessor

    plain = SentencePieceProcessor(model_file=str(folder / MODEL_FILE))
    return plain if plain.encode("a") == own.encode("a") else own
