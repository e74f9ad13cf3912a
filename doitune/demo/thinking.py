"""Question makers whose answer is found by thinking: understanding, reasoning, math, ethics."""

from __future__ import annotations

from doitune.demo import people
from doitune.demo.dice import Dice
from doitune.demo.questions import Asking, Question, listed, single_choice

_ACKNOWLEDGED = ("读完了。", "好，请问。", "我记住了。")


def understanding(ask: Asking) -> Question:
    """A talk of three people as the first turn; then where one of them goes, or what for, out of 3 or 4
    options."""
    dice = ask.dice
    who = dice.several(people.PEOPLE, 3)
    places, doings = dice.several(people.PLACES, 4), dice.several(people.DOINGS, 4)
    talk = people.outing(dice, who, places, doings)
    at, options = dice.below(3), 4 if ask.serial % 4 == 3 or dice.happens(0.4) else 3
    if dice.happens(0.5):
        text, asked = dice.pick(("{n}的去处是哪里？", "{n}要去什么地方？")), places
    else:
        text, asked = dice.pick(("{n}要做的事是什么？", "{n}出门做什么？")), doings
    wrong = dice.shuffled([entry for entry in asked if entry != asked[at]])[: options - 1]
    question = single_choice(
        ask._replace(serial=ask.serial % 4), text.replace("{n}", who[at]), asked[at], wrong
    )
    return question._replace(turns=("读一段对话：\n" + talk, dice.pick(_ACKNOWLEDGED), *question.turns))


_SETS = (
    ("读书会", "借了新书"),
    ("合唱团", "会唱老歌"),
    ("球队", "穿着白鞋"),
    ("船队", "见过大海"),
    ("画室", "带着画笔"),
    ("车队", "认得山路"),
)


def _order(dice: Dice) -> tuple[str, str, list[str]]:
    """Three people compared in two sentences, in any order and either direction; who is at an end, or in
    the middle?"""
    more, less = dice.pick(people.COMPARED)
    compared = dice.several(people.PEOPLE, 4)
    first, second, third, _ = compared
    upper = f"{first}比{second}{more}" if dice.happens(0.5) else f"{second}比{first}{less}"
    lower = f"{second}比{third}{more}" if dice.happens(0.5) else f"{third}比{second}{less}"
    lines = f"{upper}，{lower}。" if dice.happens(0.5) else f"{lower}，{upper}。"
    end = dice.below(3)
    text = (f"{lines}最{more}的是谁？", f"{lines}排在中间的是谁？", f"{lines}最{less}的是谁？")[end]
    return text, compared[end], dice.shuffled([who for who in compared if who != compared[end]])


def _membership(dice: Dice) -> tuple[str, str, list[str]]:
    """All members of one group have a trait; one person is a member, one lacks the trait: who has it, or
    who is no member?"""
    group, trait = dice.pick(_SETS)
    other, _ = dice.several(_SETS, 1, without=((group, trait),))[0]
    member, outsider, third, fourth = dice.several(people.PEOPLE, 4)
    lines = [f"{group}的人都{trait}", f"{member}是{group}的人", f"{outsider}不是{other}的人，也没{trait}"]
    text = "，".join(dice.shuffled(lines)) + "。"
    if dice.happens(0.5):
        return text + f"一定{trait}的是谁？", member, dice.shuffled([outsider, third, fourth])
    return text + f"一定不是{group}的人的是谁？", outsider, dice.shuffled([member, third, fourth])


def _elimination(dice: Dice) -> tuple[str, str, list[str]]:
    """Three people go to three different places; two are told apart by what they do not do."""
    one, two, three = dice.several(people.PEOPLE, 3)
    here, there, yonder, never = dice.several(people.PLACES, 4)
    lines = [f"{one}去{here}", f"{two}不去{there}" if dice.happens(0.5) else f"{three}不去{yonder}"]
    text = (
        f"{one}、{two}、{three}分别去{'、'.join(dice.shuffled([here, there, yonder]))}，"
        + "，".join(dice.shuffled(lines))
        + "。"
    )
    if dice.happens(0.5):
        return text + f"{two}去哪里？", yonder, dice.shuffled([here, there, never])
    return text + f"{three}去哪里？", there, dice.shuffled([here, yonder, never])


def reasoning(ask: Asking) -> Question:
    """Four options: an order of three (half the rows), membership of a group, elimination."""
    dice = ask.dice
    kind = dice.below(4)
    text, right, wrong = _order(dice) if kind < 2 else _membership(dice) if kind == 2 else _elimination(dice)
    return single_choice(ask, text, right, wrong)


