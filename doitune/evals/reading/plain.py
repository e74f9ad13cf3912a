"""A reply as plain text: half-width, without special tokens, LaTeX wrappers, quotes and Markdown."""

from __future__ import annotations

import re
import unicodedata

from doitune.evals.reading.patterns import Pattern, Phrase, pattern

FOLDED = str.maketrans("選對錯誤確應項為這說題無沒АВСЕΑΒΕ🅰🅱", "选对错误确应项为这说题无没ABCEABEAB")
"""Traditional characters of the words that matter here, and letters of other scripts that look like
options."""

SPECIAL_TOKEN = Pattern(
    (
        Phrase("angle brackets", r"</?(?:[a-z]|[A-Za-z_]{2,20})>", "A<eot>", "<A>"),
        Phrase("angle brackets and bars", r"<\|[^|>]{1,30}\|>", "A<|im_end|>", "x<|y|"),
        Phrase("square brackets", r"\[/?INST\]", "[/INST]A", "[A]"),
    )
)
LATEX_TEXT = pattern(
    "text in LaTeX",
    r"\\(?:text|textbf|mathrm|mathbf|boxed|fbox|mbox)\s*\{([^{}]*)\}",
    r"\boxed{A}",
    r"\sqrt{A}",
)
QUOTES = Pattern(
    (
        Phrase("quotes and Markdown", r"[\"'“”‘’「」『』`*$#]", "**A**", "A、B"),
        Phrase("edges of a formula", r"\\[()\[\]]", r"\(A\)", "(A)"),
        Phrase("underscores", r"_{2,}|(?<=[ _])_|_(?=[ _])", "__A__", "A_1"),
    )
)
ASIDE = pattern(
    "other letters in brackets",
    r"(?<=[A-Fa-f])\s*\((?=\s*[A-F]\s*[、,和与]\s*[A-F]|\s*[A-F]项?[^()\n]{0,30}?[\u4e00-\u9fff])",
    "AC(B错误)",
    "A(B)",
)
BOX = pattern("a box", r"\\(?:boxed|fbox)\s*\{", r"\boxed{A}", r"\text{A}")
GAP = pattern("long gap", r"(?<!\s)\s{4,}", "A    B", "A B")
THOUGHTS = "think(?:ing)?|thought|reasoning"
THOUGHT_END = pattern(
    "end of what was only thought", rf"</(?:{THOUGHTS})>", "A</think>B", "<think>A", re.IGNORECASE
)
THOUGHT_START = pattern(
    "start of what is only thought", rf"<(?:{THOUGHTS})>", "<think>A", "</think>", re.IGNORECASE
)
CIRCLED = pattern("circled number", "[①-⑳]", "①A", "1A")


def without_thoughts(text: str) -> str:
    """What a reply says after it has thought; nothing where its thinking never ends."""
    said = THOUGHT_END.regex.split(text)[-1]
    return THOUGHT_START.regex.split(said)[0]


NO_ANSWER_IN = (
    r"(?![^\n]*(?:答案|[选填错\d“\"$]|正确|\\\\|(?<![A-Za-z])[A-F](?![A-Za-z])"
    r"|(?i:\b(?:true|false|answer|correct)\b)))"
)
GREETING = pattern(
    "a line that only greets or announces",
    r"\A\s*(?=好的|当然|[您你]好|嗯|让我|我来|我们来|下面"
    r"|(?i:sure|certainly|of course|okay|let me|lets|let's|great))"
    rf"{NO_ANSWER_IN}[^\n]{{0,80}}\n+(?=[^\n]*\S)",
    "好的，我们来分析。\nB",
    "好的，选B。\nB",
)
FAREWELL = pattern(
    "a last line that only takes leave",
    r"(?:(?<=\n)|(?<=[。！!.]))\s*(?=希望|如[果有需您你]|欢迎|祝[您你]|加油"
    rf"|(?i:i hope|hope|please|let me know|feel free|if you)){NO_ANSWER_IN}[^\n]{{0,100}}\s*\Z",
    "B\n希望对你有帮助！",
    "B\n如果改题目，则选A。",
)
QUOTED_LINE = pattern("mark of a quoted line", r"^[ \t]*>[ \t]+", "> B", "x > 3", flags=re.MULTILINE)
ALL_BOLD = pattern("bold from end to end", r"\A\s*\*\*([^*]+)\*\*\s*\Z", "**B，因为**", "**B**，**C**")


def without_courtesy(text: str) -> str:
    """A reply without special tokens, marks of quoted lines and bold around the whole, and without lines
    that only greet or take leave."""
    text = QUOTED_LINE.regex.sub("", SPECIAL_TOKEN.regex.sub(" ", text))
    text = FAREWELL.regex.sub("", GREETING.regex.sub("", text, count=1))
    return ALL_BOLD.regex.sub(r"\1", text)


def clean(text: str) -> str:
    """Full-width folded (NFKC), special tokens, LaTeX wrappers, quotes and Markdown taken off; lines kept."""
    text = SPECIAL_TOKEN.regex.sub(" ", text).translate(FOLDED)
    text = unicodedata.normalize("NFKC", CIRCLED.regex.sub(" ", text))
    text = BOX.regex.sub(r"答案:\\text{", text)
    for _ in range(3):
        text = LATEX_TEXT.regex.sub(r" \1 ", text)
    text = QUOTES.regex.sub("", ASIDE.regex.sub("; ", text)).replace("\\", " ")
    return re.sub(r"[ \t]+", " ", text).strip()
