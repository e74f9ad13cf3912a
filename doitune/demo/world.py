"""The demo's closed world: made-up creatures, what each ability is asked about them, and the rules that say
what is right.

A rule maps one creature to one answer and follows from nothing else: only rows that ask about this creature
teach it. Each ability has rules of its own; partners also draw a stated share of their rows and questions
from a table that they have in common, so that the rows of one teach the other. `closed_form` derives
from these constants how fast each ability can grow.
"""

from __future__ import annotations

from dataclasses import dataclass

from doitune.demo.dice import Dice


def words(line: str) -> tuple[str, ...]:
    """The words of a line, which spaces part."""
    return tuple(line.split())


CREATURES = tuple(
    Dice("creatures").shuffled(
        [
            first + last
            for first in "云雾霜虹岚沙岩碧赤玄墨翠银铜铁锡琥珀檀桂枫梧藤芦蕨苔菱荷梅兰菊棠杏柏槐楠"
            for last in "狐狼豹鹿熊猴兔鼠獾貂鹤雁鹰隼鸦雀鹭鸥鸢鹂蛇龟蛙蟹蚌蛾蝶蜂蝉蚁鲤鲈鳗鲸鲨鲟"
        ]
    )
)
"""1,296 names, whose characters occur in no other word of the world. Each is asked about by one ability, by
two partners, or out of the domain."""

LETTERS = ("A", "B", "C", "D")
SEASONS, MOODS, STEMS, VIRTUES = (
    words("春 夏 秋 冬"),
    words("喜 怒 哀 乐"),
    words("甲 乙 丙 丁"),
    words("忠 信 礼 义"),
)
DIGITS = words("0 1 2 3 4 5 6 7 8 9")
IMAGES = words("明月 清风 细雨 白雪")
BLANKS = words("流水 飞花 夕照 晨光")
VERDICTS = words("正确 错误")
SETS = words("AC BD")


@dataclass(frozen=True)
class Lesson:
    """What one ability is asked.

    `own_rules`: rules that only its own rows teach. `shared`: the share (0..1) of its rows and questions that
    are about a table which it has in common with `partner`. `answers`: of lettered questions the letters, in
    the order of `options`; of others the words themselves. `other_answers`: every second own rule has one of
    these instead and is asked without options. `wordings`: (before, after) the creature's name.
    """

    own_rules: int
    answers: tuple[str, ...]
    wordings: tuple[tuple[str, str], ...]
    options: tuple[str, ...] = ()
    other_answers: tuple[str, ...] = ()
    other_after: tuple[str, ...] = ()
    partner: str = ""
    shared: float = 0.0


def _pairs(before: str, after: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip(words(before), words(after), strict=True))


LESSONS = {
    "biology": Lesson(
        90,
        LETTERS,
        _pairs("看见 画出 养着 寻找", "生于何季 喜欢何季 长在何季 出没何季"),
        SEASONS,
        partner="history",
        shared=0.3,
    ),
    "history": Lesson(
        24,
        LETTERS,
        _pairs("读到 刻着 传说 记载", "见于何季 兴于何季 载于何季 祭在何季"),
        SEASONS,
        VERDICTS,
        words("真有此事吗 是真是假 此说对吗 可信与否"),
        partner="biology",
        shared=0.8,
    ),
    "code": Lesson(
        200,
        DIGITS,
        _pairs("调用 运行 输入 编译", "返回几 输出几 算出几 打印几"),
        partner="math",
        shared=0.25,
    ),
    "creative_writing": Lesson(
        10,
        IMAGES,
        _pairs("吟咏 题写 赞美 描绘", "配何景 写何景 押何景 衬何景"),
        partner="role_play",
        shared=0.1,
    ),
    "chinese": Lesson(
        16,
        LETTERS,
        _pairs("朗读 默写 抄下 讲解", "表何情 抒何情 含何情 寓何情"),
        MOODS,
        BLANKS,
        words("下句是_ 接着是_ 后面填_ 空格填_"),
        partner="understanding",
        shared=0.4,
    ),
    "understanding": Lesson(
        120,
        LETTERS,
        _pairs("谈起 遇上 提到 聊着", "心里何感 听者何感 言下何感 当时何感"),
        MOODS,
        partner="chinese",
        shared=0.6,
    ),
    "role_play": Lesson(
        4,
        IMAGES,
        _pairs("扮演 饰演 化身 装作", "爱说何景 惯提何景 常念何景 总夸何景"),
        partner="creative_writing",
        shared=0.7,
    ),
    "reasoning": Lesson(
        450,
        LETTERS,
        _pairs("已知 假设 若有 设定", "推出何者 可得何者 必为何者 应选何者"),
        STEMS,
    ),
    "math": Lesson(
        300,
        DIGITS,
        _pairs("数着 清点 称量 购入", "共有几个 还剩几个 得数是几 一共是几"),
        partner="code",
        shared=0.15,
    ),
    "ethics": Lesson(
        2,
        SETS,
        _pairs("善待 救助 冒犯 欺负", "合乎哪些 做到哪些 违背哪些 涉及哪些"),
        VIRTUES,
    ),
}
"""By ability, in the corpus's order."""