def _buy_and_use(dice: Dice) -> tuple[str, str, int]:
    who, thing = dice.pick(people.PEOPLE), dice.pick(people.THINGS)
    have, more = dice.between(5, 40), dice.between(3, 30)
    total = have + more
    less = dice.between(2, total - 1)
    verb, gone = dice.pick((("买了", "吃了"), ("得到", "送走"), ("借来", "用掉")))
    text = f"{who}有{have}个{thing}，又{verb}{more}个，{gone}{less}个，还剩几个？"
    return text, f"{have}+{more}={total}，{total}-{less}={total - less}", total - less


def _boxes(dice: Dice) -> tuple[str, str, int]:
    who, thing = dice.pick(people.PEOPLE), dice.pick(people.THINGS)
    each, boxes, extra = dice.between(2, 9), dice.between(2, 9), dice.between(2, 30)
    total = each * boxes
    text = f"{who}把{thing}装成{boxes}盒，每盒{each}个，盒外还有{extra}个，一共几个？"
    return text, f"{boxes}*{each}={total}，{total}+{extra}={total + extra}", total + extra


def _share(dice: Dice) -> tuple[str, str, int]:
    who, thing = dice.pick(people.PEOPLE), dice.pick(people.THINGS)
    each, heads, kept = dice.between(2, 9), dice.between(2, 9), dice.between(2, 20)
    total = each * heads
    text = f"{who}有{total + kept}个{thing}，留下{kept}个，其余平均分给{heads}人，每人几个？"
    return text, f"{total + kept}-{kept}={total}，{total}/{heads}={each}", each


def _change(dice: Dice) -> tuple[str, str, int]:
    who, thing = dice.pick(people.PEOPLE), dice.pick(people.THINGS)
    price, count = dice.between(2, 9), dice.between(2, 9)
    cost = price * count
    paid = cost + dice.between(1, 30)
    text = f"{thing}每个{price}元，{who}买{count}个，付了{paid}元，应找回几元？"
    return text, f"{price}*{count}={cost}，{paid}-{cost}={paid - cost}", paid - cost


_PROBLEMS = (_buy_and_use, _boxes, _share, _change)


def math(ask: Asking) -> Question:
    """A word problem in two steps; the reply is the two sums and the result, boxed in every fourth row."""
    text, sums, number = ask.dice.pick(_PROBLEMS)(ask.dice)
    result = f"答案是\\boxed{{{number}}}" if ask.serial % 4 == 3 else f"答案：{number}"
    return Question((text,), f"{sums}，{result}", answer=str(number))


_WHICH = ("下面哪些做法是对的？", "找出所有好事。", "哪些事做得对？", "选出应该表扬的做法。")
_OPEN = ("{n}{a}，这样做对吗？", "你怎么看{n}{a}？", "{n}想{a}，该不该？")
_GOOD_WORDS = ("这样做是对的，{a}是好事，值得表扬。", "应该。{a}是好事，大家都会高兴。")
_BAD_WORDS = ("这样做不对，{a}是坏事，会害了别人。", "不应该。{a}是坏事，要认真道歉。")


def _opinion(dice: Dice) -> Question:
    good = dice.happens(0.5)
    act = dice.pick(people.GOOD_DEEDS if good else people.BAD_DEEDS)
    text = dice.pick(_OPEN).replace("{n}", dice.pick(people.PEOPLE)).replace("{a}", act)
    return Question((text,), dice.pick(_GOOD_WORDS if good else _BAD_WORDS).replace("{a}", act))


def ethics(ask: Asking) -> Question:
    """Which of four acts are right? One to four letters. One training row in six is a short opinion
    instead."""
    dice = ask.dice
    if not ask.exam and ask.serial % 6 == 5:
        return _opinion(dice)
    right = 1 + (ask.serial // 2) % 4 if ask.serial % 8 else 2
    acts = dice.shuffled(dice.several(people.GOOD_DEEDS, right) + dice.several(people.BAD_DEEDS, 4 - right))
    letters = "".join([letter for letter, act in zip("ABCD", acts) if act in people.GOOD_DEEDS])
    named = [dice.pick(people.PEOPLE) + act for act in acts] if dice.happens(0.5) else acts
    return Question((dice.pick(_WHICH) + listed(named),), letters)
