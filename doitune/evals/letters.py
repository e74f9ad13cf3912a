"""Reading chosen letters out of a reply: one letter, or a set of them.

Order of evidence: a reply of letters alone; an explicit choice ("答案是B", "故选 D", "Answer: C"), the last one that is not negated; a clause that
calls letters right; letters at the start; letters that stand alone. Letters inside words ("DNA", "CO2") are none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_OPTIONS = ("A", "B", "C", "D")
EVERY_LETTER = "ABCDEF"

SPECIAL_TOKEN = re.compile(r"</?[A-Za-z_]{1,20}>|<\|[^|>]{1,30}\|>|\[/?INST\]")
LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed|fbox|mbox)\s*\{([^{}]*)\}")
QUOTES = re.compile(r"[\"'“”‘’「」『』`*$#]|\\[()\[\]]")

EDGE_BEFORE, EDGE_AFTER = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_'+\-]|\s+[a-z]{2})"
MARK = r"[(\[{【<]?[ \t]*(?:选项|option[ \t]+|choice[ \t]+)?[ \t]*"
JOIN = r"(?:[)\]}】>]|选项|项|[ \t、,;/&.+|]|和|及|与|或|跟|以及|还有|and|or)*"
LETTER = r"[A-F]"
RUN = re.compile(rf"{EDGE_BEFORE}(?:{MARK}{LETTER}+(?:\s*(?:到|至|~|-|—|－)\s*{LETTER}(?![A-Za-z0-9]))?{JOIN})+", re.IGNORECASE)
RANGE = re.compile(rf"({LETTER})\s*(?:到|至|~|-|—|－)\s*({LETTER})", re.IGNORECASE)

CHOICE = re.compile(
    r"(?:(?:正确|最终|参考|本题|标准)?(?:答案|选项|选择)(?:应该|应|就)?(?:是|为|选|:)+|答案|故选|应选|当选(?:是|为)|选择|选|答|我选"
    r"|正确的?(?:选项|说法|做法|一项)?(?:是|为|有|包括)|应该?(?:是|为)|(?:综上|因此|所以|故|总之)"
    r"|answers?\s*(?:is|are|:)?|(?:correct|right)\s+(?:option|choice|one)s?\s*(?:is|are|:)?|(?:choose|pick|select)|options?\s+(?:is|are))"
    r"[\s:,]*(?:应该|应|就|选择?|是|为|项|选项|the|option|choice)*[\s:,]*$",
    re.IGNORECASE,
)
"""What stands right before a run of letters that is an explicit choice."""

NOT_BEFORE = re.compile(r"(?:不|别|勿|排除|非|除|并非|不是|不能|不应|不可|没有|而不|not|n't|never|exclude|except)[^,。;!?\n]{0,6}$", re.IGNORECASE)
WRONG_AFTER = re.compile(
    r"^\s*[^,。;!?\n]{0,24}?(?:不(?:正确|对|符|选|当选|能选|应选|恰当|合|是|成立|准确|属于|可)|错|误|排除|以?外|incorrect|wrong|false|not\b)", re.IGNORECASE
)
RIGHT_AFTER = re.compile(
    r"^\s*(?:都|均|全|也|才|最|为|是|is|are)*\s*(?:的|the\s+)?(?:正确|对|当选|符合|可选|入选|恰当|合适|right|correct|best)", re.IGNORECASE
)
ALL = re.compile(
    r"^(?:答案|应该?|故|因此|所以|综上|本题)*[是为:,\s]*(?:全选|全部都?选|都选|全部|(?:以上|上述|四个|所有|全部)(?:的)?(?:选项|各项|说法|做法)*(?:(?:都|均|全部?|皆)(?:是|对|正确|符合|选|可以)+|(?:正确|对)(?=[,。;!?\s]|$))|"
    r"(?:选项)?(?:都|均|全部?)(?:是|对|正确)|all\s+of\s+the\s+above|all\s+(?:options\s+)?(?:are\s+)?(?:correct|right|true))(?![^,。]*(?:不|非|错))",
    re.IGNORECASE,
)
LINE_LETTER = re.compile(rf"^\s*[(\[]?({LETTER})[)\].、:]\s*\S", re.IGNORECASE)
CLAUSE_END = re.compile(r"[,。;!?()\n]|但是?|而(?!且)|然而")
REFUSAL = re.compile(r"无法|不能|不知道|不清楚|不确定|难以|不会|没有(?:正确)?(?:答案|选项)|都不|均不|cannot|can't|don't know|none of")


@dataclass(frozen=True)
class Run:
    """Letters that stand together: which, where, and what is said about them."""

    letters: tuple[str, ...]
    start: int
    end: int
    chosen: bool
    negated: bool
    right: bool
    capital: bool


def clean(text: str) -> str:
    """Full-width folded, special tokens, LaTeX wrappers, quotes and markdown taken off; NFKC, lines kept."""
    text = unicodedata.normalize("NFKC", SPECIAL_TOKEN.sub(" ", text))
    for _ in range(3):
        text = LATEX_TEXT.sub(r" \1 ", text)
    return QUOTES.sub("", text).replace("\\", " ").strip()


def runs(text: str) -> list[Run]:
    """Every run of letters in a cleaned text."""
    found = []
    for match in RUN.finditer(text):
        span, end = match[0].rstrip(), match.start() + len(match[0].rstrip())
        letters = _expand(span)
        if not letters or not _stands_alone(text, match.start(), end):
            continue
        before = CLAUSE_END.split(text[: match.start()])[-1]
        line_before = text[: match.start()].rsplit("\n", 2)
        lead = line_before[-1] if line_before[-1].strip() else "".join(line_before[-2:])
        after = text[end:]
        found.append(
            Run(
                letters,
                match.start(),
                end,
                chosen=bool(CHOICE.search(lead)),
                negated=bool(NOT_BEFORE.search(before)) or bool(WRONG_AFTER.match(CLAUSE_END.split(after)[0])),
                right=bool(RIGHT_AFTER.match(after)),
                capital=any(letter.isupper() for letter in re.findall(r"[A-Fa-f]", span)),
            )
        )
    return found


def _expand(span: str) -> tuple[str, ...]:
    """Distinct letters of a run in order, ranges filled: A-C is A, B, C. Empty where a "letter" is part of a word."""
    bare = re.sub(r"(?i)options?|choices?|\band\b|\bor\b|and|or", " ", span)
    bare = RANGE.sub(lambda found: " ".join(_between(found[1], found[2])), bare)
    words = re.findall(r"[A-Za-z]+", bare)
    if any(not set(word.upper()) <= set(EVERY_LETTER) for word in words):
        return ()
    return tuple(dict.fromkeys("".join(words).upper()))


def _between(first: str, last: str) -> list[str]:
    low, high = sorted((first.upper(), last.upper()))
    return [letter for letter in EVERY_LETTER if low <= letter <= high]


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no word goes on at either edge."""
    if end < len(text) and text[end - 1].isascii() and text[end - 1].isalpha() and re.match(r"[A-Za-z0-9_'+^]|-[A-Za-z0-9]", text[end:]):
        return False
    return not (start and re.match(r"[A-Za-z0-9_]", text[start - 1]) and text[start].isascii() and text[start].isalpha())


