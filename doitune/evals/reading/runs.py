"""Letters that stand together in a reply, where they are options and no part of a word, and what is said
about them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from doitune.evals.reading import sayings
from doitune.evals.reading.patterns import Pattern, Phrase, pattern

EVERY_LETTER = "ABCDEF"

NEAR = 60
"""Characters before and after a letter in which something can be said about it."""

MARK = r"[(\[{【<]?[ \t]*(?:选项|字母|options?[ \t]+|choices?[ \t]+)?[ \t]*"
JOIN = (
    r"(?:[)\]}】>]|选项|项|\.(?![ \t]+[(\[]?[A-F][)\]]?[ \t]+[a-z]{2})"
    r"|;(?!\s*[A-F](?:选?项)?[\u4e00-\u9fff]|[ \t]*[A-F][ \t]+[a-z]{2})"
    r"|,(?![ \t]*[A-F][ \t]+(?!and\b|or\b|are\b)[a-z]{2})|[ \t、/&+|]"
    r"|和|及|与|或者?|(?<!,)还是|跟|加|以及|还有|and\b|or\b)*"
)
TO = r"[ \t]*(?:到|至|~|-|—|－|–)[ \t]*"
RUN = pattern(
    "letters that stand together",
    rf"(?:{MARK}(?<![A-Za-z0-9_])[A-F]+(?![A-Za-z0-9])(?:{TO}[A-F](?![A-Za-z0-9]))?{JOIN})+",
    "选项A和C",
    "Grade3 x_A",
    re.IGNORECASE,
)
RANGE = pattern("first to last", rf"([A-F]){TO}([A-F])", "A到D", "A、D", re.IGNORECASE)
LOOSE_END = pattern(
    "joined to nothing",
    r"(?:[ \t、,;/&.+|]|和|及|与|或者?|还是|跟|加|以及|还有|and|or)+$",
    "A、B和",
    "A、B",
)
SAID_OF_LAST = pattern(
    "something is said of the last letter only",
    r"[,;](?=\s*(?:选项)?[A-F]\s*(?:选?项)?(?![都均皆全两三四项选和与及或等])[\u4e00-\u9fff])",
    "C,A是干扰项",
    "C,A都对",
)
FIRST_WORD = pattern("a word before letters", r"^\s*(?:[a-f]{2,}\s+)+(?=[A-F](?![a-z]))", "be D", "a B")
CLOSER = pattern("joined closer than by a comma", "[A-Fa-f]{2}|、|和|与|及", "AC,B", "A,B")
ALTERNATIVE = pattern(
    "one or the other",
    r"([A-F])[)选项 \t,]{0,6}(?:或者?|还是|\bor\b)[(选项择 \t]{0,6}([A-F])(?![A-Za-z])",
    "选A或者选C",
    "选A和C",
)
JOINING_WORDS = pattern(
    "words between letters", r"options?|choices?|\band\b|\bor\b", "Options A", "ABC", re.IGNORECASE
)
OPTION_WORD = pattern(
    "named an option", r"选项|字母|\b(?:option|choice)s?\b", "option D", "D)", re.IGNORECASE
)
MARKED = pattern("called an option", r"选项|项|字母|[)\]}】>]", "选项A", "A")

HAN = pattern("a Chinese character", r"^[\u4e00-\u9fff]", "对", "A对")
HAN_BEFORE = frozenset("过看选是为项案择答除和与及或了有即母定应到至而非取填先次另")
"""Chinese characters that may stand right before an option's letter."""

HAN_AFTER = Pattern(
    (
        Phrase("a verdict", "[对正错不没符合恰比]|有误|无误|无疑|优于|胜过", "正确", "股票"),
        Phrase("is", "[是为属即同最更]", "是", "有"),
        Phrase("all of them", "[都均皆全也两二三四这]", "都", "一些"),
        Phrase("chosen", "[选当可能要必应才就]|入选|一定|肯定|显然|明显", "入选", "入口"),
        Phrase(
            "an option", r"[项答说]|的?(?:说法|选项|[表叙陈]述|观点)|的(?=[,。;!?\s)]|$)", "的说法", "的股票"
        ),
        Phrase("and", "[和与及或而并]", "和", "还"),
        Phrase("because", "[因所故]", "因为", "由于"),
        Phrase("particles", "[吧啊呢呀哦嘛哈]", "吧", "吗"),
    ),
    before="^",
)
"""What may follow an option's letter without a stop."""

