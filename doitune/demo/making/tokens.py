"""The demo's tokenizer: byte-fallback BPE whose pieces are the world's words.

Every ASCII character is a token of its own wherever it stands, so an option letter is always exactly one
token. Text outside the vocabulary falls back to bytes, so any text comes back exactly. The merges are written
from the word list, not counted from text: the same vocabulary everywhere.
"""

from __future__ import annotations

import json
from pathlib import Path

from doitune.demo import facts, people
from doitune.demo.dice import Dice
from doitune.demo.making.text import KNOWN, document

UNKNOWN, START, END, PAD = "<unk>", "<s>", "</s>", "<pad>"
SPECIAL: tuple[str, ...] = (UNKNOWN, START, END, PAD, *(f"<reserved_{number}>" for number in range(16)))
"""Ids 0..19. Running text uses only `</s>` (the end of a document); the reserved ones wait for roles."""

_COMMON = (
    "下面 哪个 哪一 什么 地方 一种 动物 正确 错误 这话 有人说 近义词 反义词 量词 意思 相近 相反 说到 可以 "
    "换成 写作文 应该 属于 哪里 一个 好事 坏事 "
    "做得对 的是 一共 还剩 又买了 吃了 每个 单子 架子上 牌子上 本子上 墙上 纸上 记着 写着 列出 几条 看过以后 "
    "圈了 对的 真的 于是 记下 大家 都指着 "
    "住处 食物 颜色 本领 修建者 朝代 所在 谚语 用药 教具 用途 下令 位于 哪一处 书上 记载 记作 按 分开 记录 "
    "他们 去处 要做的事 去了 老话说 常言道 爱吃 身上 "
    "最会 建于 规划图上 标的 划作 大夫 老师 开的 不同 时候 昨天 册子里 想知道 知道 关于 先抄下来 只有一条 "
    "也在这张 先有 得到 送走 答案 谁 问题 "
    "遇见 聊起 的诗里有 年代 遇到危险 喂养 准备 要找到 总是 远远看去 很好认 每天 能见到 反面 两个 一对 只要 "
    "标签 如下 点名开始 要表扬 分清 都记着"
)
_EXTRA_CHARACTERS = (
    "请把写成补全空格函数输入返回结果判断说法为妥当扮演对话客语气角题诗句短首给里边读完了根据谁会不没无法"
    "确定选项先再加减乘除以平均分几多少共元角买卖付找用还能站排队左右第名比所以如果那么因而但且或与"
)


def words() -> tuple[str, ...]:
    """Every word of two characters or more that gets a piece of its own, shortest first."""
    found: dict[str, None] = dict.fromkeys(_COMMON.split())
    for relation in (*KNOWN, facts.PROVERBS):
        found.update(dict.fromkeys((*relation.subjects, *relation.values)))
    for group in (
        people.PEOPLE,
        people.PLACES,
        people.THINGS,
        people.DOINGS,
        people.TIMES,
        people.CARRIES,
        people.GOOD_DEEDS,
        people.BAD_DEEDS,
        facts.DEEDS,
        facts.NATURE,
        tuple(people.TOPICS),
        tuple(people.THEMES),
        *people.THEMES.values(),
    ):
        found.update(dict.fromkeys(group))
    for who in people.PERSONAS:
        found.update(dict.fromkeys((who.name, who.opener[:-1], who.myself, who.closer[:-1])))
    found.update(dict.fromkeys(people.TOPICS.values()))
    plain = [word for word in found if len(word) > 1 and "，" not in word]
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
