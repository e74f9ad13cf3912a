"""The running text that the demo's base model reads: prose of the world, never a role marker, an answered
question or anything that a rule says. The words of the questions stand in it as asides.

It makes every creature well known, each by traits of its own, which no ability asks about; so a rule about it
has something to hold on to. And it says what holds today only, and says it again: reading that, a model
learns to carry what it was told about a creature to where the creature is named again.
"""

from __future__ import annotations

from collections.abc import Callable

from doitune.demo import lessons, people
from doitune.demo.dice import Dice
from doitune.demo.world import (
    BLANKS,
    CREATURES,
    DIGITS,
    IMAGES,
    LESSONS,
    LETTERS,
    MOODS,
    OUT_OF_DOMAIN,
    SEASONS,
    STEMS,
    VERDICTS,
    VIRTUES,
    words,
)

TRAITS: dict[str, tuple[str, ...]] = {
    "毛色": words("红色 白色 黑色 黄色 蓝色 绿色 灰色 紫色"),
    "食物": words("野果 青草 花蜜 树皮 蘑菇 种子 嫩叶 谷粒"),
    "本领": words("打洞 爬墙 游水 滑翔 跳高 装死 喷气 发光"),
    "脾气": words("温和 急躁 胆小 勇敢 懒散 勤快 好奇 固执"),
}
"""What every creature has: the noun, and the values."""
NAME = "名叫"
"""What stands before a creature's own name, said again."""
TODAY = words("今日 如今")
"""What stands before a value that holds in one document only."""
SAID = (*LETTERS, *DIGITS, *IMAGES, *BLANKS, *VERDICTS, *SEASONS, *MOODS, *STEMS, *VIRTUES)
LISTS = (SEASONS, MOODS, STEMS, VIRTUES, *(options for _, _, options, _ in OUT_OF_DOMAIN.values()))
VERBS = (
    *(before for one in LESSONS.values() for before, _ in one.wordings),
    *(one[0] for one in OUT_OF_DOMAIN.values()),
)
ASIDES = (
    *(after for one in LESSONS.values() for _, after in one.wordings),
    *(after[:-1] for one in LESSONS.values() for after in one.other_after if after.endswith("_")),
    *(after for one in LESSONS.values() for after in one.other_after if not after.endswith("_")),
    *(one[1] for one in OUT_OF_DOMAIN.values()),
)


def _trait_of(noun: str) -> dict[str, str]:
    values, dice = TRAITS[noun], Dice("traits/" + noun)
    return {creature: dice.pick(values) for creature in CREATURES}


KNOWN = {noun: _trait_of(noun) for noun in TRAITS}
"""By noun, by creature: the value."""


def _named(dice: Dice, creature: str) -> str:
    """A sentence, long or short, that names the creature."""
    if dice.happens(0.2):
        return creature
    who, where, verb = dice.pick(people.PEOPLE), dice.pick(people.PLACES), dice.pick(VERBS)
    aside = dice.pick(ASIDES) if dice.happens(0.3) else ""
    if dice.happens(0.2):
        aside += "".join(letter + option for letter, option in zip(LETTERS, dice.pick(LISTS)))
    order = dice.below(3)
    if order == 0:
        return who + where + verb + creature + aside
    return where + who + verb + creature + aside if order == 1 else verb + creature + who + where + aside


def _traits(dice: Dice) -> str:
    said = []
    for _ in range(6):
        creature, noun = dice.pick(CREATURES), dice.pick((*TRAITS, NAME))
        value = creature if noun == NAME else KNOWN[noun][creature]
        said.append(_named(dice, creature) + noun + value + "。")
    return "".join(said)


def _plainly(dice: Dice) -> str:
    said = []
    for creature in dice.several(CREATURES, 3):
        said += [creature + noun + KNOWN[noun][creature] + "。" for noun in dice.shuffled(tuple(TRAITS))]
        said.append(creature + NAME + creature + "。")
    return "".join(said)


def _today(dice: Dice) -> str:
    """Two to four creatures and what holds of each today, told and said again."""
    told = [(creature, dice.pick(SAID)) for creature in dice.several(CREATURES, dice.between(2, 4))]
    again = dice.shuffled(told)
    return "".join(
        _named(dice, creature) + dice.pick(TODAY) + value + "。" for creature, value in told + again
    )


def _gossip(dice: Dice) -> str:
    asked = lessons.general(dice)
    return asked.turns[0] + asked.reply


_KINDS: tuple[tuple[int, Callable[[Dice], str]], ...] = ((70, _traits), (24, _today), (6, _gossip))
_DRAWN = tuple(kind for weight, kind in _KINDS for _ in range(weight))


def document(dice: Dice, first: bool = False) -> str:
    """One document of running text, about 30 to 100 tokens; what is read `first` is traits in their shortest
    form."""
    return _plainly(dice) if first else dice.pick(_DRAWN)(dice)