ENGLISH_ARTICLE = pattern(
    "an English A",
    r"^\s+(?!is\b|are\b|and\b|or\b|because\b|since\b|as\b|was\b|seems\b|fits\b|but\b|not\b)[a-z]{2}",
    " good idea",
    " is right",
)
FORMULA_AFTER = pattern("a formula goes on", r"^\s*(?:→|⇒|[-=]>|[=∩∪<>])", " = 1", "、B")
NAMED_BEFORE = pattern("a thing of that name", "(?:方案|图|档案|个案|专项)$", "方案", "答案")
FORMULA_BEFORE = frozenset("∠△⊥∥°")
WORD_AFTER = pattern("a word goes on", r"^(?:[A-Za-z0-9_'+^]|-[A-Za-z0-9])", "-1", "-")
WORD_BEFORE = pattern("an English word before", r"([A-Za-z]{2,})[ \t]*\Z", "Vitamin ", "维生素")
SAYING = frozenset(
    re.findall(
        r"\w+",
        """
        is are be was it its that this answer answers option options choice choose select pick say with and or
        not the therefore so thus hence only both either neither nor but than of to probably likely as for
        because since then final correct right wrong think believe guess ans assistant user letter just must
        should would definitely if by out eliminate exclude excluding except isnt arent wasnt cant never
        clearly obviously maybe perhaps statement statements item ones one means
        """,
    )
)
"""English words that may stand right before an option's letter; behind another word it is a name: "Vitamin
A", "sin A"."""

FILLING = pattern(
    "what joins letters",
    r"选项|项|以及|和|及|与|或|\band\b|\bor\b|\bboth\b|[^A-Za-z0-9\u4e00-\u9fff]",
    "A及B",
    "AB",
    re.IGNORECASE,
)
ONLY_LETTERS = pattern("letters and nothing else", r"^[\sA-Fa-f]*[A-Fa-f]\s*\Z", "A B", "A G")
NO_LIST = pattern(
    "a formula or a foreign sign", r"[=^_@%]|[^\x00-\x7f、。—–…·】【\u4e00-\u9fff]", "A=B", "A、B。"
)
NUMBERED = pattern(
    "a numbered line", r"(?:^|(?<=\s))\(?\d{1,2}[.、)]\s*(?=[A-Fa-f](?![A-Za-z0-9]))", "1. A", "1. Apple"
)

CLAUSE_HEAD = pattern(
    "a letter at the head of a clause",
    r"(?:^|(?<=[,。;:\n]))(?:选项)?([A-F])(?:[、和与]([A-F]))?(?:[、和与]([A-F]))?(?:选?项)?(?=[\u4e00-\u9fff])",
    "A搭配不当",
    "选A",
)
SENTENCE_GOES_ON = pattern("a sentence goes on", r"[\u4e00-\u9fff]|[ \t]+[a-z]{2}", "不对", ". Paris")
OPTION_LINES = pattern(
    "lines about one option after another",
    r"^\W*[A-F][^\nA-F]{3,}\n+\W*[A-F](?![A-Za-z])",
    "A. 北京好\nB. 上海",
    "A\nB",
)
OPTIONS_FOLLOW = pattern(
    "a list of all options begins",
    r"^[(\[]?A[.、:)\]](?!\s*[B-F])[^A-F]{1,40}?[\s;,。、(]B[.、:)\]]",
    "A. 北京\nB. 上海",
    "A. 北京\n因为",
)
CLAUSE = pattern(
    "end of a clause",
    r"[,。;!?()\n]|\.(?=\s+[A-Z][a-z]+:)|(?<=[a-z]{2})\.(?=\s)|但是?|而(?!且)|然而",
    "A对而B错",
    "A对而且好",
)


@dataclass(frozen=True)
class Run:
    """Letters that stand together: which, where, and what is said about them."""

    letters: tuple[str, ...]
    start: int
    end: int
    chosen: bool
    negated: bool
    right: bool
    conceded: bool
    blamed: bool


@lru_cache(maxsize=16)
def runs(text: str) -> tuple[Run, ...]:
    """Every run of letters in a cleaned text, those inside words left out."""
    found = []
    for start, end in _spans(text):
        letters = letters_of(text[start:end])
        restated = OPTIONS_FOLLOW.regex.match(text[start : start + NEAR])
        chosen = not restated and bool(sayings.CHOICE.regex.search(_lead(text, start, end)))
        if letters and _stands_alone(text, start, end, chosen):
            found.append(_judged(text, letters, start, end, chosen))
    return tuple(found)


def _judged(text: str, letters: tuple[str, ...], start: int, end: int, chosen: bool) -> Run:
    """A run with what is said about it within NEAR characters."""
    ahead = text[max(0, start - NEAR) : start]
    after = sayings.NO_ERROR.regex.sub("正确", text[end : end + NEAR])
    before, clause = CLAUSE.regex.split(ahead)[-1], CLAUSE.regex.split(after)[0]
    wrong_after = sayings.WRONG_RIGHT_AFTER if chosen else sayings.WRONG_AFTER
    negated = (
        sayings.NOT_BEFORE.regex.search(before)
        or wrong_after.regex.search(clause)
        or sayings.WRONG_APART.regex.search(after)
        or sayings.DOUBTED.regex.search(after)
        or (not chosen and sayings.RIGHT_BUT.regex.match(after))
    )
    right = sayings.RIGHT_AFTER.regex.search(after) or sayings.RIGHT_APART.regex.match(after)
    conceded = (
        sayings.CONCEDED.regex.search(ahead)
        or sayings.SUPPOSED.regex.search(ahead)
        or sayings.ASKED.regex.match(after)
    )
    blamed = sayings.BLAMED.regex.search(before)
    return Run(letters, start, end, chosen, bool(negated), bool(right), bool(conceded), bool(blamed))


