"""Reading true/false and fill-in-the-blank replies."""

from __future__ import annotations

import re
import unicodedata

from doitune.evals.reading.letters import LATEX_TEXT, SPECIAL_TOKEN, clean

YES, NO = (
    r"是?(?:正确|对|√|\b(?:true|yes|correct|right|t)\b)",
    r"(?:是?(?:不正确|不对|错误?|×)|\b(?:false|no|wrong|not|f)\b)",
)
OR = r"(?:\s*(?:还是|或者?|/|or\b)\s*)"
NEUTRAL = re.compile(
    rf"[^,。;!?\n]{{0,60}}\?|[^,。;!?\n]{{0,60}}吗(?=[,。;!\s]|$)|{YES}与否|{YES}{OR}{NO}|{NO}{OR}{YES}|√\s*×|"
    r"(?:既|有|时|半|部分|一半|可能|大部分)是?(?:正确|对|错误?)[,、]?(?:又|有|时|半|小?部分|一半|也可能|也有)是?(?:不?正确|不?对|错误?)|"
    r"(?:是否|能否)[^,。;:]{0,4}(?:正确|错误|对|错)(?=[,。;?:]|$)|"
    r"对不起|对于|对此|正确的?答案(?:应该|应)?[是为:]*|[^,。;!?\n]{0,60}[吗么呢]\s*[?]|对照|对应|对待|对象|对方|对比|对话|对策|对手|对外|对内|绝对|相对|半对半?错?|一半|反对|面对|针对|核对|应对|派对|一对|对错|正误|是否|"
    r"对不对|是不是|正不正确|错过|错综|看似[^,。;]*|看起来[^,。;]*|看上去[^,。;]*|乍一?看[^,。;]*|似乎[^,。;]*|貌似[^,。;]*|虽然?[^,。;]*|尽管[^,。;]*|表面上[^,。;]*|"
    r"(?:无法|难以|不能|不好|没法|不会)(?:判断|确定|回答|判定)[^,。;]*|(?:不确定|不清楚|不知道)[^,。;]*"
)
"""Words that hold a keyword and say nothing, and clauses that only lead up to the verdict."""

