"""The running text that the demo's base model reads: prose of the world, never an instruction, an exam
question or a role marker.

It holds every fact in several wordings, dialogues, sums, programs, verse, and many lists with lettered
entries that the prose then refers to ("A. 森林 ... 云狐归B"): reading those, a model learns to bind a letter
to what stands beside it, and to a fact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from doitune.demo import facts, people
from doitune.demo.dice import Dice
from doitune.demo.questions import LETTERS
from doitune.demo.relation import Relation, contrasts

KNOWN: tuple[Relation, ...] = (*facts.BIOLOGY, *facts.HISTORY, *facts.CHINESE, *facts.OUT_OF_DOMAIN.values())

_HEADS = (
    "下面几条里有{q}，先抄下来。",
    "册子里记着{q}，只有一条是真的。",
    "有人想知道{q}，墙上写着几条。",
    "关于{q}，纸上列出几条。",
    "大家在说{q}，牌子上有几条。",
    "本子上记着{q}。",
    "{q}也在这张单子里。",
)
_TAILS = (
    "看过以后圈了{L}。",
    "对的是{L}。",
    "于是记下{L}。",
    "真的那条是{L}。",
    "大家都指着{L}。",
    "{L}。",
    "应该是{L}。",
    "{L}这条是真的。",
)
_POINTERS = ("{s}归{L}", "{s}是{L}", "{s}在{L}", "{s}记作{L}", "{s}圈了{L}", "{s}{L}", "{s}{L}")


def _listing(dice: Dice, entries: Sequence[str]) -> str:
    """Lettered entries, mostly one a line, sometimes all in one."""
    if dice.happens(0.8):
        return "".join(f"\n{letter}. {entry}" for letter, entry in zip(LETTERS, entries)) + "\n"
    return " ".join(f"{letter}. {entry}" for letter, entry in zip(LETTERS, entries)) + "。"


def _fact(dice: Dice, relation: Relation, subject: str) -> str:
    return dice.pick(relation.statements).replace("{s}", subject).replace("{v}", relation.facts[subject])


def _facts(dice: Dice) -> str:
    """All that is known about one subject, or one relation of several."""
    relation = dice.pick(KNOWN)
    if dice.happens(0.5):
        subject = dice.pick(relation.subjects)
        lines = [_fact(dice, other, subject) for other in KNOWN if subject in other.facts]
        return "".join(dice.shuffled(lines))
    return "".join(_fact(dice, relation, subject) for subject in dice.several(relation.subjects, 4))


def _ask(dice: Dice, relation: Relation, subject: str) -> str:
    """What a fact is about, without its value, as a part of a sentence: the wording of the question or
    "云狐的住处"."""
    if dice.happens(0.5):
        return f"{subject}的{relation.noun}"
    return dice.pick(relation.questions).replace("{s}", subject)[:-1]


def _fact_then_letter(dice: Dice) -> str:
    """A subject is named, entries are listed, the letter of its fact follows."""
    relation = dice.pick(KNOWN)
    subject = dice.pick(relation.subjects)
    value = relation.facts[subject]
    entries = dice.shuffled([value, *dice.several(relation.values, 3, without=(value,))])
    topic = _ask(dice, relation, subject)
    head = dice.pick(_HEADS).replace("{q}", topic) if dice.happens(0.4) else topic
    tail = dice.pick(_TAILS).replace("{L}", LETTERS[entries.index(value)])
    more = (
        [
            f"{other}的{relation.noun}是{LETTERS[entries.index(relation.facts[other])]}。"
            for other in dice.several(relation.subjects, 4)
            if relation.facts[other] in entries
        ]
        if dice.happens(0.4)
        else []
    )
    return head + _listing(dice, entries) + tail + "".join(more)


def _subject_then_letter(dice: Dice) -> str:
    """A value is named, subjects are listed, the letter of the one subject that has it follows."""
    relation = dice.pick((*facts.BIOLOGY, *facts.HISTORY))
    subject = dice.pick(relation.subjects)
    value = relation.facts[subject]
    entries = dice.shuffled([subject, *contrasts(dice, relation, relation.subjects, value)])
    topic = relation.reverse.replace("{v}", value)[:-1]
    tail = dice.pick(_TAILS).replace("{L}", LETTERS[entries.index(subject)])
    return (
        dice.pick(_HEADS).replace("{q}", topic)
        + _listing(dice, entries)
        + tail
        + _fact(dice, relation, subject)
    )


def _letters_of_facts(dice: Dice) -> str:
    """Values are listed, then several subjects are put to their letters."""
    relation = dice.pick(KNOWN)
    entries = dice.several(relation.values, 4)
    if len(relation.values) == len(relation.facts):
        subjects = dice.shuffled([subject for subject, value in relation.facts.items() if value in entries])
    else:
        subjects = dice.shuffled(
            [subject for subject in relation.subjects if relation.facts[subject] in entries]
        )[:4]
    pointer = dice.pick(_POINTERS)
    said = [
        pointer.replace("{s}", s).replace("{L}", LETTERS[entries.index(relation.facts[s])]) for s in subjects
    ]
    return f"按{relation.noun}分开记录。" + _listing(dice, entries) + "，".join(said) + "。"


_SHELVES = (
    people.THINGS,
    people.PLACES,
    people.PEOPLE,
    people.DOINGS,
    facts.CREATURES,
    facts.WORKS,
    facts.HABITATS,
    facts.FOODS,
    facts.COLOURS,
    tuple(facts.PROVERBS.values),
    facts.CHINESE[0].subjects,
    facts.CHINESE[1].values,
    facts.REGIONS,
)


_SINGLE_WORDS = tuple(words for words in _SHELVES if words is not _SHELVES[9])


def _first_shelf(dice: Dice) -> str:
    """The plainest list: four single words, one a line, found again in any order, so that no letter
    follows from those said before."""
    entries = dice.several(dice.pick(_SINGLE_WORDS), 4)
    order = [dice.below(4) for _ in range(10)]
    between = dice.pick(("归", "是", "在", "", ""))
    said = [f"{entries[at]}{between}{LETTERS[at]}" for at in order]
    return "".join(f"{letter}. {entry}\n" for letter, entry in zip(LETTERS, entries)) + "，".join(said) + "。"


def _shelf(dice: Dice) -> str:
    """Entries are listed, then found again by their letters: letters of entries, and entries of letters."""
    entries = dice.several(dice.pick(_SHELVES), dice.between(3, 6) if dice.happens(0.4) else 4)
    order = [dice.below(len(entries)) for _ in range(8)]
    pointer = dice.pick(_POINTERS)
    said = [
        pointer.replace("{s}", entries[at]).replace("{L}", LETTERS[at])
        if dice.happens(0.8)
        else f"{LETTERS[at]}是{entries[at]}"
        for at in order
    ]
    return (
        dice.pick(("架子上有标签。", "点名开始。", "单子如下。", ""))
        + _listing(dice, entries)
        + "，".join(said)
        + "。"
    )


def _talk_then_letter(dice: Dice) -> str:
    """People say where they go and what for; a list follows, and each person's letter."""
    talkers, places, doings = (
        dice.several(people.PEOPLE, 3),
        dice.several(people.PLACES, 4),
        dice.several(people.DOINGS, 4),
    )
    talk = people.outing(dice, talkers, places, doings) + "\n"
    asked, noun = (places, "去处") if dice.happens(0.5) else (doings, "要做的事")
    entries = dice.shuffled(asked)
    order = dice.shuffled(list(range(3)))[: dice.between(1, 3)]
    said = "".join(f"{talkers[at]}的{noun}是{LETTERS[entries.index(asked[at])]}。" for at in order)
    return talk + f"他们的{noun}记在这里。" + _listing(dice, entries) + said


