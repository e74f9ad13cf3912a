"""Reading true/false and fill-in-the-blank replies."""

from __future__ import annotations

import re
import unicodedata

from doitune.evals.letters import LATEX_TEXT, SPECIAL_TOKEN, clean

NEUTRAL = re.compile(
    r"对不起|对于|对此|正确的?答案(?:应该|应)?[是为:]*|[^,。;!?\n]{0,60}[吗么呢]\s*[?]|对照|对应|对待|对象|对方|对比|对话|对策|对手|对外|对内|绝对|相对|半对半?错?|一半|反对|面对|针对|核对|应对|派对|一对|对错|正误|是否|"
    r"对不对|是不是|正不正确|错过|错综|看似[^,。;]*|似乎[^,。;]*|貌似[^,。;]*|虽然?[^,。;]*|尽管[^,。;]*|表面上[^,。;]*|(?:是否|能否)[^,。;]{0,4}(?:正确|错误|对|错)(?=[,。;?]|$)|"
    r"(?:无法|难以|不能|不好|没法|不会)(?:判断|确定|回答|判定)[^,。;]*|(?:不确定|不清楚|不知道)[^,。;]*"
)
"""Words that hold a keyword and say nothing, and clauses that only lead up to the verdict."""

FALSE_WORDS = (
    r"(?:不|非|未|没有?|难以?|谈不上|称不上|算不上)(?:能|能说|可|是|太|够|很|完全|全|全部|一定|尽|怎么|怎|大|那么|够|甚|必|应|该|属|算|会|再|都)*(?:的|说)?"
    r"(?:正确|准确|对|成立|属实|真|符合|恰当|合理|妥|科学|严谨|全面)|不(?:是|行|能|可以|存在)(?=[的,。;!?\s]|$)|并非|并不(?=[,。;!?\s]|$)|"
    r"不(?:当|妥|实|合适)|非(?=[,。;!?\s]|$)|错误|错|有误|谬误|谬|失实|虚假|假|否(?=[,。;!?\s]|$)|伪"
)
TRUE_WORDS = (
    r"(?:没有?|无|并无|毫无|找不出|挑不出)(?:什么|任何|一点|半点|明显|明显的)?(?:错误|错|误|问题|毛病|不妥|不当|不对)|(?:不|并非|不是|并不|不能说|不算)(?:是|算)?(?:错误|错)的?|无误|(?:确实|的确)如此|"
    r"正确|准确|成立|属实|真|对|符合(?:史实|事实|历史|题意|实际)|合理|妥当|恰当|有道理|是(?:的|啊|呀)?(?=[,。;!?\s]|$)"
)
FALSE_ENGLISH = (
    r"not\s+(?:\w+\s+){0,2}?(?:true|correct|right|accurate)|isn't\s+(?:true|correct|right)|incorrect|inaccurate|untrue|false|wrong|no|f|x|n"
)
TRUE_ENGLISH = r"not\s+(?:false|wrong|incorrect)|true|correct|right|accurate|yes|t|v|y"
FALSE_SIGNS, TRUE_SIGNS = "×✗✘❌❎✖╳✕", "√✓✔✅☑"
VERDICT = re.compile(
    rf"(?P<yes>{TRUE_WORDS}|[{TRUE_SIGNS}]|(?<![a-z0-9])(?:{TRUE_ENGLISH})(?![a-z0-9]|[\u4e00-\u9fff]))"
    rf"|(?P<no>{FALSE_WORDS}|[{FALSE_SIGNS}](?!\s*\d)|(?<![a-z0-9])(?:{FALSE_ENGLISH})(?![a-z0-9]|[\u4e00-\u9fff]))",
)
LEAD_IN = re.compile(
    r"^\s*(?:[(\[]?\d{1,2}[.)\]、:]\s*)?(?:(?:[^,。;:\n\"“「《]{0,16}?)(?:答案|答|填空|应填|应该填|填写?|填入|空白处|横线处|空格|空处|[上下前后](?:一|半)?句|原句|作者|诗句|解答|结果|认为|觉得)"
    r"(?:内容|部分|处|里|上)?(?:应该|应当|应|就|所)?(?:填写?|填入)?(?:是|为|:|的是|入|写)*)\s*[:,]?\s*"
)
NUMBERING = re.compile(r"^\s*(?:[(\[]\d{1,2}[)\]]|\d{1,2}[.、)](?!\d))\s*")
OUTER = "$\\\"'“”‘’「」『』《》〈〉()[]【】{}*_`#.,;:!?。、…—-~ \t\n"
REMARK = re.compile(
    r"^(.+?)[,。;\s]*[(\[【][^()\[\]【】]*[)\]】]?$|^(.+?)[,。;]\s*(?:出自|选自|语出|因为|解析|理由|原因|意思|意为|即|这是|此句|此处|该|是由|来自).*$",
    re.DOTALL,
)
QUOTED = re.compile(r"[\"“「『](.+?)[\"”」』]")
FILLS = re.compile(r"(?:是|为|填|写|入|:|答)\s*[\"“「『]")
NEGATED = re.compile(r"不|非|没|无法|勿")
HAN_SPACE = re.compile(r"(?<=[\u4e00-\u9fff〇])\s+(?=\w)|(?<=\w)\s+(?=[\u4e00-\u9fff〇])|\s+(?=[,;:。!?])|(?<=[,;:。!?])\s+")