FALSE_WORDS = (
    r"(?:不(?:认为|觉得|能认为|敢说)|无法(?:说|认为))[^,。;!?\n]{0,10}?(?:正确|准确|对|成立|属实)|(?:没有?|毫无|无)道理|有(?:很大|一些|些)?问题|非也|违背|相悖|说反|张冠李戴|混淆|颠倒"
    r"|与[^,。;]{1,6}不(?:相?符|一致|吻合)|(?:不|非|未|没有?|难以?|谈不上|称不上|算不上)(?:能|能说|可|是|太|够|很|完全|全|全部|一定|尽|怎么|怎|大|那么|够|甚|必|应|该|属|算|会|再|都|见得)*(?:的|说)?"
    r"(?:正确|准确|对|成立|属实|真|符合|恰当|合理|妥|科学|严谨|全面)|不(?:是|行|能|可以|存在)?(?=[的,。;!?\s]|$)|并非|并不(?=[,。;!?\s]|$)|"
    r"不(?:当|妥|实|合适)|非(?=[,。;!?\s]|$)|错误|错|有误|谬误|谬|失实|虚假|假的?(?=[,。;!?\s]|$)|否(?=[,。;!?\s]|$)|伪"
)
TRUE_WORDS = (
    r"(?:没有?|无|并无|毫无|找不出|挑不出)(?:什么|任何|一点|半点|明显|明显的)?(?:错误|错|误|问题|毛病|不妥|不当|不对|不正确)|(?:不|并非|不是|并不|不能说|不能|不算|不认为|不觉得)(?:这?是|算)?(?:错误|错)的?|无误|(?:确实|的确)如此|"
    r"正确|准确|成立|属实|千真万确|真(?:实|的)?(?=[,。;!?\s]|$)|对|与[^,。;不]{1,6}(?:相符|一致|吻合)|符合(?:史实|事实|历史|题意|实际)|合理|妥当|恰当|有道理|是(?:的|啊|呀)?(?=[,。;!?\s]|$)"
)
FALSE_ENGLISH = r"(?:not|(?:is|are|was|does)nt)\s+(?:\w+\s+){0,2}?(?:true|correct|right|accurate)|incorrect|inaccurate|untrue|false|wrong|no(?!\.\s*\d)"
TRUE_ENGLISH = r"(?:not|(?:is|are|was)nt)\s+(?:false|wrong|incorrect)|no\s+(?:errors?|mistakes?|problems?)|true|correct|right|accurate|yes"
APART = (
    r"(?<![a-z0-9])(?<![a-z]\()(?:(?<![a-z0-9] )|(?<= is ))",
    r"(?![a-z0-9]|[\u4e00-\u9fff]|\s*[(=+*/^<>-]\s*[a-z0-9])",
)
"""What stands around a single letter that is a verdict: no English word, no formula ("def f(x)", "x = 5")."""
FALSE_SIGNS, TRUE_SIGNS = "×✗✘❌❎✖╳✕", "√✓✔✅☑"
VERDICT = re.compile(
    rf"(?P<yes>{TRUE_WORDS}|[{TRUE_SIGNS}]|(?<![a-z0-9])(?:{TRUE_ENGLISH})(?![a-z0-9]|[\u4e00-\u9fff])|{APART[0]}[tvy]{APART[1]})"
    rf"|(?P<no>{FALSE_WORDS}|[{FALSE_SIGNS}](?!\s*\d)|(?<![a-z0-9])(?:{FALSE_ENGLISH})(?![a-z0-9]|[\u4e00-\u9fff])|{APART[0]}[fxn]{APART[1]})",
)
TAKEN_BACK = re.compile(
    r"(?<=[,。;:!?\s…])(?:哦|啊|噢)?(?:不对[,。…]+\s*应该?[是为]|不[,。]\s*应?该?[是为]?|更正|改[为成]|[说写]错了|抱歉)"
)
LEAD_IN = re.compile(
    r"^\s*(?:(?:您好|你好|好的|嗯|当然)[,。!]*\s*)?(?:[(\[]?\d{1,2}[.)\]、:]\s*|•\s*)?"
    r"(?:这是|就是|应该?是|应为|(?:the\s+)?(?:correct\s+)?answer(?:\s+is|\s*:)|第[一二三\d]个?空(?=\s*:)|(?:[^,。;:\n\"“「《]{0,16}?)(?:填空答案|的?答案|答|填空|应填|应该填|填写?|填入|空白处|横线处|空格|空处|[上下前后](?:一|半)?句|原句|原文|作者|诗句|解答|结果|认为|觉得)"
    r"(?:内容|部分|处|里|上)?(?:应该|应当|应|就|所)?(?:填写?|填入)?(?:是|为|:|的是|入|写)*)\s*[:,]?\s*",
    re.IGNORECASE,
)
NUMBERING = re.compile(r"^\s*(?:[(\[]\d{1,2}[)\]]|\d{1,2}[.、)](?!\d))\s*")
OUTER = "$\\\"'“”‘’「」『』《》〈〉()[]【】{}*_`#.,;:!?。、…—-~ \t\n"
REMARK = re.compile(
    r"^(.+?)[,。;\s]*[(\[【][^()\[\]【】]*[)\]】]?$|^(.+?)(?:[,。;]\s*|\s+)(?:出自|选自|语出|解析|解释|理由|希望|以上|谢谢).*$|^(.+?)[。\"”]\s*——.*$|^(.+?)[,。;]\s*(?:出自|选自|语出|因为|解析|理由|原因|意思|意为|即|这是|此句|此处|该|是由|来自).*$",
    re.DOTALL,
)
TWICE = re.compile(r"(.+?)[。,;\s]+\1[。,;\s]*")
A_WORD = re.compile(r"[\"“「『](.+?)[\"”」』]个?[字词]")
AFTER_ANSWER = re.compile(r"(?:答案|填)(?:[是为]?\s*:|[是为])\s*(\S+)\s*$")
QUOTED = re.compile(r"[\"“「『](.+?)[\"”」』]")
FILLS = re.compile(r"(?:是|为|填|写|入|:|答)\s*[\"“「『]")
NEGATED = re.compile(r"不|非|没|无法|勿")
HAN_SPACE = re.compile(
    r"(?<=[\u4e00-\u9fff〇])\s+(?=\w)|(?<=\w)\s+(?=[\u4e00-\u9fff〇])|\s+(?=[,;:。!?])|(?<=[,;:。!?])\s+"
)


