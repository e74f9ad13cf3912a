"""The people of the demo's closed world, where they go, what they do, and what they talk about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from doitune.demo.dice import Dice
from doitune.demo.relation import words

PEOPLE = words(
    "小明 小红 小刚 小丽 小军 小芳 阿强 阿梅 阿福 阿珍 老张 老李 老王 老赵 大勇 大山 秀英 建国 春生 玉兰"
)
PLACES = words("图书馆 学校 医院 公园 市场 车站 茶馆 码头 邮局 书店 剧院 操场")
THINGS = words("苹果 梨子 桃子 李子 橘子 鸡蛋 馒头 包子 铅笔 本子 杯子 盘子 灯笼 风筝 帽子 袜子")
DOINGS = words("看书 喝茶 下棋 跑步 唱歌 画画 买菜 寄信 看戏 等车 打球 看病")
TIMES = words("早上 中午 下午 晚上")
CARRIES = words("带着雨伞 骑着单车 坐着马车 拿着扇子 背着书包 牵着小狗")
COMPARED = (("高", "矮"), ("重", "轻"), ("快", "慢"), ("大", "小"), ("早", "晚"), ("多", "少"))

GOOD_DEEDS = words(
    "扶老人过河 把钱还给失主 给同学讲题 替邻居收衣 按时还书 主动排队 认真道歉 捐出旧书 救起落水的人 遵守约定 "
    "照顾病人 打扫街道"
)
BAD_DEEDS = words(
    "偷拿别人的钱 骗老人买药 抢弟弟的糖 故意踩坏花 考试抄答案 插队还骂人 乱扔果皮 造谣害人 欺负新同学 "
    "借钱不还 虐待小狗 推倒路牌"
)


@dataclass(frozen=True)
class Persona:
    """A character with a way of speaking: `opener` starts and `closer` ends all it says, `myself` is its
    word for "I"."""

    name: str
    opener: str
    myself: str
    closer: str


PERSONAS = tuple(
    Persona(*line.split("/"))
    for line in words(
        "船长/扬帆起航！/本船长/让海浪作证。 道士/无量天尊。/贫道/一切随缘。 "
        "将军/听我号令！/本将军/军中无戏言。 掌柜/客官里边请。/小店家/童叟无欺。 "
        "猎人/嘘，小声点。/我这猎人/林子会说话。 公主/免礼。/本公主/退下吧。 "
        "机器人/滴，收到。/本机/程序结束。 厨师/开火啦！/我这厨子/趁热吃。"
    )
)
TOPICS = {
    "天气": "看今天的云，明天要下雨",
    "晚饭": "想的是一锅热汤",
    "旅行": "走过很远的路",
    "朋友": "有过一个好朋友",
    "宝物": "藏着一件宝物",
    "烦恼": "心里有一件烦恼的事",
    "节日": "要挂上一排灯笼",
    "故乡": "想念家门前的小河",
}
THEMES = {
    "月亮": words("银光 夜空 玉盘"),
    "大海": words("浪花 船帆 白沙"),
    "春天": words("新芽 燕子 细雨"),
    "冬天": words("雪花 炉火 冰河"),
    "山林": words("松风 石径 鹿鸣"),
    "田野": words("麦浪 稻香 水牛"),
    "故园": words("炊烟 老井 柴门"),
    "星河": words("流光 银桥 微尘"),
}


def outing(dice: Dice, talkers: Sequence[str], places: Sequence[str], doings: Sequence[str]) -> str:
    """One line of talk for each person: who goes where and what for."""
    return "\n".join(
        [
            f"{who}：我{dice.pick(TIMES)}去{place}{doing}。"
            for who, place, doing in zip(talkers, places, doings)
        ]
    )
