"""Reading true/false replies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from doitune.evals.reading.patterns import Pattern, Phrase, pattern
from doitune.evals.reading.plain import clean

YES = r"是?(?:正确|对|√|\b(?:true|yes|correct|right|t)\b)"
NO = r"(?:是?(?:不正确|不对|错误?|×)|\b(?:false|no|wrong|not|f)\b)"
OR = r"(?:\s*(?:还是|或者?|/|or\b)\s*)"
NEUTRAL = Pattern(
    (
        Phrase("question", r"[^,。;!?\n]{0,60}\?|[^,。;!?\n]{0,60}吗(?=[,。;!\s]|$)", "这样说对吗", "吗啡"),
        Phrase(
            "one or the other",
            rf"{YES}与否|{YES}{OR}{NO}|{NO}{OR}{YES}|√\s*×",
            "true or false",
            "true and fine",
        ),
        Phrase(
            "both",
            "(?:既|有时|有|时|半|部分|一半|可能|大部分)是?(?:正确|对|错误?)[,、]?"
            "(?:又|有时|有|时|半|小?部分|一半|也可能|也有)是?(?:不?正确|不?对|错误?)",
            "部分正确,部分错误",
            "部分错误",
        ),
        Phrase(
            "what many think",
            r"(?:很?多|不少|许多|大多数|有些?|一些|部分)(?:人|同学|学生|考生|读者|资料)[^,。;!?\n]*(?:,但[^,。;\n]{0,6}(?:没有?|缺乏|毫无)(?:任何|科学)?(?:依据|根据|道理))?",
            "很多人认为这是错的",
            "很多说法是错的",
        ),
        Phrase(
            "the right thing, which is another",
            r"(?:(?<=[,。;:!?\n])|^)\s*(?:而|其)?(?:正确|准确|错误)的(?!答案)(?:说法|表述)?[^,。;:!?\n]{0,8}?(?:应该?[是为]?|是|为|在于|:)"
            r"(?!\s*(?:错误?|正确|对|不)(?:的)?\s*(?:[,。;!?\n]|$))",
            "正确的年份是1911年",
            "这是正确的说法",
        ),
        Phrase(
            "whether", "(?:是否|能否)[^,。;:]{0,4}(?:正确|错误|对|错)(?=[,。;?:]|$)", "能否算正确", "可否"
        ),
        Phrase(
            "neither",
            "既(?:不能|不)[^,。;]{0,6}(?:正确|对|错误?)[,、]?[也又](?:不能|不)[^,。;]{0,6}(?:正确|对|错误?)",
            "既不能说完全对,也不能说完全错",
            "既不漏也不错",
        ),
        Phrase(
            "in part",
            r"\b(?:partially|partly|half)[\s-]+(?:true|correct|right|false)",
            "partially true",
            "true in part",
        ),
        Phrase("sorry", "对不起", "对不起", "对得起"),
        Phrase("about", "对于|对此", "对于", "对"),
        Phrase("the right answer is", "正确的?答案(?:应该|应)?[是为:]*", "正确的答案是", "正确"),
        Phrase(
            "the right answer is, in English",
            r"\b(?:correct|right|true)\s+(?:answer|choice|option|judge?ment|verdict)\s*(?:is|:)?",
            "the correct answer is",
            "it is correct",
        ),
        Phrase(
            "not to be taken for",
            "(?:不要|别|切勿|勿|以免|防止|避免|容易|易|常)(?:被)?(?:误|错)?(?:判|认为|以为|当成|看成)[^,。;!?\n]*",
            "不要误判为错",
            "不应判为错",
        ),
        Phrase(
            "were it changed",
            r"(?:若|如果|假如|要是|将|把)[^。;!?\n]{0,12}?(?:改|换|去掉|删|加上)[^。;!?\n]{0,20}?(?:则|就|才|便|那么|后)[^,。;!?\n)]*",
            "若改为所有,则错误",
            "若是错误",
        ),
        Phrase(
            "put right elsewhere",
            "把正确的[^,。;]{1,8}?(?=说|写|弄|当|混|理解)",
            "把正确的结论说反了",
            "正确的结论",
        ),
        Phrase(
            "what some think, in English",
            r"\b(?:some|many|most|people|students|one|you)\b(?:\s+\w+){0,3}?\s+(?:think|believe|say|assume|argue|claim)\b[^,.;!?\n]*"
            r"|(?:^|(?<=[,.;!?\n]))[^,.;!?\n]{0,80}?\b(?:at\s+first|initially|on\s+the\s+surface|at\s+a\s+glance)\b[^,.;!?\n]*"
            r"|\bwould\s+(?:only\s+)?(?:be|have\s+been)\b[^.;!?\n]{0,60}?\bif\b[^,.;!?\n]*|(?:wrong|incorrect)\s+to\s+\w+\s+otherwise",
            "some might think it is false",
            "I think it is false",
        ),
        Phrase(
            "although",
            r"\b(?:although|though|while|whereas|even\s+if)\b[^,.;!?\n]*",
            "although the first half is true",
            "thought",
        ),
        Phrase("question in two lines", r"[^,。;!?\n]{0,60}[吗么呢]\s*[?]", "谁呢\n?", "么"),
        Phrase(
            "words with 对",
            "对照|对应|对待|对象|对方|对比|对话|对策|对手|对外|对内|绝对|相对|半对半?错?|一半|反对|面对|针对|核对|应对|派对|一对",
            "反对",
            "是对的",
        ),
        Phrase("true or false", "对错|正误|是否|对不对|是不是|正不正确", "对错", "正确"),
        Phrase("words with 错", "错过|错综", "错过", "错误"),
        Phrase(
            "it seems",
            "看似[^,。;\\n]*|看起来[^,。;\\n]*|看上去[^,。;\\n]*|乍一?看[^,。;\\n]*|似乎[^,。;\\n]*|貌似[^,。;\\n]*|虽然?[^,。;\\n]*"
            "|尽管[^,。;\\n]*|表面上[^,。;\\n]*",
            "看似正确",
            "看法正确",
        ),
        Phrase(
            "unsure",
            "(?:无法|难以|不能|不好|没法|不会)(?:判断|确定|回答|判定)[^,。;\\n]*|(?:不确定|不清楚|不知道)[^,。;\\n]*",
            "无法判断正确",
            "不能说正确",
        ),
    )
)
"""What holds a keyword and says nothing, and clauses that only lead up to the verdict."""

TRUE_SIGNS, FALSE_SIGNS = "√✓✔✅☑", "×✗✘❌❎✖╳✕"
ENGLISH = r"(?<![a-z0-9])(?:{})(?![a-z0-9]|[\u4e00-\u9fff])"
LETTER = (
    r"(?<![a-z0-9])(?<![a-z]\()(?:(?<![a-z0-9] )|(?<= is ))[{}]"
    r"(?![a-z0-9]|[\u4e00-\u9fff]|\s*[(=+*/^<>-]\s*[a-z0-9])"
)
"""A single letter as a verdict: in no English word and no formula ("def f(x)", "x = 5")."""

TRUE = Pattern(
    (
        Phrase(
            "no error",
            "(?:没有?|无|并无|毫无|不(?:存在|含|包含)|[找挑看]不[出到]|未(?:发现|见)|没有?(?:发现|看出))(?:有|其?中?的?)?"
            "(?:什么|任何|一点|半点|明显的?|事实性?|知识性|科学性|原则性|逻辑)*的?(?:[说写讲弄搞记])?"
            "(?:错误|错(?!误)|误|问题|毛病|不妥|不当|不对|不正确|不实|漏洞|偏差|谬误)(?:之处|的地方)?",
            "没有任何问题",
            "有问题",
        ),
        Phrase(
            "not false",
            "(?:不|并非|不是|并不|不能说|不能|不算|不认为|不觉得|绝非|并没有?|谈不上|称不上)(?:这?是|算|说)?(?:有|什么)?"
            "(?:错误|错|假(?=[的命,。;!?\\s]|$)|有误|谬误|虚假|失实)的?"
            "|(?:并非|(?:并|绝)?不是|绝非|不能(?:说|算)?是?|不算是?)(?:不(?:正确|对|准确|成立|真实|符合|合理|科学|恰当|妥)|没有?道理)的?",
            "不算错",
            "错",
        ),
        Phrase(
            "a denial that is denied",
            r"(?:不能说|不可说|不能认为|不认为|不觉得)[^,。;!?\n不]{1,10}?(?:错误?|不对|不正确)的?"
            r"|(?:说|认为|判)[^,。;!?\n]{0,8}?(?:错误?|不对|不正确)的?[^,。;!?\n]{0,3}?(?:不对|不正确|错误|没有道理)的?",
            "不能说这句话是错的",
            "不能说这句话",
        ),
        Phrase(
            "agreed",
            r"(?<!不)(?<!不能)(?:站得住脚|无可厚非)|毋庸置疑|无可争议|不无道理|我(?:完全|非常|也|很|基本)?(?:同意|赞同|认同|赞成)|^\s*(?:同意|赞同|认同|赞成)",
            "我赞同",
            "我不赞同",
        ),
        Phrase("so it is", "没错|无误|(?:确实|的确)如此", "的确如此", "并非如此"),
        Phrase(
            "right",
            r"正确|准确|成立|属实|千真万确|真(?:实|的|命题)?(?=[,。;!?\s]|$)|对",
            "这是真的",
            "真假",
        ),
        Phrase(
            "agrees",
            "与[^,。;不]{1,6}(?:相符|一致|吻合)|符合(?:史实|事实|历史|题意|实际)",
            "与史实相符",
            "与史实不符",
        ),
        Phrase("apt", "合理|妥当|恰当|有道理", "有道理", "有问题"),
        Phrase("yes", r"是(?:的|啊|呀)?(?=[,。;!?\s]|$)", "是的", "是否"),
        Phrase("sign", f"[{TRUE_SIGNS}]", "✅", "❌"),
        Phrase(
            "in English",
            ENGLISH.format(
                r"(?:wrong|incorrect|inaccurate)\s+to\s+(?:say|call|mark|judge|claim)\s+[^,.;]{1,40}?(?:false|wrong|incorrect|untrue)"
                r"|not\s+(?:the\s+case|true|correct|right)\s+that\s+[^,.;]{1,40}?(?:false|wrong|incorrect|untrue)"
                r"|(?:not|never|(?:is|are|was)nt)\s+(?:false|wrong|incorrect|inaccurate|untrue)"
                r"|(?:no|without(?:\s+any)?)\s+(?:\w+\s+)?(?:errors?|mistakes?|problems?|inaccurac\w+)"
                r"|(?:nothing|not\s+anything)\s+(?:is\s+)?(?:\w+ly\s+)?(?:wrong|incorrect|false|inaccurate|untrue)"
                "|true|correct|right|accurate|yes|valid|(?<!not )agree|holds"
            ),
            "it isnt wrong",
            "incorrect",
        ),
        Phrase("letter", LETTER.format("tvy"), "t", "t = 3"),
    )
)
FALSE = Pattern(
    (
        Phrase(
            "not believed",
            r"(?:不(?:认为|觉得|能认为|敢说)|无法(?:说|认为))[^,。;!?\n]{0,10}?(?:正确|准确|对|成立|属实)",
            "我不认为这正确",
            "我认为这正确",
        ),
        Phrase(
            "not agreed",
            r"(?:不能?|难以|无法)(?:敢)?(?:苟同|同意|赞同|认同|赞成)(?=[,。;!?\s这该此]|$)|站不住脚?|荒谬|谬论|无稽|谣言|误解|误区|以讹传讹|言过其实|不(?:可取|可信|足信|可靠|靠谱)|有待商榷|值得商榷"
            r"|纯属(?:虚构|谣传)|与[^,。;不]{1,6}(?:相)?(?:矛盾|相悖|违背|相左|有出入)",
            "不敢苟同",
            "同意",
        ),
        Phrase(
            "unfounded",
            "(?:没有?|毫无|(?<!不)无)道理|(?:没有?|毫无|缺乏)(?:科学|事实|任何)?(?:依据|根据)|有(?:很大|一些|些)?问题",
            "没有道理",
            "有道理",
        ),
        Phrase(
            "at odds",
            r"非也|违背|相悖|说反|张冠李戴|过于|片面|以偏概全|偷换概念|夸大|混淆|颠倒|与[^,。;]{1,6}不(?:相?符|一致|吻合)",
            "与史实不符",
            "与史实相符",
        ),
        Phrase(
            "not right",
            "(?:不|非|未|没有?|难以?|谈不上|称不上|算不上)"
            "(?:能|能说|说|可|是|太|够|很|完全|全|全部|一定|尽|怎么|怎|大|那么|够|甚|必|应|该|属|算|会|再|都|见得|判断?为|认定为|视为|看作|认为是?)*(?:的|说)?"
            "(?:正确|准确|对|成立|属实|真|符合|恰当|合理|妥|科学|严谨|全面)",
            "不能说是正确的",
            "正确",
        ),
        Phrase(
            "no",
            r"不(?:是|行|能|可以|存在)?(?=[的,。;!?\s]|$)|并非(?![^,。;!?\n]{0,6}?(?:正确|准确|对|错|成立|属实|真))|并不(?=[,。;!?\s]|$)|不(?:当|妥|实|合适)"
            r"|非(?=[,。;!?\s]|$)|否(?=[,。;!?\s]|$)",
            "不是的",
            "不但",
        ),
        Phrase(
            "false", r"错误|错|有误|谬误|谬|失实|虚假|假(?:的|命题)?(?=[,。;!?\s]|$)|伪", "是假的", "假期"
        ),
        Phrase("sign", rf"[{FALSE_SIGNS}](?!\s*\d)", "×", "2 × 3"),
        Phrase(
            "in English",
            ENGLISH.format(
                r"(?:not|(?:is|are|was|does)nt)\s+(?:\w+\s+){0,2}?(?:true|correct|right|accurate)"
                r"|incorrect|inaccurate|untrue|false|wrong|invalid|disagree|(?:not|doesnt)\s+(?:hold|agree)|myth|misconception|(?:a|an|some|several)\s+(?:\w+\s+)?(?:errors?|mistakes?|inaccurac\w+)|no(?!\.\s*\d)(?=\s*(?:[,.;!:—–-]|$))"
            ),
            "it is not quite correct",
            "no.1",
        ),
        Phrase("letter", LETTER.format("fxn"), "f", "def f(x)"),
    )
)
VERDICT = re.compile(f"(?P<yes>{TRUE.source})|(?P<no>{FALSE.source})")

TAKEN_BACK = Pattern(
    (
        Phrase("not right", r"不对[,。…]+\s*应该?[是为]", "正确。不对,应为错误", "正确。不对应"),
        Phrase(
            "thinks again",
            r"(?:(?:不对|等等|等一下|慢着|稍等)[,。…!]+\s*)?(?:让?我)?(?:再|重新|仔细)(?:想想?|看|检查|考虑|分析|核对)(?:一[下想遍])?",
            "正确。不对,我再想想",
            "正确。不要再想",
        ),
        Phrase(
            "in English",
            r"wait\b|actually\b|on second thought|correction\b",
            "true. wait, false",
            "true. waiting",
        ),
        Phrase("no", r"不[,。]\s*应?该?[是为]?", "正确,不,错误", "正确,不过"),
        Phrase("corrected", r"更正|改[为成]|[说写]错了", "正确,更正:错误", "正确,改革"),
        Phrase("sorry", "抱歉", "正确,抱歉,错误", "抱歉"),
    ),
    before=r"(?<=[,。;:!?\s…])(?:哦|啊|噢)?",
)


CLAUSE = pattern(
    "end of a clause",
    r"[,。;!?\n]|\.(?=\s)|(?:但是?|然而|不过|可是|而且?)|\b(?:but|however|yet)\b|\s[—–-]\s",
    "对,错",
    "对错",
)
ALONE_LEFT = pattern("more than a verdict", r"[^\W_]", "这句话", "( )。")
CONCLUSION = Pattern(
    (
        Phrase(
            "it follows",
            "所以|因此|因而|故|综上|可见|总之|总的来说|由此|总体|整体|最终|结论|于是",
            "因此错误",
            "说法错误",
        ),
        Phrase("is judged", "应?判断?(?:题|结果)?(?:为|是|:|错|对)|答案", "应判断为错", "谈判"),
        Phrase(
            "the whole statement",
            r"(?:这|该|此|本|原|整|题干|题目)(?:个|种|句|道|一)?(?:的)?(?:说法|表述|话|命题|题|观点|句子|陈述|论断|结论)",
            "这种说法正确",
            "说法正确",
        ),
        Phrase("in fact", "其实|实际上|事实上|实则|反而", "其实不对", "实际"),
        Phrase(
            "in English",
            r"\b(?:so|thus|hence|therefore|overall|in conclusion|statement|claim)\b",
            "so it is false",
            "some",
        ),
    )
)
"""Clauses that speak of the whole statement, and not of a part of it."""


def read_true_false(reply: str) -> tuple[str | None, str]:
    """("T" or "F", how), or (None, why not). A reply that starts with its verdict, or gives one only, means
    that; else its last conclusion counts; a negation is read with its keyword. Parts that are judged
    otherwise, without a conclusion, make a statement false only where that is said of it last."""
    text = clean(reply).lower()
    backs = list(TAKEN_BACK.regex.finditer(text))
    if backs and VERDICT.search(text[backs[-1].end() :]):
        text = text[backs[-1].end() :]
    judged = [one for clause in _clauses(NEUTRAL.regex.sub(" ", text)) if (one := _judged(clause))]
    if not judged:
        return None, "no verdict"
    first = judged[0]
    concluded = [one for one in judged if one.concludes]
    if len({one.verdict for one in judged}) > 1 and not (first.alone or concluded):
        return None, "one part right and another wrong"
    if first.alone and concluded and concluded[-1].verdict != first.verdict:
        return None, "a verdict and another at the end"
    found = first if first.alone or not concluded else concluded[-1]
    return (found.verdict, f"read {found.words!r}") if found.verdict else (None, "both at once")


class Judged(NamedTuple):
    """A clause with a verdict: "T", "F", or None for both at once; whether it speaks of the whole statement,
    and whether it is a verdict and nothing else."""

    verdict: str | None
    words: str
    concludes: bool
    alone: bool


def _clauses(text: str) -> Iterator[str]:
    """The clauses of a text that say something."""
    return (clause for clause in CLAUSE.regex.split(text) if clause.strip())


def _judged(clause: str) -> Judged | None:
    """None where a clause gives no verdict."""
    found = list(VERDICT.finditer(clause))
    if not found:
        return None
    verdicts = {"T" if one["yes"] else "F" for one in found}
    rest = VERDICT.sub("", clause)
    return Judged(
        verdicts.pop() if len(verdicts) == 1 else None,
        found[0][0],
        bool(CONCLUSION.regex.search(clause)),
        not ALONE_LEFT.regex.search(rest),
    )