def _talk(dice: Dice) -> str:
    talkers, places, doings = (
        dice.several(people.PEOPLE, 3),
        dice.several(people.PLACES, 3),
        dice.several(people.DOINGS, 3),
    )
    talk = people.outing(dice, talkers, places, doings) + "\n"
    order = dice.shuffled(list(range(3)))
    return talk + "".join(f"{talkers[at]}去了{places[at]}，{talkers[at]}要{doings[at]}。" for at in order)


def _true_or_false(dice: Dice) -> str:
    relation = dice.pick((*facts.HISTORY, *facts.HISTORY, *facts.BIOLOGY))
    said = []
    for subject in dice.several(relation.subjects, 3):
        value = relation.facts[subject] if dice.happens(0.5) else dice.pick(relation.values)
        claim = dice.pick(relation.statements).replace("{s}", subject).replace("{v}", value)[:-1]
        verdict = "正确" if value == relation.facts[subject] else "错误"
        said.append(f"有人说“{claim}”，这话{verdict}。" if dice.happens(0.5) else f"{claim}。{verdict}。")
    return "".join(said)


def _deeds(dice: Dice) -> str:
    """Acts in a list; the good ones are noted by their letters."""
    good = dice.between(1, 4)
    acts = dice.shuffled(dice.several(people.GOOD_DEEDS, good) + dice.several(people.BAD_DEEDS, 4 - good))
    letters = "".join(letter for letter, act in zip(LETTERS, acts) if act in people.GOOD_DEEDS)
    if dice.happens(0.3):
        return "".join(f"{act}{'是好事' if act in people.GOOD_DEEDS else '是坏事'}。" for act in acts)
    entries = [dice.pick(people.PEOPLE) + act for act in acts] if dice.happens(0.5) else acts
    return (
        dice.pick(("昨天的事都记着。", "做得对的要表扬。", "分清好事和坏事。"))
        + _listing(dice, entries)
        + dice.pick((f"好事有{letters}。", f"做得对的是{letters}。", f"{letters}。", f"{letters}是对的。"))
    )


def _sums(dice: Dice) -> str:
    said = []
    for _ in range(dice.between(3, 6)):
        kind = dice.below(4)
        if kind == 0:
            first, second = dice.between(2, 60), dice.between(2, 39)
            said.append(f"{first}+{second}={first + second}")
        elif kind == 1:
            first, second = dice.between(2, 60), dice.between(2, 39)
            said.append(f"{first + second}-{second}={first}")
        else:
            first, second = dice.between(2, 9), dice.between(2, 9)
            said.append(
                f"{first}*{second}={first * second}" if kind == 2 else f"{first * second}/{second}={first}"
            )
    return "，".join(said) + "。"


