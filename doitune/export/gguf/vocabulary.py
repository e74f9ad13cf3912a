"""The vocabulary of a GGUF, written from tokenizer.json so that llama.cpp cuts a text as training did.

llama.cpp knows two kinds that matter here: sentencepiece's (pieces are joined by their scores, bytes stand in
for what is missing) and byte-level BPE (pieces are joined by a list of merges, after a cut that llama.cpp has
in its code, by name). What neither can say is refused, with the reason; ids are compared afterwards all the
same (`measure`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doitune.errors import ModelError

if TYPE_CHECKING:
    from gguf import GGUFWriter

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of token. Source: llama.h, llama_token_type."""

SPACE = "▁"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CUTS: Mapping[tuple[str, ...], str] = {
    ("words",): "gpt-2",
    ("digits", "words"): "smollm",
    (_WORDS % "", "bytes"): "qwen2",
    (_WORDS % "{1,3}", "bytes"): "llama-bpe",
}
"""llama.cpp's name of a cut into words, by the steps of the tokenizer's own. Source: llama.cpp's
llama-vocab.cpp."""

WHOLE_WORDS = "llama-bpe"
"""The one cut under which llama.cpp takes a word that is a token as it is (`ignore_merges`)."""


@dataclass(frozen=True)
class Vocabulary:
    """`kind`: "llama" (sentencepiece's) or "gpt2" (byte-level). `texts` and `types`, a token each; `scores`
    and `blank_first` say something of the first kind, `merges` and `cut` of the second."""

    kind: str
    texts: tuple[str, ...]
    types: tuple[int, ...]
    scores: tuple[float, ...] = ()
    blank_first: bool = False
    merges: tuple[str, ...] = ()
    cut: str = "default"
    named: Mapping[str, int] | None = None
    chat_template: str = ""

    def write(self, writer: GGUFWriter) -> None:
        """Its keys of the file. No token is put before or after a text: the chat template writes them all."""
        writer.add_tokenizer_model(self.kind)
        writer.add_tokenizer_pre(self.cut)
        writer.add_token_list(list(self.texts))
        if self.scores:
            writer.add_token_scores(list(self.scores))
        writer.add_token_types(list(self.types))
        if self.merges:
            writer.add_token_merges(list(self.merges))
        for name, number in (self.named or {}).items():
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(False)
        writer.add_add_space_prefix(self.blank_first)
        writer.add_chat_template(self.chat_template)


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """The vocabulary of an exported folder; `rows`: of its embedding. ModelError where llama.cpp cannot have
    it."""
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = document["model"]
    if model.get("type", "BPE") != "BPE":
        raise _refused(folder, f"its kind is {model['type']}, not BPE")
    steps = _steps(document.get("pre_tokenizer"))
    of_bytes = any(step.get("type") == "ByteLevel" for step in steps)  # then nothing is unknown
    texts, types = _tokens(document, rows, folder, "" if of_bytes else model.get("unk_token"))
    named = _named(folder, texts)
    template = _chat_template(folder)
    if of_bytes:
        cut = _cut(document, steps, folder)
        merges = tuple(" ".join(pair) for pair in _merges(model))
        return Vocabulary("gpt2", texts, types, merges=merges, cut=cut, named=named, chat_template=template)
    _refuse_cut_pieces(document, folder)
    texts, scores = _as_sentencepiece(document, texts, types)
    return Vocabulary(
        "llama", texts, types, scores, _blank_first(document, steps), named=named, chat_template=template
    )


def _refused(folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"llama.cpp cannot cut texts as this tokenizer does: {reason}",
        "the merged folder serves transformers, vLLM and SGLang: --to merged",
        place=str(folder),
    )


