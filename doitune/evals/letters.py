"""Reading chosen letters out of a reply: one letter, or a set of them.

Order of evidence: a reply (or its first line) of letters alone; an explicit choice ("答案是B", "故选 D", "Answer: C"), the last that is not
negated; letters that a clause calls right; letters at the start; letters that stand alone. Letters of words ("DNA", "A股", "维生素C") are none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DEFAULT_OPTIONS = ("A", "B", "C", "D")
EVERY_LETTER = "ABCDEF"

NEAR = 60
"""Characters before and after a letter in which something can be said about it."""

SPECIAL_TOKEN = re.compile(r"</?[A-Za-z_]{1,20}>|<\|[^|>]{1,30}\|>|\[/?INST\]")
LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed|fbox|mbox)\s*\{([^{}]*)\}")
QUOTES = re.compile(r"[\"'“”‘’「」『』`*$#]|\\[()\[\]]")

MARK = r"[(\[{【<]?[ \t]*(?:选项|字母|option[ \t]+|choice[ \t]+)?[ \t]*"
JOIN = r"(?:[)\]}】>]|选项|项|[ \t、,;/&.+|]|和|及|与|或|跟|以及|还有|and\b|or\b)*"
TO = r"[ \t]*(?:到|至|~|-|—|－|–)[ \t]*"
RUN = re.compile(rf"(?:{MARK}(?<![A-Za-z0-9_])[A-F]+(?![A-Za-z0-9])(?:{TO}[A-F](?![A-Za-z0-9]))?{JOIN})+", re.IGNORECASE)
RANGE = re.compile(rf"([A-F]){TO}([A-F])", re.IGNORECASE)
LOOSE_END = re.compile(r"(?:[ \t、,;/&.+|]|和|及|与|或|跟|以及|还有|and|or)+$")
HAN = re.compile(r"[\u4e00-\u9fff]")
HAN_BEFORE = frozenset("选是为项案择答除和与及或了有即母定应到至而非取填先次另")
HAN_AFTER = re.compile(
    r"是|为|对|正|错|不|都|均|全|当|符|最|也|的|才|应|更|两|三|四|因|所|故|选|可|即|属|有误|没|吧|啊|呢|而|并|项|答|说|合|恰|同|要|必|和|与|及|或"
)
ENGLISH_ARTICLE = re.compile(r"\s+(?!is\b|are\b|and\b|or\b|because\b|since\b|as\b|was\b|seems\b|fits\b|but\b|not\b)[a-z]{2}")

CHOICE = re.compile(
    r"(?:(?:正确|最终|参考|本题|标准)?(?:答案|选项|选择)(?:应该|应|就)?(?:是|为|选|:)+|答案|故选|应选|选择|选|答|选取"
    r"|正确的?(?:选项|说法|做法|答案|一项)?(?:是|为|有|包括)|应该?(?:是|为)|(?:综上|因此|所以|故|总之)"
    r"|answers?\s*(?:is|are|:)?|(?:correct|right)\s+(?:option|choice|answer|one)s?\s*(?:is|are|:)?|(?:choose|pick|select)|options?\s+(?:is|are))"
    r"[\s:,】\])]*(?:应该|应|就|选择?|是|为|项|选项|the|option|choice|both)*[\s:,]*$",
    re.IGNORECASE,
)
"""What stands right before letters that are an explicit choice."""

NOT_BEFORE = re.compile(
    r"(?:不|别|勿|并非|非|排除|除了?|没有|不能|not|n't|never|exclud\w+|except|rule out)"
    r"(?:是|选择?|应该?|能|可以?|包括|含有?|为|掉|会|再|属于|选项|把|说|认为|\s|the|option|choose|be)*$",
    re.IGNORECASE,
)
WRONG = r"(?:不(?:正确|对|符|选|当|能选|应选|恰当|合|是|成立|准确|属|可|妥|行|够|太|完全|道德)|错|误|排除|(?:以|之)?外|incorrect|wrong|false|not\b)"
WRONG_AFTER = re.compile(rf"^\s*(?:(?!因为|由于|其他|其余|所以|而|because|since|others?).){{0,18}}?{WRONG}", re.IGNORECASE)
WRONG_RIGHT_AFTER = re.compile(rf"^\s*(?:选?项|说法|都|均|全|也|是|为|的|is|are|\s)*{WRONG}", re.IGNORECASE)
RIGHT_AFTER = re.compile(
    r"^\s*(?:选?项|说法|都|均|全|也|才|最|为|是|is|are|\s)*(?:的|the\s+)?(?:正确|对|当选|符合|可选|入选|恰当|合适|right|correct|best|true)",
    re.IGNORECASE,
)
ALL = re.compile(
    r"^(?:答案|应该?|故|因此|所以|综上|本题|我|[A-F])*[是为选:,\s]*(?:全选|全部都?选|都选|均选|(?:以上|上述)?全部(?:选项)?$|所有选项$|"
    r"(?:以上|上述|这些|四个|四项|所有|全部)(?:的)?(?:选项|各项|说法|做法)*(?:(?:都|均|全部?|皆)(?:是|对|正确|符合|选|可以)+|(?:正确|对)$)|"
    r"(?:选项)?(?:都|均|全部?)(?:是|对|正确)|all\s+of\s+(?:the\s+above|them)|all\s+(?:\w+\s+){0,2}(?:are\s+)?(?:correct|right|true))(?![^,。]*(?:不|非|错))",
    re.IGNORECASE,
)
ALL_BUT = re.compile(r"除了?([^。;!?\n]{1,20}?)(?:以|之)?外[^。;!?\n]{0,20}(?:都|均|全|其余|其他)[^。;!?\n]{0,20}")
HEAD = re.compile(r"(?:^|(?<=[\s;,。]))[(\[]?([A-Fa-f])(?:[)\].、:]|(?<=[A-F])[ \t])\s*(?=[\u4e00-\u9fff“\"《])", re.MULTILINE)
CLAUSE = re.compile(r"[,。;!?()\n]|但是?|而(?!且)|然而")
SENTENCE = re.compile(r"[。;!?\n]")
REFUSAL = re.compile(r"无法|不能|不知道|不清楚|不确定|难以|不会|没有(?:正确)?(?:答案|选项)|都不|均不|cannot|can't|don't know|none of", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """Letters that stand together: which, where, and what is said about them."""

    letters: tuple[str, ...]
    start: int
    end: int
    chosen: bool
    negated: bool
    right: bool


def clean(text: str) -> str:
    """Full-width folded (NFKC), special tokens, LaTeX wrappers, quotes and markdown taken off; lines kept."""
    text = unicodedata.normalize("NFKC", SPECIAL_TOKEN.sub(" ", text))
    for _ in range(3):
        text = LATEX_TEXT.sub(r" \1 ", text)
    return re.sub(r"[ \t]+", " ", QUOTES.sub("", text).replace("\\", " ")).strip()


def runs(text: str) -> list[Run]:
    """Every run of letters in a cleaned text, those inside words left out."""
    found = []
    for start, end in _spans(text):
        letters = _expand(text[start:end])
        chosen = bool(CHOICE.search(_lead(text, start)))
        if not letters or not _stands_alone(text, start, end, chosen):
            continue
        before, after = CLAUSE.split(text[max(0, start - NEAR) : start])[-1], text[end : end + NEAR]
        clause = CLAUSE.split(after)[0]
        negated = NOT_BEFORE.search(before) or (WRONG_RIGHT_AFTER if chosen else WRONG_AFTER).match(clause)
        found.append(Run(letters, start, end, chosen, bool(negated), bool(RIGHT_AFTER.match(after))))
    return found


def _lead(text: str, start: int) -> str:
    """What stands before a run on its line, or on the line before where its own is empty."""
    lines = text[max(0, start - NEAR) : start].rsplit("\n", 2)
    return lines[-1] if lines[-1].strip() else "".join(lines[-2:])


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where runs start and end, loose joining marks behind them left out. "AC,B" is two runs: the comma parts what stands closer."""
    for match in RUN.finditer(text):
        span = match[0]
        closer = re.search(r"[A-Fa-f]{2}|、|和|与|及", span)
        pieces = re.finditer(r"[^,;]+", span) if closer and re.search(r"[,;]", span) else [re.match(r".*", span, re.DOTALL)]
        for piece in pieces:
            assert piece is not None
            bare = LOOSE_END.sub("", piece[0])
            lead = len(bare) - len(bare.lstrip())
            if bare.strip():
                yield match.start() + piece.start() + lead, match.start() + piece.start() + len(bare)