def _account(dice: Dice) -> str:
    """A day's account in prose: what somebody had, got and gave, each with its sum."""
    who, thing = dice.pick(people.PEOPLE), dice.pick(people.THINGS)
    have, more = dice.between(5, 50), dice.between(2, 30)
    total = have + more
    less = dice.between(1, total - 1)
    each, count, extra = dice.between(2, 9), dice.between(2, 9), dice.between(1, 30)
    cost = each * count
    paid, left = cost + extra, total - less
    return dice.pick(
        (
            f"{thing}每个{each}元，{who}买了{count}个，{each}*{count}={cost}。"
            f"付了{paid}元，{paid}-{cost}={extra}，找回{extra}元。",
            f"{who}的{thing}有{count}盒，每盒{each}个，{count}*{each}={cost}，"
            f"盒外还有{extra}个，{cost}+{extra}={paid}，一共{paid}个。",
            f"{who}有{have}个{thing}，又买了{more}个，{have}+{more}={total}，一共{total}个。"
            f"吃了{less}个，{total}-{less}={left}。",
            f"{who}先有{have}个{thing}，得到{more}个，{have}+{more}={total}。"
            f"送走{less}个，{total}-{less}={left}，还剩{left}个。",
        )
    )


def _program(dice: Dice) -> str:
    first, second = dice.between(2, 20), dice.between(2, 20)
    one, two = dice.several("+-*", 2)
    name = {"+": "加", "-": "减", "*": "乘"}
    function = dice.pick("fgh")
    code = f"def {function}(x):\n y=x{one}{first}\n return y{two}{second}"
    words = f"先{name[one]}{first}，再{name[two]}{second}"
    return dice.pick((code, f"{words}，{function}就是这样：\n{code}", f"{function}把输入{words}。\n{code}"))


def _persona(dice: Dice) -> str:
    who, topic = dice.pick(people.PERSONAS), dice.pick(tuple(people.TOPICS))
    said = f"{who.opener}{who.myself}{people.TOPICS[topic]}。{who.closer}"
    return (
        f"{who.name}遇见{dice.pick(people.PEOPLE)}，聊起{topic}，说：“{said}”" if dice.happens(0.7) else said
    )


def _verse(dice: Dice) -> str:
    theme = dice.pick(tuple(people.THEMES))
    first, second, third = dice.shuffled(people.THEMES[theme])
    verse = "，".join(image + dice.pick(facts.DEEDS) for image in (first, second, third)) + "。"
    return f"{theme}的诗里有{first}、{second}和{third}。" if dice.happens(0.3) else verse


def _proverb(dice: Dice) -> str:
    heads = dice.several(facts.PROVERBS.subjects, 3)
    return dice.pick(("老话说：", "常言道：", "")) + "".join(
        _fact(dice, facts.PROVERBS, head) for head in heads
    )


def _comparison(dice: Dice) -> str:
    """A chain of comparisons with its ends named; prose never puts the order of three to a letter."""
    more, less = dice.pick(people.COMPARED)
    first, second, third = dice.several(people.PEOPLE, 3)
    lines = dice.shuffled(
        [
            f"{first}比{second}{more}",
            f"{third}比{second}{less}" if dice.happens(0.5) else f"{second}比{third}{more}",
        ]
    )
    ends = dice.shuffled([f"最{more}的是{first}", f"最{less}的是{third}"])
    return "，".join(lines) + "。" + "，".join(ends) + "。"


_KINDS: tuple[tuple[int, Callable[[Dice], str]], ...] = (
    (24, _facts),
    (34, _fact_then_letter),
    (6, _subject_then_letter),
    (10, _letters_of_facts),
    (5, _shelf),
    (10, _talk_then_letter),
    (2, _talk),
    (7, _true_or_false),
    (4, _deeds),
    (5, _sums),
    (7, _account),
    (4, _program),
    (5, _persona),
    (3, _verse),
    (4, _proverb),
    (3, _comparison),
)
_FIRST_KINDS: tuple[tuple[int, Callable[[Dice], str]], ...] = (
    (20, _first_shelf),
    (10, _shelf),
    (15, _letters_of_facts),
    (15, _fact_then_letter),
    (10, _talk_then_letter),
    (30, _facts),
)


def _drawn(kinds: tuple[tuple[int, Callable[[Dice], str]], ...]) -> tuple[Callable[[Dice], str], ...]:
    return tuple(kind for weight, kind in kinds for _ in range(weight))


_DRAWN, _FIRST_DRAWN = _drawn(_KINDS), _drawn(_FIRST_KINDS)


def document(dice: Dice, first: bool = False) -> str:
    """One document of running text, about 20 to 120 tokens; what is read `first` is mostly lists, which
    take longest to learn."""
    return dice.pick(_FIRST_DRAWN if first else _DRAWN)(dice)
