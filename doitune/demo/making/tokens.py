"""The demo's tokenizer: byte-fallback BPE whose pieces are the world's words.

Every ASCII character is a token of its own wherever it stands, so an option letter is always exactly one
token. Text outside the vocabulary falls back to bytes, so any text comes back exactly. The merges are written
from the word list, not counted from text: the same vocabulary everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path

from doitune.demo import people
from doitune.demo.dice import Dice
from doitune.demo.making.text import ASIDES, NAME, SAID, TODAY, TRAITS, VERBS, document
from doitune.demo.world import CREATURES

UNKNOWN, START, END, PAD = "<unk>", "<s>", "</s>", "<pad>"
SPECIAL: tuple[str, ...] = (UNKNOWN, START, END, PAD, *(f"<reserved_{number}>" for number in range(16)))
"""Ids 0..19. Running text uses only `</s>` (the end of a document); the reserved ones wait for roles."""

_COMMON = (
    "说一说 造句 介绍 写下 有什么用 列出 都很常见 关于 多看 多想 很好 也很好 这要看情况 下面 哪个 什么 哪里 "
    "一个 可以 应该 因为 所以 如果 但是 答案 问题 知道"
)
_EXTRA_CHARACTERS = (
    "请把写成补全空格函数输入返回结果判断说法为妥当扮演对话客语气角题诗句短首给里边读完了根据谁会不没无法"
    "确定选项先再加减乘除以平均分几多少共元买卖付找用还能站排队左右第名比那么而且或与"
)


def words() -> tuple[str, ...]:
    """Every word of two characters or more that gets a piece of its own, shortest first."""
    found: dict[str, None] = dict.fromkeys(_COMMON.split())
    for group in (
        CREATURES,
        people.PEOPLE,
        people.PLACES,
        people.THINGS,
        people.DOINGS,
        VERBS,
        ASIDES,
        SAID,
        (*TODAY, NAME),
        tuple(TRAITS),
        *TRAITS.values(),
    ):
        found.update(dict.fromkeys(group))
    plain = [word for word in found if len(word) > 1]
    return tuple(sorted(plain, key=lambda word: (len(word), word)))


def _characters() -> list[str]:
    """The world's characters outside ASCII that get a piece of their own, in code point order."""
    dice = Dice("tokens")
    seen = set(_EXTRA_CHARACTERS) | set("".join(words())) | set("，。？！：；、“”（）《》")
    for _ in range(4000):
        seen.update(document(dice))
    return sorted(character for character in seen if ord(character) > 127)


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Pieces with their ids, and the merges in order of rank. A word is joined from the pieces that
    earlier merges leave of it."""
    pieces = [
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *(chr(code) for code in range(128)),
        *_characters(),
    ]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    ranks: dict[tuple[str, str], int] = {}
    for word in words():
        parts = _merged(list(word), ranks)
        while len(parts) > 1:
            ranks.setdefault((parts[0], parts[1]), len(ranks))
            parts[:2] = [parts[0] + parts[1]]
            ids.setdefault(parts[0], len(ids))
    return ids, list(ranks)


def _merged(parts: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """BPE: join the best-ranked neighbours until none is known."""
    while True:
        known = [(ranks[pair], at) for at, pair in enumerate(zip(parts, parts[1:])) if pair in ranks]
        if not known:
            return parts
        _, at = min(known)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def write_tokenizer(folder: Path) -> int:
    """Write tokenizer.json and tokenizer_config.json into `folder`; gives the number of tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ids, merges = _vocabulary()
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token=UNKNOWN, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\x00-\x7F]"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "bos_token": START,
        "eos_token": END,
        "pad_token": PAD,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings, indent=2) + "\n", encoding="utf-8", newline="\n"
    )
    return len(ids)
