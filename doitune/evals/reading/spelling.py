"""Mathematical answers in one spelling: half-width, LaTeX symbols, no layout commands."""

from __future__ import annotations

import re
import unicodedata

from doitune.evals.reading.numerals import arabic
from doitune.evals.reading.patterns import Rewrite
from doitune.evals.reading.units import WORDS

FOLDED = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | {"、": ",", "∶": ":", "−": "-", "–": "-", "—": "-", "﹣": "-", "　": " ", "\u00a0": " "}
)
"""Full-width characters and look-alikes -> ASCII."""

SYMBOLS = {
    "×": "\\times ",
    "·": "\\cdot ",
    "⋅": "\\cdot ",
    "÷": "/",
    "π": "\\pi ",
    "∞": "\\infty ",
    "±": "\\pm ",
    "≤": "\\le ",
    "≥": "\\ge ",
    "≠": "\\ne ",
    "∪": "\\cup ",
    "∅": "\\emptyset ",
    "∈": "\\in ",
    "θ": "\\theta ",
    "α": "\\alpha ",
    "β": "\\beta ",
    "√": "\\sqrt ",
    "²": "^2",
    "³": "^3",
    "°": "^\\circ ",
} | {
    one: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", one).split("\u2044"))
    for one in "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
}
ALIASES = {
    "\\leq": "\\le",
    "\\leqslant": "\\le",
    "\\geqslant": "\\ge",
    "\\geq": "\\ge",
    "\\neq": "\\ne",
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    "\\varnothing": "\\emptyset",
}
COMMA, ROW = "\u2063", "\u2064"
"""What stands for the comma of {,} and for a matrix's \\\\ while layout is taken out."""

LARGE = {
    "百万": 6,
    "千万": 7,
    "万": 4,
    "亿": 8,
    "万亿": 12,
    "thousand": 3,
    "million": 6,
    "billion": 9,
    "trillion": 12,
}
"""Powers of ten that stand behind a number as words."""


def _multiplied(found: re.Match[str]) -> str:
    """3.2 and 亿 as 320000000; kept where a fraction would be left over."""
    whole, _, part = found[1].replace(",", "").partition(".")
    zeros = LARGE[found[2].lower()] - len(part)
    return str(int(whole + part) * 10**zeros) if zeros >= 0 and len(whole) < 20 else found[0]