def read_true_false(reply: str) -> tuple[str | None, str]:
    """("T" or "F", how), or (None, why not). The first clause that gives a verdict counts, or that follows
    where the reply takes one back; a negation is read with its keyword."""
    text = clean(reply).lower()
    backs = list(TAKEN_BACK.finditer(text))
    if backs and VERDICT.search(text[backs[-1].end() :]):
        text = text[backs[-1].end() :]
    text = NEUTRAL.sub(lambda found: " " if found[0] else "", text)
    for match in VERDICT.finditer(text):
        if match["yes"]:
            return "T", f"read {match['yes']!r}"
        return "F", f"read {match['no']!r}"
    return None, "no verdict"


def blank_candidates(reply: str) -> list[str]:
    """What a reply may mean as the blank's filling, most literal first: the line without lead-in,
    numbering and remark, or its one quotation."""
    text = _fold(SPECIAL_TOKEN.sub(" ", reply))
    lead = LEAD_IN.match(text)
    behind = AFTER_ANSWER.search(text) if lead and not text[lead.end() :].strip(OUTER) else None
    without = text[lead.end() :] if lead and not NEGATED.search(lead[0]) else text
    line = next(
        (row for row in (without if without.strip(OUTER) else text).splitlines() if row.strip(OUTER)), ""
    )
    line = NUMBERING.sub("", line)
    found = [line]
    remark = REMARK.match(line.strip())
    if remark:
        found.append(next(group for group in remark.groups() if group))
    found += [
        match[1] for match in (TWICE.fullmatch(line.strip()), A_WORD.fullmatch(line.strip()), behind) if match
    ]
    start = text.find(line)
    whole = text[text.rfind("\n", 0, start) + 1 : start] + line
    quotes = QUOTED.findall(whole)
    if len(quotes) == 1 and FILLS.search(whole) and not NEGATED.search(whole[: whole.find(quotes[0])]):
        found.append(quotes[0])
    return [one for one in dict.fromkeys(_bare(one) for one in found) if one]


def same_blank(reply: str, label: str) -> tuple[str | None, bool]:
    """(what was read, whether it is the label): whole fillings are compared, outer punctuation and width
    aside."""
    wanted = _bare(_fold(label))
    found = blank_candidates(reply)
    if _bare(_fold(reply)) == wanted:
        return wanted or None, bool(wanted)
    match = next((one for one in found if one == wanted), None)
    if (
        match is None
        and (joined := _joined(wanted))
        and any(_joined(one) == joined for one in (_bare(_fold(reply)), *found))
    ):
        match = wanted
    return (match or (found[-1] if found else None)), match is not None


def _joined(text: str) -> str:
    """Verse without the stops between its lines; empty where it is one line or holds more than Chinese
    characters."""
    parts = re.split(r"[\s,。;!?]+", text)
    bare = "".join(parts)
    return bare if len(bare) > 5 and re.fullmatch(r"[\u4e00-\u9fff]+", bare) else ""


def _fold(text: str) -> str:
    """Half-width, composed, nothing invisible; lines kept."""
    for _ in range(3):
        text = LATEX_TEXT.sub(r"\1", text)
    text = re.sub(r"[\u200b-\u200f\u2060\ufeff]", "", unicodedata.normalize("NFKC", text.replace("−", "-")))
    return (
        re.sub(r"(?<=[A-Za-z)])_\{?(\d+)\}?", r"\1", text)
        .replace("**", "")
        .replace("○", "〇")
        .replace("◯", "〇")
    )


def _bare(text: str) -> str:
    """Without outer punctuation (a number keeps its sign and point) and without spaces between Chinese
    characters; inner stops in one spelling."""
    inner = text.strip().strip(OUTER)
    ahead = text[: text.find(inner)] if inner else ""
    sign = re.search(r"-?\.?$", ahead) if inner[:1].isdigit() else None
    text = HAN_SPACE.sub("", (sign[0] if sign else "") + inner)
    return re.sub(r"[、;]", ",", re.sub(r"\s+", " ", text))