def letters_only(text: str) -> tuple[str, ...]:
    """The letters of a text that holds nothing else but joining marks; empty otherwise. `a` counts like `A`."""
    rest = re.sub(r"(?i)选项|项|和|及|与|或|以及|and|or|[^A-Za-z0-9\u4e00-\u9fff]", " ", text)
    if not re.fullmatch(r"\s*(?:[A-Fa-f]+\s*)+", rest) or re.search(r"[^\sA-Za-z()\[\]{}【】、,;/&.。:!?~—－+|\-\u4e00-\u9fff<>]", text):
        return ()
    return _expand(text)


def read_single(reply: str, options: Sequence[str] = DEFAULT_OPTIONS) -> tuple[str | None, str]:
    """(letter, how it was read), or (None, why not). "no letter" means that the reply names none at all."""
    text = clean(reply)
    alone = letters_only(text)
    if alone:
        return _one_of(alone, options, "letter alone")
    if len(text) == 1:
        return None, "not an option"
    found = [run for run in runs(text) if run.capital or run.chosen]
    good = [run for run in found if not run.negated]
    for kind, some in (("explicit choice", [run for run in good if run.chosen]), ("called right", [run for run in good if run.right])):
        if some:
            return _one_of(some[-1].letters, options, kind)
    if good and good[0].start <= 1 and _leads(text, good[0]):
        return _one_of(good[0].letters, options, "leading letter")
    distinct = tuple(dict.fromkeys(letter for run in good for letter in run.letters))
    if distinct:
        return _one_of(distinct, options, "lone letter")
    if found:
        return None, "only letters that are ruled out"
    return None, "refused" if REFUSAL.search(text) else "no letter"