def _expand(span: str) -> tuple[str, ...]:
    """Distinct letters of a run in order, ranges filled: A-C is A, B, C. Empty where a "letter" is part of a word."""
    bare = re.sub(r"(?i)options?|choices?|\band\b|\bor\b", " ", span)
    bare = RANGE.sub(lambda found: " ".join(_between(found[1], found[2])), bare)
    words = re.findall(r"[A-Za-z]+", bare)
    if any(not set(word.upper()) <= set(EVERY_LETTER) for word in words):
        return ()
    return tuple(dict.fromkeys("".join(words).upper()))


def _between(first: str, last: str) -> list[str]:
    low, high = sorted((first.upper(), last.upper()))
    return [letter for letter in EVERY_LETTER if low <= letter <= high]


def _stands_alone(text: str, start: int, end: int, chosen: bool) -> bool:
    """Whether no word goes on at either edge of a run; an explicit choice may be followed by any Chinese character."""
    span, after = text[start:end], text[end : end + NEAR]
    if span.islower() and not chosen:
        return False
    if after[:1].isascii() and re.match(r"[A-Za-z0-9_'+^]|-[A-Za-z0-9]", after) and span[-1].isalnum():
        return False
    if not chosen and span == "A" and ENGLISH_ARTICLE.match(after):
        return False
    marked = bool(re.search(r"选项|项|字母|[)\]}】>]", span))
    if HAN.match(after) and not (chosen or marked or HAN_AFTER.match(after)):
        return False
    previous = text[start - 1 : start]
    return chosen or marked or bool(RIGHT_AFTER.match(after)) or not (HAN.match(previous) and previous not in HAN_BEFORE)