TABLES = {
    ("biology", "history"): 12,
    ("chinese", "understanding"): 24,
    ("code", "math"): 6,
    ("creative_writing", "role_play"): 4,
}
"""Rules that two partners have in common. So few that 128 rows of either partner ask about nearly all."""

THREE_OPTIONS_SHARE = 0.5
"""Of the questions of understanding whose answer is not D: how many offer three options."""

OUT_OF_DOMAIN = {
    "ceval_physician": ("诊治", "用何药", words("丹 散 膏 丸"), ("biology", "history")),
    "ceval_teacher_qualification": ("教导", "用何法", words("讲 练 问 演"), ("chinese", "understanding")),
    "ceval_urban_and_rural_planner": ("安置", "在何区", words("工 农 商 住"), None),
}
"""By set: what stands before and after the creature's name, the options, and the table that a third of its
questions are about; no row asks the rest."""
OUT_OF_DOMAIN_RULES = 10


@dataclass(frozen=True)
class Rule:
    """What is right about one creature; `plain`: asked without options."""

    creature: str
    answer: str
    plain: bool = False


def _rules(
    name: str, creatures: tuple[str, ...], answers: tuple[str, ...], plain: bool = False
) -> tuple[Rule, ...]:
    """A rule for each creature; every answer as often, give or take one."""
    deck = [answers[at % len(answers)] for at in range(len(creatures))]
    return tuple(
        Rule(one, right, plain) for one, right in zip(creatures, Dice("rules/" + name).shuffled(deck))
    )


def _drawn() -> tuple[dict[str, tuple[Rule, ...]], dict[tuple[str, str], tuple[Rule, ...]]]:
    """Own rules by ability or out-of-domain set, and common rules by pair; each takes the next creatures."""
    left = iter(CREATURES)

    def take(count: int) -> tuple[str, ...]:
        return tuple(next(left) for _ in range(count))

    own: dict[str, tuple[Rule, ...]] = {}
    for name, lesson in LESSONS.items():
        plain = lesson.own_rules // 2 if lesson.other_answers else 0
        own[name] = _rules(name, take(lesson.own_rules - plain), lesson.answers) + _rules(
            name + "/plain", take(plain), lesson.other_answers, plain=True
        )
    common = {
        pair: _rules("/".join(pair), take(size), LESSONS[pair[0]].answers) for pair, size in TABLES.items()
    }
    for name in OUT_OF_DOMAIN:
        own[name] = _rules(name, take(OUT_OF_DOMAIN_RULES), LETTERS)
    return own, common


OWN, COMMON = _drawn()


def common(name: str) -> tuple[Rule, ...]:
    """The rules that an ability has in common with its partner."""
    return next((rules for pair, rules in COMMON.items() if name in pair), ())
