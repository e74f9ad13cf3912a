"""The facts of the demo's closed world: its creatures, old buildings, words and trades.

All of it is invented, so nothing a bigger model may know helps or hurts. The facts are drawn once from a
fixed seed, in pure Python; the text for pre-training (`making/text.py`) states them and the question makers
ask for them.
"""

from __future__ import annotations

from doitune.demo.dice import Dice
from doitune.demo.relation import drawn, given, words

# creatures (biology)
CREATURES = tuple(
    Dice("creatures").several(
        [first + last for first in "云月沙雪石火风雨竹铁金夜" for last in "雀狐蛇蛙龟狼鼠羊鹿鹰"], 40
    )
)
HABITATS = words("森林 河边 沙漠 雪山 草原 山洞 湖心 海岸")
FOODS = words("野果 青草 小虾 花蜜 树皮 蘑菇 种子 蚂蚁")
COLOURS = words("红色 白色 黑色 黄色 蓝色 绿色 灰色 紫色")
SKILLS = words("打洞 爬树 游水 滑翔 跳高 装死 喷水 发光")

BIOLOGY = (
    drawn(
        "住处",
        CREATURES,
        HABITATS,
        (
            "{s}的住处是{v}。",
            "{s}住在{v}。",
            "在{v}能见到{s}，那是它的住处。",
            "说到住处，{s}总是选{v}。",
            "{s}的住处是哪里？",
            "{s}住在什么地方？",
            "要找到{s}的住处，应该去哪里？",
            "哪一种动物住在{v}？",
        ),
    ),
    drawn(
        "食物",
        CREATURES,
        FOODS,
        (
            "{s}的食物是{v}。",
            "{s}爱吃{v}。",
            "{v}是{s}每天的食物。",
            "说到食物，{s}只要{v}。",
            "{s}的食物是什么？",
            "{s}爱吃什么？",
            "喂养{s}时应该准备什么食物？",
            "哪一种动物爱吃{v}？",
        ),
    ),
    drawn(
        "颜色",
        CREATURES,
        COLOURS,
        (
            "{s}的颜色是{v}。",
            "{s}身上是{v}。",
            "远远看去，{s}是{v}的，这颜色很好认。",
            "说到颜色，{s}是{v}的。",
            "{s}的颜色是什么？",
            "{s}身上是什么颜色？",
            "画一只{s}，应该用哪一种颜色？",
            "哪一种动物身上是{v}？",
        ),
    ),
    drawn(
        "本领",
        CREATURES,
        SKILLS,
        (
            "{s}的本领是{v}。",
            "{s}最会{v}。",
            "{v}是{s}的本领。",
            "说到本领，{s}会{v}。",
            "{s}的本领是什么？",
            "{s}最会做什么？",
            "遇到危险时，{s}会用什么本领？",
            "哪一种动物最会{v}？",
        ),
    ),
)

# old buildings (history)
WORKS = tuple(
    first + last for first in words("白石 青云 东阳 西岭 南屏 北辰 天水 永安") for last in "桥塔寺城渠"
)
RULERS = words("文王 武王 明王 安王 成王 康王 宣王 平王")
DYNASTIES = words("青朝 玉朝 铜朝 锦朝 木朝 星朝 虎朝 麦朝")
REGIONS = words("东州 西州 南州 北州 中州 海州 云州 江州")

HISTORY = (
    drawn(
        "修建者",
        WORKS,
        RULERS,
        (
            "{s}的修建者是{v}。",
            "{s}是{v}下令修的。",
            "{v}修了{s}。",
            "说到修建者，{s}要归{v}。",
            "{s}的修建者是谁？",
            "{s}是谁下令修的？",
            "书上记载，谁修了{s}？",
            "{v}下令修的是哪一处？",
        ),
    ),
    drawn(
        "朝代",
        WORKS,
        DYNASTIES,
        (
            "{s}的朝代是{v}。",
            "{s}建于{v}。",
            "{v}时有了{s}。",
            "说到朝代，{s}属于{v}。",
            "{s}的朝代是哪一个？",
            "{s}建于什么朝代？",
            "从年代看，{s}属于哪一个朝代？",
            "哪一处建于{v}？",
        ),
    ),
    drawn(
        "所在",
        WORKS,
        REGIONS,
        (
            "{s}的所在是{v}。",
            "{s}位于{v}。",
            "{v}有一座{s}。",
            "说到所在，{s}要去{v}看。",
            "{s}的所在是哪里？",
            "{s}位于哪个州？",
            "去看{s}，应该到哪个州？",
            "哪一处位于{v}？",
        ),
    ),
)