def _tokens(
    document: Mapping[str, Any], rows: int, folder: Path, unknown: str | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Text and type of each of `rows` ids; an id without a token is unused."""
    found = {number: text for text, number in document["model"]["vocab"].items()}
    added = {one["id"]: one for one in document.get("added_tokens") or ()}
    if found and max(found) >= rows:
        raise _refused(folder, f"it has a token {max(found)}, and the embedding {rows} rows")
    # Gemma's names an image that the text model has no row for: no text that was trained has it
    found |= {number: one["content"] for number, one in added.items() if number < rows}
    bytewise = bool(document["model"].get("byte_fallback"))
    types = []
    for number in range(rows):
        if number not in found:
            types.append(UNUSED)
        elif found[number] == unknown:
            types.append(UNKNOWN)
        elif number in added:
            types.append(CONTROL if added[number]["special"] else USER_DEFINED)
        else:
            types.append(BYTE if bytewise and _BYTE.fullmatch(found[number]) else NORMAL)
    return tuple(found.get(number, f"[PAD{number}]") for number in range(rows)), tuple(types)


def _named(folder: Path, texts: Sequence[str]) -> dict[str, int]:
    """The tokens that have a part: the first of each text, the ends of a reply (at most three), what pads."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    stops = generation["eos_token_id"]
    stops = stops if isinstance(stops, list) else [stops]
    roles = {
        **dict(zip(("eos", "eot", "eom"), stops, strict=False)),
        "padding": generation.get("pad_token_id"),
    }
    roles["bos"] = config.get("bos_token_id")
    return {
        name: int(number) for name, number in roles.items() if isinstance(number, int) and number < len(texts)
    }


def _chat_template(folder: Path) -> str:
    """The folder's chat template, from its own file or from tokenizer_config.json. ModelError where it has
    none."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    if isinstance(found, list):
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    if not isinstance(found, str) or not found:
        raise ModelError(f"{folder} has no chat template", "export the run again", place=str(folder))
    return found


def _steps(step: Any) -> list[dict[str, Any]]:
    """The steps of a normalizer or a pre-tokenizer, one behind the other."""
    if not step:
        return []
    inner = step.get("pretokenizers", step.get("normalizers"))
    return [step] if inner is None else [one for part in inner for one in _steps(part)]


def _merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs, in the order of merging; tokenizer.json has them as pairs or as texts."""
    pairs = (one if isinstance(one, list) else one.split(" ") for one in model["merges"])
    return [(str(first), str(second)) for first, second in pairs]


def _cut(document: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """llama.cpp's name for the way that a byte-level tokenizer cuts a text into words."""
    normal = [one["type"] for one in _steps(document.get("normalizer")) if one["type"] != "NFC"]
    if normal:
        raise _refused(folder, f"it changes texts first ({', '.join(normal)})")
    found = []
    for step in steps:
        if step["type"] == "ByteLevel" and not step.get("add_prefix_space"):
            found.append("words" if step.get("use_regex", True) else "bytes")
        elif step["type"] == "Digits" and step.get("individual_digits"):
            found.append("digits")
        elif step["type"] == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
            found.append(str(step["pattern"].get("Regex", "")))
        else:
            raise _refused(
                folder, f"its step {json.dumps(step, ensure_ascii=False)} is not among llama.cpp's"
            )
    name = CUTS.get(tuple(found))
    if name is None:
        known = ", ".join(CUTS.values())
        raise _refused(folder, f"it cuts words by {' then '.join(found)}; known are the cuts of {known}")
    if bool(document["model"].get("ignore_merges")) != (name == WHOLE_WORDS):
        raise _refused(
            folder, "it takes whole words before merges, or does not, otherwise than llama.cpp there"
        )
    return name


def _refuse_cut_pieces(document: Mapping[str, Any], folder: Path) -> None:
    """llama.cpp cuts a sentencepiece text nowhere before it joins pieces. That comes to the same where no
    piece of the vocabulary crosses a cut; else it is refused."""
    from tokenizers import Tokenizer

    if not document["model"].get("byte_fallback"):
        raise _refused(folder, "it has neither byte-level pieces nor bytes that stand in for unknown ones")
    cutter = Tokenizer.from_str(json.dumps(document)).pre_tokenizer
    if cutter is None:
        return
    for first, second in _merges(document["model"]):
        if len(cutter.pre_tokenize_str(first + second)) > 1:
            raise _refused(folder, f"it cuts texts where its own token {first + second!r} has no cut")


def _blank_first(document: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether what follows a special token begins with a blank that the text has not."""
    scheme = next((one.get("prepend_scheme", "always") for one in steps if one["type"] == "Metaspace"), "")
    return scheme == "always" or any(one["type"] == "Prepend" for one in _steps(document.get("normalizer")))


def _as_sentencepiece(
    document: Mapping[str, Any], texts: Sequence[str], types: Sequence[int]
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Texts with their blanks as llama.cpp has them, and scores in the order of merges: the earlier, the
    higher."""
    rank: dict[str, int] = {}
    for number, (first, second) in enumerate(_merges(document["model"])):
        rank.setdefault(first + second, number)
    last = len(rank) + 1
    scores = tuple(
        0.0 if kind == BYTE else -float(rank.get(text, last)) for text, kind in zip(texts, types, strict=True)
    )
    if SPACE in texts:  # blanks have become this before the vocabulary is asked
        return tuple(texts), scores
    blanks = (
        text.replace(" ", SPACE) if kind == NORMAL else text for text, kind in zip(texts, types, strict=True)
    )
    return tuple(blanks), scores
