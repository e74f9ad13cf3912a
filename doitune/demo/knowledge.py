"""Question makers for what is known of the world: biology, history, chinese, and the out-of-domain trades."""

from __future__ import annotations

from doitune.demo import facts, people
from doitune.demo.dice import Dice
from doitune.demo.questions import Asking, Question, single_choice
from doitune.demo.relation import Relation, contrasts


def _subjects(ask: Asking, relation: Relation) -> tuple[str, ...]:
    return relation.subjects if ask.exam else relation.asked


def _value_of(ask: Asking, relation: Relation) -> Question:
    """Which value has this subject?"""
    dice = ask.dice
    subject = dice.pick(_subjects(ask, relation))
    right = relation.facts[subject]
    wrong = dice.several(relation.values, 3, without=(right,))
    return single_choice(ask, dice.pick(relation.questions).replace("{s}", subject), right, wrong)


def _subject_with(ask: Asking, relation: Relation) -> Question:
    """Which subject has this value?"""
    subjects = _subjects(ask, relation)
    right = ask.dice.pick(subjects)
    value = relation.facts[right]
    wrong = contrasts(ask.dice, relation, subjects, value)
    return single_choice(ask, relation.reverse.replace("{v}", value), right, wrong)


_SETTINGS = ("", "动物园里，", "野外观察时，", "翻开图鉴，", "生物课上，")


def biology(ask: Asking) -> Question:
    """Four options about a creature's home, food, colour or skill; one in five asks for the creature."""
    relation = ask.dice.pick(facts.BIOLOGY)
    asked = _subject_with(ask, relation) if ask.dice.happens(0.2) else _value_of(ask, relation)
    return asked._replace(turns=(ask.dice.pick(_SETTINGS) + asked.turns[0],))


_CLAIMS = ("判断这句话：“{c}”", "“{c}”这个说法对不对？", "有人说“{c}”，请判断。")
_SOURCES = ("", "史书上说，", "导游说，", "石碑上写着，", "老人说，", "课本里说，")
_RESULTS = ("回答正确或错误。", "写出正确或错误。", "是正确还是错误？")


def _claim(ask: Asking) -> Question:
    """True or false: a statement about a building, with a wrong value in every second row."""
    dice = ask.dice
    relation = dice.pick(facts.HISTORY)
    subject = dice.pick(_subjects(ask, relation))
    right = relation.facts[subject]
    value = right if ask.serial % 2 else dice.several(relation.values, 1, without=(right,))[0]
    claim = dice.pick(_SOURCES) + dice.pick(relation.statements)[:-1].replace("{s}", subject).replace(
        "{v}", value
    )
    text = dice.pick(_CLAIMS).replace("{c}", claim) + dice.pick(_RESULTS)
    return Question((text,), "正确" if value == right else "错误")


def history(ask: Asking) -> Question:
    """Four options about a building's builder, age or region; three in ten are true-or-false."""
    if ask.serial % 10 in (2, 5, 8):
        return _claim(ask)
    relation = ask.dice.pick(facts.HISTORY)
    return _subject_with(ask, relation) if ask.dice.happens(0.15) else _value_of(ask, relation)


_NUMBERS = ("一", "两", "三", "四", "五", "六", "七", "八", "九", "十")
_SCENES = ("桌上有", "远处有", "画里有", "他看见", "她想要", "门外有", "这里有", "梦见了", "数一数，有")
_BLANKS = ("填量词：{t}", "在空格里填一个量词：{t}", "补全句子，填一个字：{t}")
_CUES = ("补全谚语：{t}", "老话怎么说？{t}", "把这句谚语写完：{t}")
_LISTENERS = ("", "讲给{n}听，", "{n}忘了，")


def _cloze(ask: Asking) -> Question:
    """One blank: the measure word of a counted thing, or the second half of a proverb."""
    dice = ask.dice
    if dice.happens(0.6):
        noun = dice.pick(_subjects(ask, facts.CHINESE[2]))
        other = dice.pick(_subjects(ask, facts.CHINESE[2]))
        more = f"，还有一{facts.COUNTED[other]}{other}" if other != noun and dice.happens(0.5) else ""
        text = f"{dice.pick(_SCENES)}{dice.pick(_NUMBERS)}____{noun}{more}。"
        return Question((dice.pick(_BLANKS).replace("{t}", text),), facts.COUNTED[noun])
    half = dice.pick(_subjects(ask, facts.PROVERBS))
    listener = dice.pick(_LISTENERS).replace("{n}", dice.pick(people.PEOPLE))
    text = dice.pick(_CUES).replace("{t}", f"{half}，____。")
    return Question((listener + text,), facts.PROVERBS.facts[half])


def chinese(ask: Asking) -> Question:
    """Four options about words near or opposite in meaning and measure words; four in ten are a cloze."""
    if ask.serial % 5 in (1, 3):
        return _cloze(ask)
    return _value_of(ask, ask.dice.pick(facts.CHINESE))


def out_of_domain(name: str, dice: Dice, serial: int) -> Question:
    """Five answered questions as turns, then one more, about one trade (`name` is a key of
    facts.OUT_OF_DOMAIN)."""
    relation = facts.OUT_OF_DOMAIN[name]
    subjects, values = relation.subjects, relation.values
    turns: list[str] = []
    reply = ""
    for number, subject in enumerate(dice.several(subjects, 6)):
        right = relation.facts[subject]
        place = serial + number * 3 if number < 5 else serial
        asked = single_choice(
            Asking(dice, place, True),
            dice.pick(relation.questions).replace("{s}", subject),
            right,
            dice.several(values, 3, without=(right,)),
        )
        turns += [*asked.turns, asked.reply]
        reply = asked.reply
    return Question(tuple(turns[:-1]), reply)
