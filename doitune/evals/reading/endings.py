"""How a worked solution ends: roots thrown away, the same amount in another unit, several values, no value at
all, a value in words."""

from __future__ import annotations

from doitune.evals.reading.equality import is_math
from doitune.evals.reading.numerals import LARGE_WORDS, WORDS, arabic, english
from doitune.evals.reading.patterns import Rewrite, pattern

SAYS_SOMETHING = pattern("a letter, a digit or a formula", r"[^\W_]|[\\$√]", "5", "：**")
GIVES_UP = pattern(
    "no answer is given",
    r"(?:无法|不能|难以|没法|没有?办法)(?:准确|唯一|进一步|继续|为您?)?(?:求出?|求解|确定|计算|得[出到]|算出|解答|给出|回答|作答|判断)"
    r"|(?i:cannot|can't|unable to|not able to)\s+(?:be\s+)?(?:determin|answer|comput|find|solve)",
    "无法求出甲的年龄",
    "不能用5除",
)
FOUND_YET = pattern(
    "found all the same",
    r"所以|因此|故|答|解得|可得|\\boxed|####|(?i:\bso\b|therefore|thus|hence|answer)",
    "所以是5",
    "设为5",
)
DISCARDED = Rewrite(
    "a root that is thrown away",
    r"(?:[,，、;；]\s*|或者?\s*|和\s*|\bor\s+|\band\s+)?"
    r"(?:\$[^$\n]{1,40}\$|\\\([^\n]{1,40}?\\\)|[a-z](?:_?\{?\d\}?)?\s*=\s*[-−]?[\d./√\\a-z{}]{1,20}"
    r"|(?<![\w.])[-−]?\d{1,12}(?:\.\d{1,12})?)"
    r"\s*(?:[(（,，]\s*)?(?:是|为)?(?:增根|不合题意|不符合?题意|负值|应?舍(?!弃?后)|reject|discard|extraneous)"
    r"[^,，。;；\n)）]{0,12}[)）]?",
    "",
    "x=3或x=-5（舍去）",
    "x=3",
    "x=3舍弃后",
)
LEFT_OVER = Rewrite(
    "what is left over, at the end",
    r"[,，]\s*(?:[此这]时[^,，。;；\n]{1,30}|\bwith\s+[^,.;\n]{1,30}\b(?:left|remaining|over))(?=[。.]?\s*\Z)",
    "",
    "最多买 15 本，此时还剩 2 元。",
    "最多买 15 本。",
    "买15本，还剩2元",
)
ATTAINED = Rewrite(
    "where an extreme value is attained, at the end",
    r"([最极][大小高低](?:值|[^\W\d]{1,4}(?=[是为]))(?:[是为:：=]|等于|\s*[-−$\d])[^。\n]{0,40}?)[,，(（]\s*当(?:且仅当)?[^。\n当]{1,30}时\s*[,，]?"
    r"(?:取[得到]?|等?号?成立)[^,，。;；\n\dA-Za-z$\\]{0,6}(?=[。.]?\s*\Z)",
    r"\1",
    "最小值为 $-5$，当 $x=2$ 时取得。",
    "最小值为 $-5$。",
    "有最小值，当 $x=2$ 时取得最小值 $-5$。",
)
ASKED_AND_DENIED = Rewrite(
    "a value asked for and denied",
    r"(?:^|(?<=[\s。，,]))(?:答案|结果|答)?[是为]?\s*(?:is it\s*)?\$?[-−]?\d[\d.,/]{0,12}\$?"
    r"\s*吗?\s*[?？]\s*(?:不[是对]?|错|[Nn]o)(?=[,，。.!])",
    "",
    "答案是 8 吗？不，应该是 9。",
    "，应该是 9。",
    "是8吗？是。",
)
MISTAKEN = Rewrite(
    "what some get by mistake, at the end",
    r"(?<=[。\n；;.])\s*(?:(?:有些?的?|很多|不少|许多)(?:同学|学生|人)[^。\n]{0,30}|(?:如果|若|假如)[^。\n]{0,24}(?:错|误|不对)[^。\n]{0,6}"
    r"|[-−]?\d[\d.]{0,9}\s*[^\W\d]{0,2}只?是中间[^。\n]{0,8}|(?:One|Some|Many|You|Students)\b[^.\n]{0,24}\b(?:think|get|guess)\b[^.\n]{0,30})[。.]?\s*\Z",
    "",
    "得 36。有同学算成 15。",
    "得 36。",
    "有同学 15 人。",
)
COMPARED = Rewrite(
    "how it compares, behind an answer",
    r"(答\s*[:：][^\d\n]{0,20}\d[^,，。\n]{0,8})[,，]比[^,，。\n]{1,16}(?=[。.]?\s*\Z)",
    r"\1",
    "答：看了 45 页，比昨天多 5 页。",
    "答：看了 45 页。",
    "答：甲比乙多 5 页。",
)
NO_SOLUTION = pattern(
    "no solution, at the end",
    r"(?:无|没有)(?:实数)?(?:解|根)[。.!！*\s]*\Z|no (?:real )?(?:solutions?|roots?)[.!*\s]*\Z",
    "方程无解。",
    "无解的方程是5",
)
SOLUTIONS = pattern(
    "several equations or numbers, at the end",
    r"(?<![\w.$/+*^-])((?:[a-z](?:_?\d)?\s*=\s*)?[-−]?\d+(?:[./]\d+)?(?:\s*(?:,|，|、|,?\s*\band\b|,?\s*\bor\b|或者?|和)\s*"
    r"(?:[a-z](?:_?\d)?\s*=\s*)?[-−]?\d+(?:[./]\d+)?){1,5})[。.!*\s]*\Z",
    "x = -1 and x = 5.",
    "x = 5.",
)
EQUATION = pattern(
    "an equation is asked for",
    r"方程(?![^,，。;；\n$]*[解根])[^,，。;；\n$]{0,8}(?:是|为|[:：])[\s$]*\Z",
    "圆的方程是 $",
    "方程的解为",
)
VALUE_OF = pattern(
    "the value of one letter", r"^\s*([a-z])\s*=\s*[-−]?[\d./\\{}a-z]+\s*\Z", "x = 120", "0.8x = 96"
)
ABOUT = pattern("about", r"\s*(?:\\approx(?![a-zA-Z])|≈)\s*", r"10\pi\approx 31.4", "31.4")
FORMULA_IS = pattern(
    "a formula in another unit",
    r"\$([^$\n]{1,40})\$\s*[^\W\d]{0,5}\s*[(（,，]?\s*(?:即|也就是|合|约合|折合)\s*(\d+(?:\.\d+)?)",
    "$\\frac{5}{4}$ 小时，即 75 分钟",
    "$5$，75",
)
THAT_IS = pattern(
    "an amount in another unit",
    r"(?<![\w.,/])((?:\d+\s*[^\W\d]{1,5}\s*)?[-−]?\d+(?:[./]\d+)?)\s*[^\W\d]{1,5}\s*[(（,，]?\s*"
    r"(?:即|也就是|合|约合|折合|相当于|i\.e\.,?|or|which is)\s*(\d+(?:\.\d+)?)\s*[^\W\d]{1,5}",
    "2.5小时（即150分钟）",
    "5，即5",
)
NUMERAL = pattern(
    "a numeral in Chinese characters",
    "百分之[零一二两三四五六七八九十百点]+|(?<!百)[零一二两三四五六七八九十百千万亿]+分之[一二三四五六七八九十百]+"
    "|(?<!第)负?[零一二两三四五六七八九十百千亿][零一二两三四五六七八九十百千万亿点]+(?![分足全])"
    "|(?<!第)[二两三四五六七八九十](?=[个只人元块米岁度天年名条本张份件箱页支辆棵枝把台间位次种组盒瓶包袋双对层排行列])",
    "二百零六块",
    "这是一个",
)
MARK = pattern(
    "mark of a part", r"(?:^|(?<=[\s;；,，。:：]))(?:[(（](?:[1-6a-f])[)）]|[①-⑥])", "(1) 5", "f(1)"
)
ENGLISH_NUMERAL = pattern(
    "a number in English words",
    rf"(?i:\b(?!one\b)(?:(?:{'|'.join((*WORDS, *LARGE_WORDS, 'hundred'))})\b(?:[\s-]+(?:and\s+)?)?){{1,8}})",
    "twenty-four",
    "someone",
)
PAIR = pattern(
    "two things and the value of each",
    r"[^\W\d]{1,8}[是为:：有]\s*\$([^$\n]{1,40})\$\s*[^\W\d]{0,3}[,，;；]\s*[^\W\d]{1,8}[是为:：有]\s*\$([^$\n]{1,40})\$[^\W\d]{0,3}[。.]?\s*\Z",
    "圆心为$(2,-1)$，半径为$3$。",
    "半径为$3$",
)


