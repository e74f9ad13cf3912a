"""Reading fill-in-the-blank replies: what a reply may mean as the filling, and whether it is the label."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from doitune.evals.reading.patterns import Pattern, Phrase, Rewrite, pattern
from doitune.evals.reading.plain import CIRCLED, LATEX_TEXT, SPECIAL_TOKEN

LEAD_IN = Pattern(
    (
        Phrase(
            "this is",
            r"这是|就是|应该?是|应为|(?:the\s+)?(?:correct\s+)?answer(?:\s+is|\s*:)|第[一二三\d]个?空(?=\s*:)",
            "你好,这是",
            "这里是",
        ),
        Phrase(
            "the blank is",
            r"(?:[^,。;:\n\"“「《]{0,16}?)(?:填空答案|的?答案|答|填空|应填|应该填|填写?|填入|空白处|横线处|空格|空处"
            "|[上下前后](?:一|半)?句|原句|原文|作者|诗句|解答|结果|认为|觉得)(?:内容|部分|处|里|上)?(?:应该|应当|应|就|所)?"
            "(?:填写?|填入)?(?:是|为|:|的是|入|写)*",
            "所以空格处应填入",
            "海上生明月",
        ),
    ),
    before=r"^\s*(?:(?:您好|你好|好的|嗯|当然)[,。!]*\s*)?(?:[(\[]?\d{1,2}[.)\]、:]\s*|•\s*)?",
    behind=r"\s*[:,]?\s*",
    flags=re.IGNORECASE,
)
NUMBERING = Rewrite(
    "number of a line", r"^\s*(?:[(\[]\d{1,2}[)\]]|\d{1,2}[.、)](?!\d))\s*", "", "1.明月", "明月", "1.5"
)
REMARK = Pattern(
    (
        Phrase(
            "in brackets", r"(.+?)[,。;\s]*[(\[【][^()\[\]【】]*[)\]】]?[。.]?$", "明月(出自李白)", "(明月"
        ),
        Phrase(
            "where it is from or why",
            r"(.+?)(?:[,。;]\s*|\s+)(?:出自|选自|语出|解析|解释|理由|希望|以上|谢谢).*$",
            "明月 出自李白",
            "出自李白",
        ),
        Phrase(
            "what it is not",
            r"(.+?)[,;]\s*(?:(?:而不|并不|不)是|(?:and\s+)?not\b|原先|原以为|不要|不能|注意|与|如果|若|很?容易|有人).*$|(.+?)[,;]\s*[而并]非.*$",
            "苏轼,并非李白",
            "并非李白",
        ),
        Phrase("who wrote it", r"(.+?)[。\"”]\s*——.*$", "明月。——李白", "明月——李白"),
        Phrase(
            "what it means",
            r"(.+?)[,。;]\s*(?:出自|选自|语出|因为|解析|理由|原因|意思|意为|即|这是|此句|此处|该|是由|来自|[她他它]是|字|号"
            r"|又名|[原本]名|笔名|[又也亦全简]称|位于|指的?是|表示|形容|比喻|属于|大?约|占).*$",
            "明月,意为月亮",
            "意为月亮",
        ),
    ),
    before="^",
    flags=re.DOTALL,
)
"""A filling, in the group that is not empty, and a remark behind it."""

TWICE = pattern("said twice", r"^(.+?)[。,;\s]+\1[。,;\s]*\Z", "明月。明月。", "明月。明")
A_WORD = pattern("the word of that name", r"^[\"“「『](.+?)[\"”」』]个?[字词]\Z", "“国”字", "“国”")
AFTER_ANSWER = pattern("at the end", r"(?:答案|填)(?:[是为]?\s*:|[是为])\s*(\S+)\s*$", "答案是 是", "答案是")
SAYS = Pattern(
    (
        Phrase(
            "to fill in",
            "应?当?填(?:写|入|的|法|空(?=[:是为]))?的?(?:内容|词语?|成语|字|数字|诗句|句子|短语|答案)?",
            "故填",
            "补写",
        ),
        Phrase("to be added", "应当?补(?:充|写|上|全)", "应补充", "补写"),
        Phrase("should be", "应[为是]", "应为", "应该"),
        Phrase("the answer", r"答案|\banswers?(?=\s+(?:is|are|would|should)\b|\s*:)", "答案", "答复"),
        Phrase(
            "the line",
            "(?:[上下前后](?:一|半)?句|句子|诗句|内容|原句|原文)(?:诗|话)?(?=应?该?[是为:])",
            "下一句是",
            "下一句",
        ),
        Phrase("right is", "正确的(?=[是为])", "正确的是", "正确"),
        Phrase(
            "the place",
            "(?:横线|空格|空白|空缺|此空|该空)(?:处|里|上|中)?的?(?:内容|诗句|句子)?(?=应?该?[是为:])",
            "横线处为",
            "横线处",
        ),
        Phrase("but", "而(?=是)", "而是", "而且"),
        Phrase("should be here", '(?:这里|此处|应该)(?=应?该?[是为]\\s*["“「『])', "此处为“", "这里是家"),
        Phrase(
            "what is missing",
            "(?:所|空)?缺(?:少|失)?的?(?:部分|内容|句子|词语?|字|诗句)?(?=[是为:])",
            "所缺的是",
            "缺点是",
        ),
        Phrase(
            "the missing word",
            r"\b(?:(?:missing|correct|right|appropriate|suitable)\s+(?:line|name|form|)|(?:word|phrase|term))s?(?=\s+(?:is|are|would|should)\b|:)",
            "the missing word is",
            "the words of",
        ),
        Phrase(
            "the blank",
            r"\b(?:blank|gap)s?(?:\s+(?:is|are|should|can|must|would|be|filled|in))*(?=\s+(?:with|by|is|be|are)\b|:)",
            "fill in the blank with",
            "the blank line",
        ),
    ),
    behind=r"(?:应该?|应当|就|即|便|[前后上下]半?句|(?:should|would|must|be|is|are|with|by|likely|most|probably|spelled|written)\b|[是为的\s])*:?\s*"
    r"(?:[\"“「『][^\"“”「」『』\n]{1,60}[\"”」』](?:中的|里的|的[前后上下]半?句)(?=[\"“「『]))?",
    flags=re.IGNORECASE,
)
"""Behind the last of these that is not denied stands what fills the blank."""

DENIED_BEFORE = pattern(
    "denied right before",
    r"(?:不知道?|不能确定|无法确定|不确定|不清楚)[^,。;!?\n]{0,9}$"
    "|(?:有些?人|多人|少人|同学们?|学生|考生|读者|如果|若|假如|要是|容易|常|一开始|最初|起初|曾经?|想过?|打算|考虑过?|一度|差点|错误的?)(?:们|会|也|就|都|可能|常|误|错|把|将|只|想过?)*$|(?:不|勿|别|并非|不能|不应该?|不要|本想|原想|以为|误)(?:是|再|该)?$",
    "不能",
    "不能说是",
)
STATED = pattern(
    "the filling, in quotes",
    r"(?:答案|应?当?填|应当?补充|应该?[为是]|(?:空格|横线|空白|此处|这里)(?:处|里|上)?)(?:写|入)?(?:应该|应当|应|就|填写?|填入|[是为的即:\s])*"
    r"(?:[\"“「『]|(?![诗词上下前后写入]|内容|[这其该什的])[\u4e00-\u9fff]{2,30}(?=[,。;\n]|\Z))",
    "答案是“明月”",
    "填写诗句",
)
UNFIT = pattern(
    "it does not fit",
    r"[\"”」』]?\s*(?:的话)?,?\s*(?:则|就|便|是|会|与|和)?(?:会|是)?[^,。;\"“\n]{0,10}?(?:不[通合对妥当符行]|矛盾|错误|是错|有误|重复|相悖)",
    "”,则与上文矛盾",
    "”,是名句",
)
OTHER_LINE = pattern("a line of verse", "[上下前后](?:一|半)?句|诗句|原句|原文", "下一句是", "答案是")
SAID = pattern(
    "what is said",
    r"[\"“「『]([^\"“”「」『』\n]+)[\"”」』]|((?:[^。;!?\n\"“「『.]|\.(?!\s))+)",
    "明月,",
    "。",
)
OTHERWISE = pattern("or something else", r"^[\"”」』\s]*(?:或者?|还是|、)", "或“", "和")
SAYS_IS = pattern(
    "one thing is another",
    r"^(?!.*(?:可能|或|也许|大概))[^,。;!?\n是不非没为]{2,24}[是为]([^,。;!?\n是不]{1,16})(?:,(?:而)?不是[^,。;]*)?[。.!]?\Z",
    "作者是鲁迅。",
    "作者不是鲁迅",
)
ENGLISH_IS = pattern(
    "one thing is another, in English",
    r"^(?!.*\b(?:not|may|might|or|could|never|maybe|perhaps|if)\b)[A-Za-z][^.;:?!\n]{2,60}?\s(?:is|are|was|were)\s+(?:called\s+|the\s+)?([^,.;:?!]{1,40})[.!]?\Z",
    "The capital is Paris.",
    "It is not Paris.",
)
COUNTED = pattern(
    "a number and what it counts", r"^(\d+)(?:年|月|日|岁|个|人|次|条|种|位)\Z", "1921年", "1921万"
)
QUOTED = pattern("in quotes", r"[\"“「『](.+?)[\"”」』]", "“明月”", "明月")
QUOTES = pattern(
    "several in quotes, at the end",
    r"(?:[填是为入]|:)\s*((?:[\"“「『][^\"“”「」『』\n]{1,40}[\"”」』](?:\s*(?:和|与|及|以及|、|,|;)?\s*)){2,8})[。.]?\s*\Z",
    "填“虚心”和“骄傲”。",
    "填“虚心”",
)
FILLS = pattern("said to fill", r"(?:是|为|填|写|入|:|答)\s*[\"“「『]", "应填“", "有“")
NEGATED = pattern("denied", "不|非|没|无法|勿", "不是明月", "明月")
HAN_SPACE = Rewrite(
    "spaces between Chinese characters and beside stops",
    r"(?<=[\u4e00-\u9fff〇])\s+(?=\w)|(?<=\w)\s+(?=[\u4e00-\u9fff〇])|\s+(?=[,;:。!?])|(?<=[,;:。!?])\s+",
    "",
    "明 月 , a",
    "明月,a",
    "a b",
)
MARKED = pattern(
    "in bold or on a drawn line", r"\*\*([^*\n]+)\*\*|(?<!_)__+([^_\n]+)__+(?!_)", "见**明月**", "见____。"
)
LEADS_TO = pattern(
    "leads to a filling", r"^[^,.;:。“\"]{0,20}(?:是|为|填|\bis|\bare|:)[\s:]*\Z", "作者是", "作者"
)
IN_ENGLISH = pattern(
    "in an English sentence",
    r"^[\x00-\x7f]*(?<!of )(?<!for )(?<!than )(?<!not )□(?! (?:is|are|was|were|means)\b)[\x00-\x7f]*\Z",
    "She □ here",
    "The opposite of □ is cold",
)
ASIDE = pattern("a remark follows", r"^[\s,.;。(]", ",字子瞻", "的诗")
PART = pattern(
    "number of a filling",
    r"(?:^|(?<=[\s,，。;；:：]))(?:[-*•]\s+)?(?:[(（\[]\d{1,2}[)）\]]|\d{1,2}[.、)）](?!\d)|(?:第[一二三四五六1-6](?:个?空|处)|[前后]一?空|空[一二三四五六1-6])[处格]?)[填写应为是:：]*\s*",
    "答案：(1) 明月",
    "1.5",
)
HEADLINE = pattern(
    "a headline",
    r"\A\s*(?:#{1,6}\s+[^\n\"“]{1,20}|[^\n\"“，,。]{1,12}如下[:：])\n+(?=[^\n]*\S)",
    "### 解答\n明月",
    "### 明月",
)
HEADING = 12
"""Characters up to which what stands before the first of several fillings only leads to them."""

OUTER = "$\\\"'“”‘’「」『』《》〈〉()[]【】{}*_`#.,;:!?。、…—-~ \t\n"
"""What is taken off both ends of a filling."""

ONE_LINE = 5
"""Characters up to which verse is one line, with no stop in it to leave out."""


def same_blank(reply: str, label: str) -> tuple[str | None, bool]:
    """(what was read, whether it is the label): whole fillings are compared, outer punctuation and width
    aside."""
    reply = HEADLINE.regex.sub("", reply, count=1)
    wanted, whole = _bare(_fold(label)), _bare(_fold(reply))
    if whole == wanted:
        return wanted or None, bool(wanted)
    if several := _in_order(reply):
        return several, several == wanted
    said = _said(_fold(SPECIAL_TOKEN.regex.sub(" ", reply)))
    found = (
        _fillings(reply) if said is None else [_bare(one) for one in (said, *_inside(said), *_marked(said))]
    )
    if wanted in found:
        return wanted, True
    verse = _joined(wanted)
    if verse and any(_joined(one) == verse for one in (whole, *found)):
        return wanted, True
    return (found[-1] if found else None), False


def _fillings(reply: str) -> list[str]:
    """What a reply may mean as the blank's filling, most literal first: the line without lead-in,
    numbering and remark, or its one quotation."""
    text = _fold(SPECIAL_TOKEN.regex.sub(" ", reply))
    lead = LEAD_IN.regex.match(text)
    behind = AFTER_ANSWER.regex.search(text) if lead and not text[lead.end() :].strip(OUTER) else None
    without = text[lead.end() :] if lead and not NEGATED.regex.search(lead[0]) else text
    rows = (without if without.strip(OUTER) else text).splitlines()
    line = NUMBERING.apply(next((row for row in rows if row.strip(OUTER)), ""))
    found = [line, *_inside(line.strip())]
    if behind:
        found.append(behind[1])
    start = text.find(line)
    found += _quoted(text[text.rfind("\n", 0, start) + 1 : start] + line)
    found += _marked(unicodedata.normalize("NFKC", reply))
    return [one for one in dict.fromkeys(_bare(one) for one in found) if one]


def _said(text: str) -> str | None:
    """What the reply says last to fill the blank, where it says so in words; None where it does not; nothing
    where it leaves a choice."""
    places = list(SAYS.regex.finditer(text))
    if any(STATED.regex.match(text, found.start()) for found in places):
        places = [found for found in places if not OTHER_LINE.regex.match(found[0])]
    for found in reversed(places):
        said = SAID.regex.match(text, found.end())
        if not said or DENIED_BEFORE.regex.search(text[max(0, found.start() - 16) : found.start()]):
            continue
        if not (said[1] or said[2] or "").strip(OUTER) or UNFIT.regex.match(text, said.end()):
            continue
        return "" if OTHERWISE.regex.match(text[said.end() :]) else (said[1] or said[2]).strip()
    return None


def _marked(text: str) -> list[str]:
    """The one thing in bold, at the end of its line, or on a drawn line; nothing where it is denied."""
    marked = MARKED.regex.findall(text)
    if len(marked) != 1:
        return []
    line = next(line for line in text.splitlines() if MARKED.regex.search(line))
    found = MARKED.regex.search(line)
    assert found
    bold = found[1]
    ahead, behind = line[: found.start()], line[found.end() :]
    if NEGATED.regex.search(ahead[-4:]):
        return []
    aside = LEADS_TO.regex.match(ahead) and ASIDE.regex.match(behind)
    if bold and behind.strip(OUTER) and not aside and not IN_ENGLISH.regex.match(f"{ahead}□{behind}"):
        return []
    return [bold or found[2]]


def _in_order(text: str) -> str:
    """Several fillings as one text, where the reply numbers them and says nothing else; else empty."""
    if quotes := QUOTES.regex.search(unicodedata.normalize("NFKC", text)):
        return ",".join(_bare(one) for one in re.findall(QUOTED.regex, quotes[1]))
    parts = PART.regex.split(CIRCLED.regex.sub(" (1) ", text))
    if len(parts) < 3 or len(parts[0].strip(OUTER)) > HEADING:
        return ""
    return ",".join(one for part in parts[1:] if (one := _bare(_fold(part))))


def _inside(line: str) -> Iterator[str]:
    """What a line says without the remark behind it, once where it says it twice, and the word that it
    names."""
    bare = line
    if remark := REMARK.regex.match(line):
        yield (bare := next(group for group in remark.groups() if group))
    for one in (TWICE, A_WORD, SAYS_IS, ENGLISH_IS):
        if found := one.regex.match(line) or one.regex.match(bare):
            yield found[1]
    if counted := COUNTED.regex.match(_bare(line)):
        yield counted[1]


def _quoted(line: str) -> list[str]:
    """The one quotation of a line that says what fills the blank."""
    quotes = QUOTED.regex.findall(line)
    if len(quotes) != 1 or not FILLS.regex.search(line):
        return []
    return [] if NEGATED.regex.search(line[: line.find(quotes[0])]) else quotes


def _joined(text: str) -> str:
    """Verse without the stops between its lines; empty where it is one line or holds more than Chinese
    characters."""
    bare = re.sub(r"[\s,。;!?]+", "", text)
    return bare if len(bare) > ONE_LINE and re.fullmatch(r"[\u4e00-\u9fff]+", bare) else ""


def _fold(text: str) -> str:
    """Half-width, composed, nothing invisible; lines kept."""
    for _ in range(3):
        text = LATEX_TEXT.regex.sub(r"\1", text)
    text = unicodedata.normalize("NFKC", text.replace("−", "-"))
    text = re.sub(r"[\u200b-\u200f\u2060\ufeff]", "", text)
    text = re.sub(r"(?<=[A-Za-z)])_\{?(\d+)\}?", r"\1", text)
    return text.replace("**", "").replace("○", "〇").replace("◯", "〇")


def _bare(text: str) -> str:
    """Without outer punctuation (a number keeps its sign and point) and without spaces between Chinese
    characters; inner stops in one spelling."""
    inner = text.strip().strip(OUTER)
    ahead = text[: text.find(inner)] if inner else ""
    sign = re.search(r"-?\.?$", ahead) if inner[:1].isdigit() else None
    text = HAN_SPACE.apply((sign[0] if sign else "") + inner)
    return re.sub(r"[、;]", ",", re.sub(r"\s+", " ", text))