def _leads(text: str, run: Run) -> bool:
    """Whether the letters at the start are followed by an end or a mark, not by more of a sentence."""
    return run.end >= len(text) or text[run.end] in ".。、,:;)]!?\n( " or text[run.end - 1] in ".、:,;)] " or text[run.end - 1] == "项"


def _one_of(letters: Sequence[str], options: Sequence[str], how: str) -> tuple[str | None, str]:
    if len(letters) > 1:
        return None, "several letters"
    return (letters[0], how) if letters[0] in options else (None, "not an option")


def read_several(reply: str, options: Sequence[str] = ()) -> tuple[list[str] | None, str]:
    """(sorted letters, how they were read), or (None, why not). `options` say what "all of them" means."""
    text = clean(reply)
    known = tuple(options) or tuple(EVERY_LETTER)
    for how, letters in (
        ("letters alone", letters_only(text)),
        ("all options", (tuple(options) or DEFAULT_OPTIONS) if _all(text) else ()),
        ("first line", _first_line(text)),
        ("listed lines", _listed(text)),
        ("sentence", _from_runs(text)),
    ):
        if letters:
            inside = sorted({letter for letter in letters if letter in known})
            return (inside, how) if len(inside) == len(set(letters)) else (None, "not an option")
    return None, "no letter"


def read_label(label: str) -> list[str]:
    """The sorted letters of a right answer as the data gives it: "AC", "B、D", "D. 以上都不是". Empty where it has none."""
    text = clean(label)
    found = letters_only(text)
    if not found and (head := RUN.match(text)):
        found = _expand(head[0])
    return sorted(set(found))


def _all(text: str) -> bool:
    """Whether a clause says that every option is chosen."""
    return not RUN.match(text) and any(ALL.match(clause.strip()) for clause in re.split(r"[,。;!?\n]", text))


def _first_line(text: str) -> tuple[str, ...]:
    """Letters of the first lines that hold letters alone (one line after another counts together)."""
    found: list[str] = []
    for line in text.splitlines():
        letters = letters_only(line.strip())
        if letters:
            found += letters
        elif found:
            break
    return tuple(dict.fromkeys(found))


def _listed(text: str) -> tuple[str, ...]:
    """Letters that head lines ("A. ..."), where there is no explicit choice; lines that call theirs wrong are left out."""
    lines = [line for line in text.splitlines() if line.strip()]
    heads = [(LINE_LETTER.match(line), line) for line in lines]
    if len(lines) < 2 or not all(head for head, _ in heads):
        return ()
    kept = [head[1].upper() for head, line in heads if head and not WRONG_AFTER.match(line[head.end(1) :])]
    return tuple(dict.fromkeys(kept))


def _from_runs(text: str) -> tuple[str, ...]:
    """Letters of a sentence: explicit choice, else clauses that call letters right, else the leading run."""
    found = [run for run in runs(text) if run.capital or run.chosen]
    good = [run for run in found if not run.negated]
    chosen = [run for run in good if run.chosen]
    if chosen:
        return chosen[-1].letters
    right = [run for run in good if run.right]
    if right:
        return tuple(dict.fromkeys(letter for run in right for letter in run.letters))
    if good and good[0].start <= 1 and _leads(text, good[0]):
        return good[0].letters
    if len(good) == 1 and not re.search(r"[A-Za-z]{2}", text[good[0].start : good[0].end]):
        return good[0].letters
    return ()