def without_asides(text: str) -> str:
    """The text without roots that it throws away, and without what is left over when the answer is taken."""
    for aside in (DISCARDED, LEFT_OVER, ATTAINED, ASKED_AND_DENIED, MISTAKEN, COMPARED):
        text = aside.apply(text)
    return text


def is_equation(reply: str, found: str) -> bool:
    """Whether the reply says that what was found is an equation that it was to find, and no value."""
    at = reply.rfind(found)
    return "=" in found and at >= 0 and bool(EQUATION.regex.search(reply[max(0, at - 40) : at]))


def also(reply: str, found: str) -> list[str]:
    """What the reply says is the same as `found`: a value and what it is about, an amount in another unit."""
    parts = ABOUT.regex.split(found)
    last = next((line for line in reversed(reply.splitlines()) if SAYS_SOMETHING.regex.search(line)), "")
    amounts = FORMULA_IS.regex.search(last) or THAT_IS.regex.search(last)
    same = list(amounts.groups()) if amounts else []
    steps = found.split(", ")
    if len(steps) > 1 and (name := VALUE_OF.regex.match(steps[-1])):
        solved = all(name[1] in step and not VALUE_OF.regex.match(step) for step in steps[:-1])
        same += steps[-1:] if solved else []
    pair = PAIR.regex.search(last)
    several = [f"{pair[1]}, {pair[2]}"] if pair and pair[2].strip() == found else []
    return (
        several
        + (parts if len(parts) == 2 else [])
        + (same if any(found.startswith(one) or found.endswith(one) for one in same) else [])
    )


def numbered(reply: str) -> str | None:
    """The values of a reply that only answers numbered questions; None of any other reply."""
    lead, *parts = MARK.regex.split(reply)
    values = [part.strip(" \n\t;；,，。.") for part in parts]
    if len(values) < 2 or lead.strip(" \n\t:：*") not in ("", "答", "答案", "Answer", "Answers"):
        return None
    return ", ".join(values) if all(is_math(value) for value in values) else None


def in_words(text: str) -> str | None:
    """The last number in words, in digits; None without one."""
    if words := NUMERAL.regex.findall(text):
        return arabic(words[-1])
    found = [english(one) for one in ENGLISH_NUMERAL.regex.findall(text)]
    return found[-1] if found else None
