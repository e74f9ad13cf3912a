"""Whole verdicts on one option, where one after another is judged. Texts are as `plain.clean` leaves them."""

from __future__ import annotations

import re

from doitune.evals.reading.patterns import Pattern, Phrase
from doitune.evals.reading.sayings import WRONG

CALLED_WRONG = Pattern(
    (
        Phrase("wrong", WRONG.source, "说法不对", "说法对"),
        Phrase(
            "not so",
            "不(?![错仅但断同])|无法|未(?!来|知)|没(?!错)有?|违[背反]|偏离|超出|片面|[矛相]?背离|歪曲|牵强",
            "无法得出",
            "不仅",
        ),
        Phrase("no", r"^\W*否\W*$|\bno\b", ":否;", "否定"),
    ),
    flags=re.IGNORECASE,
)
CALLED_RIGHT = Pattern(
    (
        Phrase(
            "right",
            "正确|[相吻]?符合?|吻合|对(?!比|于|应|待|象|照)|成立|当选|准确|恰当|一致|保留|满足|能够?[^,。;]{0,8}?[得推][出到]|所问|无误",
            "是对的",
            "对应",
        ),
        Phrase("signs", "[√✓✔✅☑]", "√", "×"),
        Phrase("yes", r"^\W*是\W*$|\byes\b", ":是;", "是否"),
        Phrase("in English", r"\bcorrect|\bright|\btrue", "it is true", "untrue"),
    ),
    flags=re.IGNORECASE,
)
"""Whole verdicts on one option, where one after another is judged."""

ONLY_A_VERDICT = Pattern(
    (
        Phrase(
            "right",
            "正确|对|当选|入选|成立|符合(?:题意|要求)?|可选|(?:应|要)选|√|✓|✔|✅|是",
            "项当选:",
            "正确地看待:",
        ),
        Phrase(
            "wrong",
            "错误?|有误|不(?:正确|对|当选|入?选|成立|符合?(?:题意|要求)?|可选|应选)|×|✗|✘|❌|否",
            "说法不对,",
            "错在:",
        ),
    ),
    before=r"^\W*(?:选?项|说法|表述|观点|判断|结论|是|为|\s|:)*",
    behind=r"的?[️\s]*(?=[:,。;(\n—–-]|$)(?!.*(?:但|不过|然而|可是))",
    flags=re.DOTALL,
)
"""A verdict that stands alone at the head of what is said about an option."""

STARTS_WITH_VERDICT = Pattern(
    (
        Phrase("wrong", CALLED_WRONG.source, "不满足", "满意"),
        Phrase("right", CALLED_RIGHT.source, "满足条件", "满意"),
    ),
    before=r"[^\w,。;]*(?:的?说法|[表叙]述|该项|这一?项?|是|属于|描述|显然|明显|完全|与[^,。;]{1,6}?)*(?:\s|的)*",
    flags=re.IGNORECASE,
)
"""What begins with a verdict."""