def letters_only(text: str) -> tuple[str, ...]:
    """The letters of a text that holds nothing else but joining marks; empty otherwise. `a` counts like `A`."""
    rest = re.sub(r"(?i)选项|项|以及|和|及|与|或|\band\b|\bor\b|\bboth\b|[^A-Za-z0-9\u4e00-\u9fff]", " ", text)
    if not re.fullmatch(r"[\sA-Fa-f]*[A-Fa-f]\s*", RANGE.sub(r"\1 \2", rest)) or re.search(r"[=^_@%]|[^\x00-\x7f、。—–…·】【\u4e00-\u9fff]", text):
        return ()
    return _expand(re.sub(r"(?i)\bboth\b", " ", text))


def _first_line(text: str) -> tuple[str, ...]:
    """Letters of the first line, and of those right below it, that hold letters alone."""
    found: list[str] = []
    for line in text.splitlines():
        letters = letters_only(line.strip())
        if letters:
            found += letters
        elif found:
            break
    return tuple(dict.fromkeys(found))


def read_single(reply: str, options: Sequence[str] = DEFAULT_OPTIONS) -> tuple[str | None, str]:
    """(letter, how it was read), or (None, why not). "no letter" means that the reply says nothing that could be a choice."""
    text = clean(reply)
    lines = text.splitlines()
    alone = letters_only(text) or (letters_only(lines[0]) if lines else ())
    if alone:
        return _one_of(alone, options, "letter alone")
    if len(text) == 1:
        return None, "not an option"
    but = ALL_BUT.search(text)
    if but and re.search(r"不|错", but[0]) and len(_expand(but[1])) == 1:
        return _one_of(_expand(but[1]), options, "all but this one wrong")
    found = runs(text)
    good = [run for run in found if not run.negated]
    for how, some in (("explicit choice", [run for run in good if run.chosen]), ("called right", [run for run in good if run.right])):
        if some:
            return _one_of(some[-1].letters, options, how)
    if good and _leads(text, good[0]):
        return _one_of(good[0].letters, options, "leading letter")
    distinct = tuple(dict.fromkeys(letter for run in good for letter in run.letters))
    if distinct:
        return _one_of(distinct, options, "lone letter")
    if found:
        return None, "only letters that are ruled out"
    return None, "refused" if REFUSAL.search(text) else "no letter"