def read_true_false(reply: str) -> tuple[str | None, str]:
    """("T" or "F", how), or (None, why not). The first clause that gives a verdict counts; a negation is read with its keyword."""
    text = clean(reply).lower()
    text = NEUTRAL.sub(lambda found: " " if found[0] else "", text)
    for match in VERDICT.finditer(text):
        if match["yes"]:
            return "T", f"read {match['yes']!r}"
        return "F", f"read {match['no']!r}"
    return None, "no verdict"


def blank_candidates(reply: str) -> list[str]:
    """What a reply may mean as the blank's filling, most literal first: the line without lead-in, numbering and remark, or its one quotation."""
    text = _fold(SPECIAL_TOKEN.sub(" ", reply))
    lead = LEAD_IN.match(text)
    without = text[lead.end() :] if lead and not NEGATED.search(lead[0]) else text
    line = next((row for row in (without if without.strip(OUTER) else text).splitlines() if row.strip(OUTER)), "")
    line = NUMBERING.sub("", line)
    found = [line]
    remark = REMARK.match(line.strip())
    if remark:
        found.append(remark[1] or remark[2])
    start = text.find(line)
    whole = text[text.rfind("\n", 0, start) + 1 : start] + line
    quotes = QUOTED.findall(whole)
    if len(quotes) == 1 and FILLS.search(whole) and not NEGATED.search(whole[: whole.find(quotes[0])]):
        found.append(quotes[0])
    return [one for one in dict.fromkeys(_bare(one) for one in found) if one]


def same_blank(reply: str, label: str) -> tuple[str | None, bool]:
    """(what was read, whether it is the label): whole fillings are compared, outer punctuation and width aside."""
    wanted = _bare(_fold(label))
    found = blank_candidates(reply)
    if _bare(_fold(reply)) == wanted:
        return wanted or None, bool(wanted)
    match = next((one for one in found if one == wanted), None)
    return (match or (found[-1] if found else None)), match is not None


def _fold(text: str) -> str:
    """Half-width, composed; lines kept."""
    return unicodedata.normalize("NFKC", LATEX_TEXT.sub(r"\1", text)).replace("**", "").replace("○", "〇").replace("◯", "〇")


def _bare(text: str) -> str:
    """Without outer punctuation and without spaces between Chinese characters; inner stops in one spelling."""
    text = HAN_SPACE.sub("", text.strip().strip(OUTER))
    return re.sub(r"[、;]", ",", re.sub(r"\s+", " ", text))