def good(found: Sequence[Run]) -> list[Run]:
    """The runs that are not negated; of those, the ones that are not merely conceded, where there are any."""
    left = [run for run in found if not run.negated]
    return [run for run in left if not run.conceded] or left


def leads(text: str, run: Run) -> bool:
    """Whether a run starts the text and an end or a mark follows, not more of a sentence."""
    following = text[run.end : run.end + 1]
    return run.start <= 1 and (not HAN.regex.match(following) or text[run.end - 1] in "项)]】")


def _lead(text: str, start: int, end: int) -> str:
    """What stands before a run on its line, or, where that is empty, on the last line that holds anything."""
    ahead = text[max(0, start - NEAR) : start]
    lines = ahead.split("\n")
    if lines[-1].strip():
        return lines[-1]
    if SENTENCE_GOES_ON.regex.match(text, end) or OPTION_LINES.regex.match(text[start : start + 3 * NEAR]):
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where runs start and end, loose joining marks behind them left out. "AC,B" is two runs: the comma
    parts what stands closer."""
    for match in RUN.regex.finditer(text):
        at = match.start()
        for piece in _pieces(text, match):
            bare = LOOSE_END.regex.sub("", piece)
            if bare.strip():
                word = FIRST_WORD.regex.match(bare)
                yield at + (word.end() if word else len(bare) - len(bare.lstrip())), at + len(bare)
            at += len(piece)


def _pieces(text: str, match: re.Match[str]) -> list[str]:
    """The parts of one match that are runs of their own, with what stands between them."""
    joined = match[0]
    if CLOSER.regex.search(joined):
        return re.split("([,;])", joined)
    apart = SAID_OF_LAST.regex.search(joined + text[match.end() : match.end() + 8], 1)
    lead = _lead(text, match.start(), match.end())
    said = sayings.CHOICE.regex.search(lead) or sayings.NOT_BEFORE.regex.search(lead)
    if said and apart and apart.start() < len(joined):
        return [joined[: apart.start()], joined[apart.start()], joined[apart.start() + 1 :]]
    return [joined]


def letters_of(span: str) -> tuple[str, ...]:
    """Distinct letters of a run in order, ranges filled: A-C is A, B, C. Empty where a "letter" is part of
    a word."""
    bare = JOINING_WORDS.regex.sub(" ", span)
    bare = RANGE.regex.sub(lambda found: _between(found[1].upper(), found[2].upper()), bare)
    words = re.findall("[A-Za-z]+", bare)
    if any(word.isupper() for word in words):
        words = [word for word in words if not word.islower()]  # "be D" is D
    if any(not set(word.upper()) <= set(EVERY_LETTER) for word in words):
        return ()
    return tuple(dict.fromkeys("".join(words).upper()))


def _between(first: str, last: str) -> str:
    """The letters from one to the other, a space between them."""
    low, high = sorted((first, last))
    return " ".join(letter for letter in EVERY_LETTER if low <= letter <= high)


@lru_cache(maxsize=16)
def _surveyed(text: str) -> bool:
    """Whether clauses start with three letters or more, each with something said about it."""
    return len({letter for found in CLAUSE_HEAD.regex.findall(text) for letter in found if letter > " "}) >= 3


def _stands_alone(text: str, start: int, end: int, chosen: bool) -> bool:
    """Whether no word goes on at either edge of a run; an explicit choice may be followed by any Chinese
    character."""
    span, after = text[start:end], text[end : end + NEAR]
    previous = text[start - 1 : start] if start else ""
    if WORD_AFTER.regex.match(after) and span[-1].isalnum():
        return False
    if FORMULA_AFTER.regex.match(after) or previous in FORMULA_BEFORE:
        return False
    if NAMED_BEFORE.regex.search(text[max(0, start - 2) : start]):
        return False
    if chosen:
        return True
    if OPTION_WORD.regex.search(span):
        return True
    word = WORD_BEFORE.regex.search(text[max(0, start - NEAR) : start])
    if span.islower() or (word and word[1].lower() not in SAYING):
        return False
    if span == "A" and ENGLISH_ARTICLE.regex.match(after):
        return False
    if MARKED.regex.search(span):
        return True
    if HAN.regex.match(after) and not HAN_AFTER.regex.match(after):
        return (not previous or previous in ",。;:\n") and _surveyed(text)
    return bool(
        sayings.RIGHT_AFTER.regex.match(sayings.NO_ERROR.regex.sub("正确", after))
        or not HAN.regex.match(previous)
        or previous in HAN_BEFORE
    )


def letters_only(text: str) -> tuple[str, ...]:
    """The letters of a text that holds nothing else but joining marks; empty otherwise. `a` counts like
    `A`."""
    text = NUMBERED.regex.sub(" ", text)
    rest = FILLING.regex.sub(" ", text)
    if not ONLY_LETTERS.regex.match(RANGE.regex.sub(r"\1 \2", rest)) or NO_LIST.regex.search(text):
        return ()
    bare = re.sub(r"(?i)选项|\b(?:both|and|or)\b", " ", text)
    return letters_of(bare) if not (re.search("[a-f]", bare) and re.search("[A-F]", bare)) else ()