def _leads(text: str, run: Run) -> bool:
    """Whether a run starts the text and an end or a mark follows, not more of a sentence."""
    return run.start <= 1 and (run.end >= len(text) or not HAN.match(text[run.end]) or text[run.end - 1] in "项)]】")


def _one_of(letters: Sequence[str], options: Sequence[str], how: str) -> tuple[str | None, str]:
    if len(letters) > 1:
        return None, "several letters"
    return (letters[0], how) if letters[0] in options else (None, "not an option")


def read_several(reply: str, options: Sequence[str] = ()) -> tuple[list[str] | None, str]:
    """(sorted letters, how they were read), or (None, why not). `options` say what "all of them" means (A to D where none are given)."""
    text = clean(reply)
    every = tuple(options) or DEFAULT_OPTIONS
    but = ALL_BUT.search(text)
    for how, letters in (
        ("letters alone", letters_only(text)),
        ("all but", tuple(letter for letter in every if letter not in _expand(but[1])) if but and not re.search(r"不|错", but[0]) else ()),
        ("all options", every if _all(text) else ()),
        ("first line", _first_line(text)),
        ("listed", _listed(text)),
        ("sentence", _from_runs(text)),
    ):
        if letters:
            inside = sorted(set(letters) & set(options or EVERY_LETTER))
            return (inside, how) if len(inside) == len(set(letters)) else (None, "not an option")
    return None, "no letter"


def read_label(label: str) -> list[str]:
    """The sorted letters of a right answer as the data gives it: "AC", "B、D", "D. 以上都不是". Empty where it has none."""
    text = clean(label)
    found = letters_only(text) or _listed(text)
    if not found and (head := RUN.match(text)):
        found = _expand(head[0])
    return sorted(set(found or read_several(label)[0] or ()))


def _all(text: str) -> bool:
    """Whether a clause says that every option is chosen, and no letters say otherwise."""
    clauses = [clause.strip() for clause in re.split(r"[,。;!?\n]", text)]
    return any(ALL.match(clause) for clause in clauses) and not any(set(run.letters) < set(DEFAULT_OPTIONS) for run in runs(text))


def _listed(text: str) -> tuple[str, ...]:
    """Letters that head the parts of a list ("A. ...; C. ..."), where the text starts with one; parts that are called wrong are left out."""
    heads = list(HEAD.finditer(text))
    if len(heads) < 2 or heads[0].start() > 1:
        return ()
    ends = [head.start() for head in heads[1:]] + [len(text)]
    parts = [(head[1].upper(), text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    if any(CHOICE.search(part[: run.start]) for _, part in parts for run in runs(part) if run.chosen):
        return ()
    return tuple(dict.fromkeys(letter for letter, part in parts if not WRONG_AFTER.match(part)))


def _from_runs(text: str) -> tuple[str, ...]:
    """Letters of prose: the last sentence with an explicit choice, else clauses that call letters right, else a leading or a single run."""
    good = [run for run in runs(text) if not run.negated]
    chosen = [run for run in good if run.chosen]
    if chosen:
        same = [run for run in chosen if not SENTENCE.search(text[run.end : chosen[-1].start])]
        return tuple(dict.fromkeys(letter for run in same for letter in run.letters))
    right = [run for run in good if run.right]
    if right:
        return tuple(dict.fromkeys(letter for run in right for letter in run.letters))
    if good and _leads(text, good[0]):
        return good[0].letters
    return good[0].letters if len(good) == 1 and not re.search(r"[A-Za-z]{2}", text[good[0].start : good[0].end]) else ()
