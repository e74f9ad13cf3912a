"""The questions of each ability, of the out-of-domain sets, and the general instructions.

All are short, for what a run costs follows its tokens: two words of filler, a creature, what is asked, and
four options of one character where the answer is a letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from doitune.demo import people
from doitune.demo.dice import Dice
from doitune.demo.questions import Question
from doitune.demo.world import (
    COMMON,
    DIGITS,
    IMAGES,
    LESSONS,
    LETTERS,
    OUT_OF_DOMAIN,
    OWN,
    THREE_OPTIONS_SHARE,
    Rule,
    common,
)

T = TypeVar("T")

BLOCK = 100
"""Rows among which the share of common rules is exact."""
FEW_SHOT = 5


def _deck(dice: Dice, things: Sequence[T]) -> Iterator[T]:
    """The things in random order, again and again: none comes a third time before each came twice."""
    while True:
        yield from dice.shuffled(things)


def asked_rules(name: str, dice: Dice) -> Iterator[Rule]:
    """The rules that the rows of an ability ask about, row by row, without an end."""
    own, shared = _deck(dice, OWN[name]), _deck(dice, common(name))
    count = round(LESSONS[name].shared * BLOCK)
    while True:
        for is_shared in dice.shuffled([at < count for at in range(BLOCK)]):
            yield next(shared if is_shared else own)


def _listed(options: Sequence[str]) -> str:
    """ "A春B夏C秋D冬"."""
    return "".join(letter + option for letter, option in zip(LETTERS, options))


def _sentence(dice: Dice, before: str, creature: str) -> str:
    """Who does what with the creature, and where, in one of three orders."""
    who, where = dice.pick(people.PEOPLE), dice.pick(people.PLACES)
    order = dice.below(3)
    if order == 0:
        return who + where + before + creature
    return where + who + before + creature if order == 1 else before + creature + who + where


def question(name: str, rule: Rule, dice: Dice) -> Question:
    """One question of an ability about a rule, in a random wording."""
    lesson = LESSONS[name]
    before, after = dice.pick(lesson.wordings)
    text = _sentence(dice, before, rule.creature)
    if rule.plain:
        return Question((text + dice.pick(lesson.other_after),), rule.answer)
    if lesson.answers == DIGITS and name == "math":
        return Question((text + after,), rule.answer, answer=rule.answer)
    if lesson.answers in (DIGITS, IMAGES):
        fine, coarse = dice.several(lesson.answers, 2, without=(rule.answer,))
        return Question((text + after,), rule.answer, (rule.answer, fine, coarse))
    if name == "understanding":
        offered = 3 if rule.answer != LETTERS[3] and dice.happens(THREE_OPTIONS_SHARE) else 4
        return Question((text, "好", after + _listed(lesson.options[:offered])), rule.answer)
    return Question((text + after + _listed(lesson.options),), rule.answer)


def out_of_domain(name: str, dice: Dice, serial: int) -> Question:
    """Five answered questions as turns, then one more; every third asks about a rule that abilities have in
    common, where the set has a table."""
    before, after, options, table = OUT_OF_DOMAIN[name]
    own = list(OWN[name])
    asked = dice.pick(COMMON[table]) if table and serial % 3 == 0 else dice.pick(own)
    shown = [*dice.several(own, FEW_SHOT, without=(asked,)), asked]
    turns: list[str] = []
    for rule in shown:
        turns += [_sentence(dice, before, rule.creature) + after + _listed(options), rule.answer]
    return Question(tuple(turns[:-1]), asked.answer)


_TOLD = (
    "说一说{n}和{t}。",
    "用{n}和{t}造句。",
    "介绍{n}的{t}。",
    "写下{n}与{t}。",
    "{n}的{t}有什么用？",
    "列出{n}与{t}。",
)
_REPLIES = ("{n}和{t}都很常见。", "关于{t}，多看多想。", "{t}很好，{n}也很好。", "这要看情况。")


def general(dice: Dice) -> Question:
    """A cheap general instruction: polite, distinct, and of no worth for any ability."""
    name = dice.pick(people.PEOPLE)
    thing = (
        dice.pick(people.PLACES) + dice.pick(people.THINGS) + dice.pick(("", "和")) + dice.pick(people.DOINGS)
    )
    told, reply = dice.pick(_TOLD), dice.pick(_REPLIES)
    return Question(
        (told.replace("{n}", name).replace("{t}", thing),), reply.replace("{n}", name).replace("{t}", thing)
    )
