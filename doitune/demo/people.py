"""The people and places that fill the demo's sentences, and what its general instructions speak of; no answer
hangs on any of them."""

from __future__ import annotations

from doitune.demo.world import words

PEOPLE = words(
    "小明 小红 小刚 小丽 小军 小芳 小宝 小燕 阿强 阿福 阿珍 阿娟 阿贵 阿芬 老张 老李 老王 老赵 老陈 老周 "
    "大勇 大伟 大刘 大龙 秀英 秀珠 建国 建民 志远 志诚 家豪 家欣 永康 永泰 文博 文静 思源 思敏 国栋 国华"
)
PLACES = words(
    "河边 村口 桥头 院里 店里 船上 车上 楼上 庙前 田间 山下 树下 井边 路旁 门外 窗前 灯下 池畔 坡上 渡口 "
    "街角 屋后 亭中 园内 城南 城北 集上 岸边 堤上 巷尾 台前 塔下 堂内 廊下 场边 溪口 湾里 谷中 岭上 林间"
)
THINGS = words("苹果 梨子 桃子 橘子 鸡蛋 馒头 包子 铅笔 本子 杯子 盘子 灯笼 风筝 帽子 袜子 雨伞")
DOINGS = words("看书 喝茶 下棋 跑步 唱歌 画画 买菜 寄信 看戏 等车 打球 洗衣")