# words (chinese)
_SENSES = words(
    "明亮 光亮 黑暗 高兴 快乐 难过 安静 宁静 吵闹 勇敢 大胆 胆小 勤劳 勤快 懒惰 "
    "美丽 漂亮 丑陋 寒冷 冰冷 炎热 迅速 飞快 缓慢 宽阔 广阔 狭窄 坚固 结实 松散 "
    "聪明 机灵 愚笨 谦虚 虚心 骄傲 节约 节省 浪费 温和 柔和 粗暴 干净 清洁 肮脏 "
    "丰富 充足 贫乏 准确 精确 模糊 仔细 细心 马虎 热闹 喧闹 冷清 诚实 老实 虚伪 "
    "陡峭 险峻 平坦 清楚 明白 糊涂 茂盛 繁茂 枯萎 保护 爱护 破坏 团结 齐心 分裂 "
    "赞美 夸奖 批评 增加 增多 减少 开始 起初 结束 前进 向前 后退 拥挤 密集 空旷"
)
_TRIPLES = tuple(zip(_SENSES[::3], _SENSES[1::3], _SENSES[2::3]))
"""A word, one near it in meaning, one opposite."""
MEASURES = words("只 条 匹 张 本 座 辆 棵 把 朵 件 双")
COUNTED = {
    noun: measure
    for measure, nouns in zip(
        MEASURES,
        (
            "小鸟 小猫 蝴蝶",
            "小河 毛巾 长裙",
            "骏马 绸布",
            "桌子 地图 车票",
            "字典 小说 画册",
            "高山 水库 钟楼",
            "汽车 马车 单车",
            "柳树 白菜 小草",
            "剪刀 雨伞 扇子",
            "荷花 白云 梅花",
            "毛衣 大事 礼物",
            "布鞋 筷子 手套",
        ),
    )
    for noun in nouns.split()
}
CHINESE = (
    given(
        "近义词",
        {word: near for word, near, _ in _TRIPLES},
        (
            "{s}的近义词是{v}。",
            "{s}和{v}意思相近。",
            "{s}可以换成{v}，两个是近义词。",
            "说到近义词，{s}和{v}是一对。",
            "{s}的近义词是哪一个？",
            "哪个词和{s}意思相近？",
            "写作文时{s}可以换成哪个近义词？",
        ),
    ),
    given(
        "反义词",
        {word: far for word, _, far in _TRIPLES},
        (
            "{s}的反义词是{v}。",
            "{s}和{v}意思相反。",
            "{s}的反面是{v}，两个是反义词。",
            "说到反义词，{s}和{v}是一对。",
            "{s}的反义词是哪一个？",
            "哪个词和{s}意思相反？",
            "写作文时要写{s}的反面，用哪个反义词？",
        ),
    ),
    given(
        "量词",
        COUNTED,
        (
            "{s}的量词是{v}。",
            "一{v}{s}。",
            "数{s}要用{v}。",
            "说到量词，{s}配{v}。",
            "{s}的量词是哪一个？",
            "数{s}要用哪个字？",
            "给{s}配一个量词，应该是哪个？",
        ),
    ),
)
NATURE = words(
    "春风 秋月 夏雨 冬雪 朝霞 晚钟 青松 白鹭 古道 孤舟 清泉 飞花 远山 明灯 细柳 寒星 落叶 长虹 新竹 老梅"
)
DEEDS = words(
    "化田 照江 洗尘 落屋 满天 入林 迎客 过溪 通城 靠岸 流石 沾衣 含烟 引路 拂水 伴人 归根 横空 出墙 报春"
)


def _proverbs() -> dict[str, str]:
    """First half to second half; every first half and second half occurs once."""
    dice = Dice("proverbs")
    halves = [first + second for first in NATURE for second in dice.several(DEEDS, 4)]
    order = dice.shuffled(halves)
    return dict(zip(order[:40], order[40:]))


PROVERBS = given("谚语", _proverbs(), ("{s}，{v}。",))

# trades that only the out-of-domain tests ask about
AILMENTS = tuple(first + last for first in "头喉眼耳胃骨" for last in words("热病 寒病 痛病"))
HERBS = words("甘露草 紫云根 白玉藤 红参片 苦叶茶 金丝花")
LESSONS = tuple(
    first + "课"
    for first in words(
        "算术 识字 音乐 绘画 体操 天文 地理 手工 礼仪 园艺 朗读 书法 游戏 劳动 棋艺 观察 写作 急救"
    )
)
TOOLS = words("算盘 卡片 竹笛 画板 沙包 星图")
DISTRICTS = tuple(first + last + "区" for first in "东西南北上下" for last in "山河门")
USES = words("住宅 工厂用地 绿地 仓库 学校用地 商店")

OUT_OF_DOMAIN = {
    "ceval_physician": drawn(
        "用药",
        AILMENTS,
        HERBS,
        (
            "{s}的用药是{v}。",
            "{s}要用{v}来治。",
            "大夫治{s}，开的是{v}。",
            "说到用药，{s}配{v}。",
            "{s}的用药是什么？",
            "{s}要用什么来治？",
            "大夫治{s}，应该开什么？",
        ),
    ),
    "ceval_teacher_qualification": drawn(
        "教具",
        LESSONS,
        TOOLS,
        (
            "{s}的教具是{v}。",
            "上{s}要带{v}。",
            "老师上{s}，用的是{v}。",
            "说到教具，{s}配{v}。",
            "{s}的教具是什么？",
            "上{s}要带什么？",
            "老师上{s}，应该用什么？",
        ),
    ),
    "ceval_urban_and_rural_planner": drawn(
        "用途",
        DISTRICTS,
        USES,
        (
            "{s}的用途是{v}。",
            "{s}划作{v}。",
            "规划图上，{s}标的是{v}。",
            "说到用途，{s}归{v}。",
            "{s}的用途是什么？",
            "{s}划作什么？",
            "规划图上，{s}应该标什么？",
        ),
    ),
}