TENS = {"百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
PARTS = {"小时": ("分", 60), "hour": ("m", 60), "米": ("厘", 100), "千克": ("克", 1000)}
PARTS |= {"千米": ("米", 1000), "吨": ("千克", 1000), "分": ("秒", 60)}
"""How many of which smaller unit a unit has."""


def _in_one_unit(found: re.Match[str]) -> str:
    """4 hours and 30 minutes as (4+30/60) hours; kept where one unit is no part of the other."""
    unit = found[2].removesuffix("s").removesuffix("钟")
    part, many = PARTS[unit]
    return f"({found[1]}+{found[3]}/{many}){unit}" if found[4].startswith(part) else found[0]


REWRITES = (
    Rewrite(
        "words for and and or",
        r"\\(?:text|mathrm|mbox|textrm)\s*\{\s*(或者?|和|以及|or|and)\s*\}|\\(?:lor|vee)(?![a-zA-Z])",
        lambda found: f" {found[1] or 'or'} ",
        r"x<1\text{ 或 }x>3",
        "x<1 或 x>3",
        r"\text{或许}",
    ),
    Rewrite(
        "it follows",
        r"^\s*\\(?:therefore|because|implies|Rightarrow|Longrightarrow)(?![a-zA-Z])\s*|^\s*[∴∵⇒]\s*",
        "",
        r"\therefore x=2",
        "x=2",
        r"\theta=2",
    ),
    Rewrite(
        "about",
        r"^\s*(?:大?约为?|大概|≈|\\approx(?![a-zA-Z]))\s*(?=[-\d\\¥￥$])",
        "",
        "约18",
        "18",
        "约数",
    ),
    Rewrite(
        "a number and its unit as text",
        r"\\(?:text|mathrm|mbox|textrm)\s*\{\s*(-?\d[^{}]*)\}",
        r"\1",
        r"\text{18 dollars}",
        "18 dollars",
        r"18\text{ dollars}",
    ),
    Rewrite(
        "name of a set",
        r"^\s*(?:\\complement_\{?[A-Z]\}?\s*)?\(?[A-Z](?:\s*(?:\\c[au]p(?![a-z])|[∩∪])\s*\(?(?:\\complement_\{?[A-Z]\}?\s*)?[A-Z]\)?)*\s*=\s*(?=\\?\{|[(\[]|\\left)",
        "",
        r"A\cap B=\{1,2\}",
        r"\{1,2\}",
        "x=(1,2)",
    ),
    Rewrite(
        "set of all x with a property",
        r"^\\?\{\s*([a-z])\s*(?:\\mid(?![a-z])|\||∣|:)\s*([^{}|]*?)\s*\\?\}$",
        r"\2",
        r"\{x\mid x>1\}",
        "x>1",
        r"\{1,2\}",
    ),
    Rewrite(
        "large numbers in two words",
        r"(?<![\d.])(\d{1,9})\s*([千万亿])\s*(\d{1,4})\s*([百千万])(?!分|[克米瓦卡])",
        lambda found: str(int(found[1]) * TENS[found[2]] + int(found[3]) * TENS[found[4]]),
        "3 万 5 千人",
        "35000人",
        "3千",
    ),
    Rewrite(
        "large numbers in words",
        r"(?<![\d.])(\d+(?:,\d{3})*(?:\.\d+)?)\s*(万亿|百万|千万|万|亿|(?i:thousand|million|billion|trillion)(?![a-z]))",
        _multiplied,
        "3.2 亿元",
        "320000000元",
        "万元",
    ),
    Rewrite(
        "yuan and jiao",
        r"(\d+)\s*[元块]\s*(\d)\s*[角毛](?:\s*(\d)\s*分)?(?!\d)钱?",
        lambda found: f"{found[1]}.{found[2]}{found[3] or ''}元",
        "2元5角",
        "2.5元",
        "5角",
    ),
    Rewrite(
        "an amount in two units",
        r"(\d{1,9})\s*(小时|米|千克|千米|吨|分钟?|hours?)\s*(?:and\s+|零)?(\d{1,9}(?:\.\d+)?)\s*(分钟?|厘米|克|米|千克|秒|minutes?)(?!\w)",
        _in_one_unit,
        "4 小时 30 分钟",
        "(4+30/60)小时",
        "4小时3千克",
    ),
    Rewrite("range", r"(?<=\d)\s*[~～至到]\s*(?=\d)", "-", "10~15", "10-15", "1~m"),
    Rewrite(
        "without a solution",
        r"^(?:(?:原|该|此|这个|所给)?(?:方程组?|不等式组?)|本题)?(?:无|没有)(?:实数)?解|^no solutions?$",
        "无解",
        "原方程没有解",
        "无解",
        "有解",
    ),
    Rewrite(
        "any number of solutions",
        r"^(?:(?:原|该|此|这个)?(?:方程组?|不等式组?))?有?无[数穷]多?[个组]?(?:实数)?解$",
        "无数个解",
        "方程有无穷多解",
        "无数个解",
        "有解",
    ),
    Rewrite("mixed number in words", r"(\d)\s*又\s*(?=\d|\\)", r"\1 ", "1又1/2", "1 1/2", "1又半"),
    Rewrite("root of a number", r"(?:√|根号)\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}", "2根号3", r"2\sqrt{3}", "√x"),
    Rewrite("minus in words", r"^负\s*(?=[\d\\(.])", "-", "负 5", "-5", "负数"),
    Rewrite(
        "power of ten", r"^(-?\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})$", r"\1*10^{\2}", "1.5e3", "1.5*10^{3}", "2e"
    ),
    Rewrite(
        "raised digits",
        "[⁻]?[⁰¹²³⁴-⁹]{2,}|⁻[⁰¹²³⁴-⁹]|[⁰¹⁴-⁹]",
        lambda found: f"^{{{unicodedata.normalize('NFKC', found[0]).replace('−', '-')}}}",
        "10⁻²³",
        "10^{-23}",
        "x²",
    ),
    Rewrite(
        "symbols",
        "[" + "".join(SYMBOLS) + "]",
        lambda found: SYMBOLS[found[0]],
        "x≤½",
        r"x\le \frac{1}{2}",
        "x<1",
    ),
    Rewrite("comma in braces", r"\{,\}", COMMA, "1{,}000", f"1{COMMA}000", "{1,000}"),
    Rewrite(
        "equations under one another",
        r"\\begin\{(cases|aligned|array)\}(?:\{[lcr|]*\})?((?:(?!\\begin).)*?)(?:\\\\|,)?\s*\\end\{\1\}(?:\s*\\right\s*\.)?",
        lambda found: re.sub(r"\s*,?\s*\\\\\s*", ", ", found[2].replace("&", "")).strip(),
        r"\begin{cases} x = 3 \\ y = 1 \end{cases}",
        "x = 3, y = 1",
        r"\begin{matrix} 1 \\ 2 \end{matrix}",
    ),
    Rewrite("row of a matrix", r"\\\\", ROW, r"1\\2", f"1{ROW}2", r"\pi"),
    Rewrite("edges of a formula", r"\\[()\[\]]", " ", r"\(5\)", " 5 ", "(5)"),
    Rewrite("spaces", r"~|\\ |\\q?quad(?![a-zA-Z])", " ", r"1~m\quad", "1 m ", r"\quads"),
    Rewrite(
        "layout",
        r"\\(?:left|right|displaystyle|limits|big|Big|bigg|Bigg)(?![a-zA-Z])|\\[!,;:]|\$|\*\*|\\(?=\$)",
        "",
        r"**$\left(1\right)$**",
        "(1)",
        r"\leftarrow",
    ),
    Rewrite("comma of thousands", rf"(\d){COMMA}(?=\d)", r"\1", f"1{COMMA}000", "1000", f"a{COMMA}b"),
    Rewrite("comma again", COMMA, ",", f"a{COMMA}b", "a,b", "ab"),
    Rewrite("row again", ROW, r"\\\\", f"1{ROW}2", r"1\\2", "12"),
    Rewrite(
        "commands",
        r"\\[a-zA-Z]+",
        lambda found: ALIASES.get(found[0], found[0]),
        r"x\leq\dfrac12",
        r"x\le\frac12",
        "leq",
    ),
    Rewrite(
        "bare names",
        r"(?<![\\a-zA-Z])(sqrt|pi|sin|cos|tan|log|ln|infty)(?![a-zA-Z])",
        r"\\\1",
        "sqrt(2)pi",
        r"\sqrt(2)\pi",
        "pie",
    ),
    Rewrite(
        "unit in brackets",
        rf"(?<=[\d}}])\s*\(({WORDS}|[\u4e00-\u9fff]{{1,4}})\)$",
        r"\1",
        "5 (cm)",
        "5cm",
        "5(x)",
    ),
    Rewrite("base of a numeral", r"^\((\d+)\)(?=_)", r"\1", "(101)_2", "101_2", "(101)"),
    Rewrite(
        "name of a point",
        r"^(?:点|坐标)?[ABD-Z]?\s*(?=\([^()]*,[^()]*\)$)",
        "",
        "点P(2,3)",
        "(2,3)",
        "C(2,3)",
    ),
    Rewrite(
        "what stands before a value",
        r"^\s*(?:[¥￥€£]\s*|[a-zA-Z]\s*\\in(?![a-zA-Z])\s*)",
        "",
        r"x\in(1,2)",
        "(1,2)",
        r"x\infty",
    ),
    Rewrite(
        "root with round brackets",
        r"\\sqrt\s*\(([^()]*)\)",
        r"\\sqrt{\1}",
        r"\sqrt(2)",
        r"\sqrt{2}",
        r"\sqrt2",
    ),
)
"""In this order."""


def tidy(text: str) -> str:
    """The text in one spelling, without a stop at its end; the ! behind a number is a factorial and stays."""
    text = arabic(text.translate(FOLDED).strip())
    for rewrite in REWRITES:
        text = rewrite.apply(text)
    text = text.strip()
    return text.rstrip("。.," if re.search(r"\d!$", text) else "。.,!").strip()
