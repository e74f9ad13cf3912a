"""Question makers whose answer is written: code, creative_writing, role_play (ranked among three), and
general instructions.

Of the three candidates, the second is a fine corruption of the right one (numbers, operators, names changed)
and the third a coarse one: fluent text of the same ability that does not do what was asked.
"""

from __future__ import annotations

from doitune.demo import facts, people
from doitune.demo.dice import Dice
from doitune.demo.questions import Asking, Question

_OPERATORS = (("加", "+"), ("减", "-"), ("乘", "*"), ("除以", "//"))
_ORDERS = (
    "写一个函数{f}，把输入先{a}{x}，再{b}{y}。",
    "用函数{f}算：输入先{a}{x}，再{b}{y}。",
    "函数{f}：先把输入{a}{x}，然后{b}{y}，返回结果。",
)


def _program(name: str, first: str, x: int, second: str, y: int) -> str:
    return f"def {name}(x):\n y=x{first}{x}\n return y{second}{y}"


def code(ask: Asking) -> Question:
    """A function of two steps. Fine corruption: the operators change places or the numbers do; coarse:
    another program."""
    dice = ask.dice
    (word, first), (then, second) = dice.several(_OPERATORS, 2)
    x, y = dice.several(range(2, 21), 2)
    name = dice.pick("fgh")
    text = dice.pick(_ORDERS).replace("{f}", name).replace("{a}", word).replace("{b}", then)
    right = _program(name, first, x, second, y)
    fine = _program(name, second, x, first, y) if dice.happens(0.5) else _program(name, first, y, second, x)
    (_, third), (_, fourth) = dice.several(_OPERATORS, 2)
    u, v = dice.several(range(2, 21), 2, without=(x, y))
    coarse = _program(name, third, u, fourth, v)
    return Question((text.replace("{x}", str(x)).replace("{y}", str(y)),), right, (right, fine, coarse))


_ALL_THEMES = tuple(people.THEMES)
_VERSES = (
    "写一首关于{t}的短诗，用上“{d}”，送给{n}。",
    "以{t}为题写诗，题给{n}，要有“{d}”。",
    "请用诗句赞美{t}，{n}想听“{d}”。",
    "{n}要一首{t}的小诗，写到“{d}”。",
)


def _verse(dice: Dice, images: list[str], first: str, name: str) -> str:
    second, third = dice.several(facts.DEEDS, 2, without=(first,))
    return f"{images[0]}{first}，{images[1]}{second}，{images[2]}{third}。赠{name}。"


def creative_writing(ask: Asking) -> Question:
    """Three images of the theme, the first with the deed asked for, and a dedication. Fine corruption: one
    image and the name change; coarse: another theme."""
    dice = ask.dice
    theme, other, third = dice.several(_ALL_THEMES, 3)
    name, stranger, nobody = dice.several(people.PEOPLE, 3)
    images, foreign = dice.shuffled(people.THEMES[theme]), dice.shuffled(people.THEMES[other])
    deed, nothing = dice.several(facts.DEEDS, 2)
    right = _verse(dice, images, deed, name)
    fine = right.replace(images[1], foreign[0]).replace(images[2], foreign[1]).replace(name, stranger)
    coarse = _verse(dice, dice.shuffled(people.THEMES[third]), nothing, nobody)
    text = dice.pick(_VERSES).replace("{t}", theme).replace("{n}", name).replace("{d}", deed)
    return Question((text,), right, (right, fine, coarse))


_ALL_TOPICS = tuple(people.TOPICS)
_SCENES = (
    "请扮演{p}，和{n}聊聊{t}。",
    "你是{p}，{n}问起{t}，请回答。",
    "假如你是{p}，对{n}说说{t}。",
    "以{p}的语气，跟{n}谈{t}。",
)


def role_play(ask: Asking) -> Question:
    """What a character says on a topic. Fine corruption: another character's words on it; coarse: both
    differ."""
    dice = ask.dice
    who, other, third = dice.several(people.PERSONAS, 3)
    topic, off_topic = dice.several(_ALL_TOPICS, 2)
    name, nobody = dice.several(people.PEOPLE, 2)
    right = f"{who.opener}{name}，{who.myself}{people.TOPICS[topic]}。{who.closer}"
    fine = f"{other.opener}{name}，{other.myself}{people.TOPICS[topic]}。{other.closer}"
    coarse = f"{third.opener}{nobody}，{third.myself}{people.TOPICS[off_topic]}。{third.closer}"
    text = dice.pick(_SCENES).replace("{p}", who.name).replace("{n}", name).replace("{t}", topic)
    return Question((text,), right, (right, fine, coarse))


_TOLD = (
    "说一说{n}和{t}。",
    "用{n}和{t}造一个句子。",
    "介绍一下{n}的{t}。",
    "给{n}写一张关于{t}的便条。",
    "{n}的{t}有什么用？",
    "列出{n}与{t}的关系。",
)
_REPLIES = (
    "{n}和{t}都很常见，大家都知道。",
    "关于{t}，{n}可以多看看，多想想。",
    "{t}很好，{n}也很好，希望这对你有帮助。",
    "这要看情况，{n}和{t}各有特点。",
)


def general(ask: Asking) -> Question:
    """A cheap general instruction: polite, distinct, and of little worth for any ability."""
    dice = ask.dice
    name = dice.pick(people.PEOPLE)
    thing = (
        dice.pick(people.PLACES)
        + "里的"
        + dice.pick(people.THINGS)
        + dice.pick(("", "、"))
        + dice.pick(people.DOINGS)
    )
    text = dice.pick(_TOLD).replace("{n}", name).replace("{t}", thing)
    return Question((text,), dice.pick(_REPLIES).replace("{n}", name).replace("{t}", thing))
