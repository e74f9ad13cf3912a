"""Reading chosen letters out of a reply: one letter, or a set of them.

Order of evidence: a reply (or its first line) of letters alone; an explicit choice ("答案是B", "故选 D",
"Answer: C"), the last that is not negated; verdicts on one option after another; letters that a clause calls
right; letters at the start; letters that stand alone. What a reply takes back ("B。不对，应为A") counts no
more. Letters of words ("DNA", "A股", "维生素C") are none.
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

SPECIAL_TOKEN = re.compile(r"</?(?:[a-z]|[A-Za-z_]{2,20})>|<\|[^|>]{1,30}\|>|\[/?INST\]")
LATEX_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed|fbox|mbox)\s*\{([^{}]*)\}")
QUOTES = re.compile(r"[\"'“”‘’「」『』`*$#]|\\[()\[\]]|_{2,}|(?<=[ _])_|_(?=[ _])")
FOLDED = str.maketrans("選對錯誤確應項為這說題無沒АВСЕΑΒΕ🅰🅱", "选对错误确应项为这说题无没ABCEABEAB")
"""Traditional characters of the words that matter here, and letters of other scripts that look like
options."""

MARK = r"[(\[{【<]?[ \t]*(?:选项|字母|options?[ \t]+|choices?[ \t]+)?[ \t]*"
JOIN = r"(?:[)\]}】>]|选项|项|[ \t、,;/&.+|]|和|及|与|或者?|还是|跟|加|以及|还有|and\b|or\b)*"
TO = r"[ \t]*(?:到|至|~|-|—|－|–)[ \t]*"
RUN = re.compile(
    rf"(?:{MARK}(?<![A-Za-z0-9_])[A-F]+(?![A-Za-z0-9])(?:{TO}[A-F](?![A-Za-z0-9]))?{JOIN})+", re.IGNORECASE
)
RANGE = re.compile(rf"([A-F]){TO}([A-F])", re.IGNORECASE)
LOOSE_END = re.compile(r"(?:[ \t、,;/&.+|]|和|及|与|或者?|还是|跟|加|以及|还有|and|or)+$")
ASIDE = re.compile(r"(?<=[A-Fa-f])\s*\((?=\s*[A-F]\s*[、,和与]\s*[A-F])")
"""Where other letters stand in brackets: "AC（B、D错误）"."""
ALTERNATIVE = re.compile(r"([A-F])[)选项 \t,]{0,6}(?:或者?|还是|\bor\b)[(选项择 \t]{0,6}([A-F])(?![A-Za-z])")
HAN = re.compile(r"[\u4e00-\u9fff]")
HAN_BEFORE = frozenset("选是为项案择答除和与及或了有即母定应到至而非取填先次另")
HAN_AFTER = re.compile(
    r"是|为|对|正|错|不|都|均|皆|全|当|符|最|也|的(?=[,。;!?\s)]|$|说法|选项|表述|观点)|才|应|更|两|三|四|因|所|故|选|可|即|属|有误|没|吧|啊|呢|呀|哦|嘛|哈|而|并|项|答|说|合|恰|同|要|必|和|与|及|或|二|这[两二三四]|就|一定|肯定|必|显然|明显"
    r"|能|这|比|优于|胜过|无误|无疑|入选"
)
ENGLISH_ARTICLE = re.compile(
    r"\s+(?!is\b|are\b|and\b|or\b|because\b|since\b|as\b|was\b|seems\b|fits\b|but\b|not\b)[a-z]{2}"
)

CHOICE = re.compile(
    r"(?:(?:正确|最终|参考|本题|标准)?(?:答案|选项|选择)(?:应该|应|就)?(?:是|为|选|在|:)+|答案|故选|(?<![A-F])应选|选择|(?<![A-F])(?<![A-F][要可能应当必])选[出中定了]?|答|选取|猜"
    r"|更正|改[成选]|剩下?|(?<!不)(?:只有|仅有?|唯有)|可得|得[到出]|符合(?:题意|要求|条件)?的?(?:选项|说法)?(?:是|为|有)|must\s+be"
    r"|正确的?(?:选项|说法|做法|答案|一项)?(?:是|为|有|包括)|应该?(?:是|为)|(?:综上|因此|所以|故|总之)"
    r"|answers?\s*(?:is|are|:)?|(?:correct|right)\s+(?:option|choice|answer|one)s?\s*(?:is|are|:)?|(?:choose|pick|select)|options?\s+(?:is|are))"
    r"[\s:,】\])]*(?:应该|应|就|选择?|是|为|项|选项|the|option|choice|both)*[\s:,]*$",
    re.IGNORECASE,
)
"""What stands right before letters that are an explicit choice."""

NOT_BEFORE = re.compile(
    r"(?:不|别|勿|并非|非|排除|去掉|剔除|除了?|没有?|无法|不能|未必|很难说|怎么会?|难道|比|优于|胜过|not|(?:is|are|was|ca|can|do|does|should|would|could)nt|never|exclud\w+|eliminat\w+|except|rule out|(?:anything|all) but)"
    r"(?:是|选择?|应?该?|一定|见得|确定|猜|能|可以?|包括|含有?|为|掉|会|再|属于|选项|把|说|认为|\s|the|option|choose|be)*$",
    re.IGNORECASE,
)
WRONG = r"(?:不(?:正确|对|符|选|当|能选|应选|恰当|合|是|成立|准确|属|可|妥|行|够|太|完全|道德|一定|见得|该|应该?|能(?=[,。;!\s]|$|成立|推出)|合理|可选)|未必|并非|而不是(?=[,。;]|$)|说反|无关|假的|干扰|有问题|不[如比全]|没有(?:[A-F]|依据|根据|道理)|倒置|缺乏|无稽|错|误|排除|[×✗✘❌✖✕╳]|(?:以|之)?外|incorrect|wrong|false|unlikely|impossible|is out\b|not\b)"
WRONG_AFTER = re.compile(
    rf"^\s*(?:(?!因为|由于|其他|其余|所以|而|because|since|others?).){{0,18}}?{WRONG}", re.IGNORECASE
)
WRONG_RIGHT_AFTER = re.compile(rf"^\s*(?:选?项|说法|都|均|全|也|是|为|的|is|are|\s)*{WRONG}", re.IGNORECASE)
WRONG_APART = re.compile(
    rf"^\s*[,:(\[]\s*(?:说法|是|为)?{WRONG}[^,。;!()\nA-Za-z]{{0,3}}(?=[,。;!)\]\n]|$)", re.IGNORECASE
)
"""A verdict behind a comma or in brackets, with nothing else: "B，不对，...", "A（错误）"."""
DOUBTED = re.compile(r"^[^,。;!?\n]{0,6}\?\s*(?:不|错|否|no\b)", re.IGNORECASE)
FORMULA_AFTER = re.compile(r"\s*(?:→|⇒|[-=]>|[=∩∪<>])")
WORD_BEFORE = re.compile(r"([A-Za-z]{2,})[ \t]*$")
SAYING = frozenset(
    re.findall(
        r"\w+",
        "is are be was it its that this answer answers option options choice choose select pick say with and or not the therefore so thus hence"
        " only both either neither nor but than of to probably likely as for because since then final correct right wrong think believe guess"
        " ans assistant user letter just must should would definitely if by out eliminate exclude excluding except isnt arent wasnt cant never"
        " clearly obviously maybe perhaps",
    )
)
"""English words that may stand right before an option's letter; behind another word it is a name: "Vitamin
A", "sin A"."""
NO_ERROR = re.compile(r"(?:没有?|并?无|毫无)(?:任何|什么)?(?:错误|错|误|问题|不当|不妥|疑问?)(?!的)")
RIGHT_AFTER = re.compile(
    r"^\s*[,(]?\s*(?:这[个一][个项]?|这?[两二三四][个项条]?|选?项|说法|都|均|皆|全部?|也|才|最|更|比较|较|一定|肯定|必然|显然|明显|确实|的确|当然|应该|应|就|完全|不仅|不但"
    r"|为|是|is|are|\s)*"
    r"(?:的|the\s+)?(?:正确|对(?!比|于|应|待|象|照)|当选|符合|相符|可选|入选|恰当|合适|合理|准确|贴切|成立|可以|可行|可(?=[,。;!]|$)|行(?=[,。;!]|$)"
    r"|[要可能应必]?选(?=[,。;!]|$)|答案|正解|更?好(?=[,。;!]|$)|比[A-F]|优于|胜过|[√✓✔✅☑]|right|correct|best|true)",
    re.IGNORECASE,
)
WHICH = r"(?:以上|上述|这些?|这?四[个项种]?|每一?[个项条]?|所有|全部|其余|各)(?:的)?(?:所有|全部|[四4][个项种])?(?:选?项|各项|说法|做法|观点|表述|答案)*"
ALL = re.compile(
    r"(?:(?:正确)?答案|应该?|故|因此|所以|综上(?:所述)?|本题|[此该]题|这道?题|我(?:认为|觉得|会)?|选择?|是|为|[A-F、,\s])*"
    rf"(?:全选|全部选?|所有(?:选项)?|{WHICH}|(?:{WHICH})?(?:全部|全都|全|都|均|皆)(?:要|应该?|可以?|能|是|为)*(?:选择?|对|正确|是|可以?|行|要|符合(?:题意|要求)?)的?"
    r"|没有(?:错误|不正确|不对)的(?:选项|说法)?"
    r"|all(?:\s+of)?(?:\s+(?:the|these|them|four))*(?:\s+(?:above|options?|choices|answers|statements))*(?:\s+(?:is|are)(?:\s+(?:correct|right|true))?)?)[!~]*",
    re.IGNORECASE,
)
"""A whole clause that chooses every option."""

ALL_BUT = re.compile(
    r"除了?([^。;!?\n]{1,20}?)(?:(?:以|之)?外|(?=都|均|全|其余|其他))[^。;!?\n]{0,20}(?:都|均|全|其余|其他)[^。;!?\n]{0,20}"
)
HEAD = re.compile(
    r"(?:^|(?<=[\s:;,。、)和与]))[(\[]?([A-Fa-f])(?:[)\].、:(]|(?<=[A-F])[ \t])\s*(?=[\u4e00-\u9fff“\"《])",
    re.MULTILINE,
)
LIST_LEAD = re.compile(r"^\s*(?:(?:正确|最终)?(?:答案|选择|选)(?:是|为)?\s*:?\s*)?(?:[-*•·]\s*)?")
NUMBERED = re.compile(r"(?:^|(?<=\s))\(?\d{1,2}[.、)]\s*(?=[A-Fa-f](?![A-Za-z0-9]))")
LED = re.compile(r"[(\[]?([A-F])(?:[.、](?![A-F])|[)\]]+|[ \t]+(?=以上|上述))\s*(?=[^\s、,;.])")
"""A letter with the text of its option behind it."""
SUBJECT = re.compile(
    r"(?:^|(?<=[\s,。;:!?×√)…✗✘❌✓✔✅看]))[(\[]?(?:选项)?[ \t]?([A-F])[)\]]?(?:选?项)?(?=[ \t]*[:.、,(?×√✗✘❌✓✔✅\u4e00-\u9fff…])"
    r"(?![、,和与及或 \t]*(?:选项)?[A-F](?![A-Za-z]))"
)
CALLED_WRONG = re.compile(rf"{WRONG}|^\W*否\W*$|\bno\b", re.IGNORECASE)
CALLED_RIGHT = re.compile(
    r"正确|符合|对(?!比|于|应|待|象|照)|成立|当选|[√✓✔✅☑]|^\W*是\W*$|\byes\b|\bcorrect|\bright|\btrue",
    re.IGNORECASE,
)
TAKEN_BACK = re.compile(
    r"(?:(?<=[,。;:!?\s…—])|(?<=\.\.))(?:哦|噢|啊|唔|呃|嗯|但|后来|现在|最后|最终)?\s*"
    r"(?:不对(?=[,。;!?:…\s]|应[为该是选])|不(?=[,。;!?\s])|等等|等一下|更正|改[为成选]|纠正|修正|[说写搞选]错了|抱歉|(?:其实|实际上)(?=是|应|选|正确|答案)|\bwait\b|\bactually\b|\bcorrection\b|\bno(?=\s*[,.!]))[,.。:;!…\s为]*",
    re.IGNORECASE,
)
CONCEDED = re.compile(
    r"(?:虽然?|尽管|原以为|本以为|以为|看似|看起来|看上去|似乎|貌似|乍一看|表面上|一开始|起初|最初|原来[选以]|我先)[^,。;!?\n]*$"
)
CLAUSE = re.compile(r"[,。;!?()\n]|但是?|而(?!且)|然而")
SENTENCE = re.compile(r"[。;!?\n]")
REFUSAL = re.compile(
    r"无法|不能|不知道|不清楚|不确定|难以|不会|没有(?:正确)?(?:答案|选项)|都不|均不|cannot|can't|don't know|none of",
    re.IGNORECASE,
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


def clean(text: str) -> str:
    """Full-width folded (NFKC), special tokens, LaTeX wrappers, quotes and markdown taken off; lines kept."""
    text = unicodedata.normalize(
        "NFKC", re.sub(r"[①-⑳]", " ", SPECIAL_TOKEN.sub(" ", text).translate(FOLDED))
    )
    for _ in range(3):
        text = LATEX_TEXT.sub(r" \1 ", text)
    text = ASIDE.sub("; ", text)
    return re.sub(r"[ \t]+", " ", QUOTES.sub("", text).replace("\\", " ")).strip()


def runs(text: str) -> list[Run]:
    """Every run of letters in a cleaned text, those inside words left out."""
    found = []
    for start, end in _spans(text):
        letters = _expand(text[start:end])
        chosen = bool(CHOICE.search(_lead(text, start)))
        if not letters or not _stands_alone(text, start, end, chosen):
            continue
        ahead, after = text[max(0, start - NEAR) : start], NO_ERROR.sub("正确", text[end : end + NEAR])
        before, clause = CLAUSE.split(ahead)[-1], CLAUSE.split(after)[0]
        negated = (
            NOT_BEFORE.search(before)
            or (WRONG_RIGHT_AFTER if chosen else WRONG_AFTER).match(clause)
            or WRONG_APART.match(after)
            or DOUBTED.match(after)
        )
        right = bool(RIGHT_AFTER.match(after))
        found.append(Run(letters, start, end, chosen, bool(negated), right, bool(CONCEDED.search(ahead))))
    return found


def _good(found: Sequence[Run]) -> list[Run]:
    """The runs that are not negated; of those, the ones that are not merely conceded, where there are any."""
    good = [run for run in found if not run.negated]
    return [run for run in good if not run.conceded] or good


def _latest(text: str) -> str:
    """What follows the last place where the reply takes back what it said, where that names letters; else
    the whole text."""
    for found in reversed(list(TAKEN_BACK.finditer(text))[-5:]):
        rest = text[found.end() :]
        if any(not run.negated for run in runs(rest)):
            return rest
    return text


def _lead(text: str, start: int) -> str:
    """What stands before a run on its line, or on the line before where its own is empty."""
    lines = text[max(0, start - NEAR) : start].rsplit("\n", 2)
    return lines[-1] if lines[-1].strip() else "".join(lines[-2:])


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where runs start and end, loose joining marks behind them left out. "AC,B" is two runs: the comma
    parts what stands closer."""
    for match in RUN.finditer(text):
        span = match[0]
        closer = re.search(r"[A-Fa-f]{2}|、|和|与|及", span)
        pieces = (
            re.finditer(r"[^,;]+", span)
            if closer and re.search(r"[,;]", span)
            else [re.match(r".*", span, re.DOTALL)]
        )
        for piece in pieces:
            assert piece is not None
            bare = LOOSE_END.sub("", piece[0])
            lead = len(bare) - len(bare.lstrip())
            if bare.strip():
                yield match.start() + piece.start() + lead, match.start() + piece.start() + len(bare)


def _expand(span: str) -> tuple[str, ...]:
    """Distinct letters of a run in order, ranges filled: A-C is A, B, C. Empty where a "letter" is part of
    a word."""
    bare = re.sub(r"(?i)options?|choices?|\band\b|\bor\b", " ", span)
    bare = RANGE.sub(lambda found: " ".join(_between(found[1], found[2])), bare)
    words = re.findall(r"[A-Za-z]+", bare)
    if any(word.isupper() for word in words):
        words = [word for word in words if not word.islower()]  # "be D" is D
    if any(not set(word.upper()) <= set(EVERY_LETTER) for word in words):
        return ()
    return tuple(dict.fromkeys("".join(words).upper()))


def _between(first: str, last: str) -> list[str]:
    low, high = sorted((first.upper(), last.upper()))
    return [letter for letter in EVERY_LETTER if low <= letter <= high]


def _stands_alone(text: str, start: int, end: int, chosen: bool) -> bool:
    """Whether no word goes on at either edge of a run; an explicit choice may be followed by any Chinese
    character."""
    span, after = text[start:end], text[end : end + NEAR]
    if span.islower() and not chosen:
        return False
    if after[:1].isascii() and re.match(r"[A-Za-z0-9_'+^]|-[A-Za-z0-9]", after) and span[-1].isalnum():
        return False
    word = WORD_BEFORE.search(text[max(0, start - NEAR) : start])
    if (
        FORMULA_AFTER.match(after)
        or (text[start - 1 : start] or " ") in "∠△⊥∥°"
        or (word and not chosen and word[1].lower() not in SAYING)
    ):
        return False
    if not chosen and span == "A" and ENGLISH_ARTICLE.match(after):
        return False
    marked = bool(re.search(r"选项|项|字母|[)\]}】>]", span))
    if HAN.match(after) and not (chosen or marked or HAN_AFTER.match(after)):
        return False
    previous = text[start - 1 : start]
    return (
        chosen
        or marked
        or bool(RIGHT_AFTER.match(after))
        or not (HAN.match(previous) and previous not in HAN_BEFORE)
    )


def letters_only(text: str) -> tuple[str, ...]:
    """The letters of a text that holds nothing else but joining marks; empty otherwise. `a` counts like
    `A`."""
    text = NUMBERED.sub(" ", text)
    rest = re.sub(
        r"(?i)选项|项|以及|和|及|与|或|\band\b|\bor\b|\bboth\b|[^A-Za-z0-9\u4e00-\u9fff]", " ", text
    )
    if not re.fullmatch(r"[\sA-Fa-f]*[A-Fa-f]\s*", RANGE.sub(r"\1 \2", rest)) or re.search(
        r"[=^_@%]|[^\x00-\x7f、。—–…·】【\u4e00-\u9fff]", text
    ):
        return ()
    bare = re.sub(r"(?i)选项|\b(?:both|and|or)\b", " ", text)
    return _expand(bare) if not (re.search("[a-f]", bare) and re.search("[A-F]", bare)) else ()


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
    """(letter, how it was read), or (None, why not). "no letter" means that the reply says nothing that
    could be a choice."""
    text = clean(reply)
    lines = text.splitlines()
    alone = letters_only(text) or (letters_only(lines[0]) if lines else ())
    latest = _latest(text)
    if alone and latest == text:
        return _one_of(alone, options, "letter alone")
    if len(text) == 1:
        return None, "not an option"
    but = ALL_BUT.search(text)
    if but and re.search(r"不|错", but[0]) and len(_expand(but[1])) == 1:
        return _one_of(_expand(but[1]), options, "all but this one wrong")
    found = runs(latest)
    good = _good(found)
    chosen, right = [run for run in good if run.chosen], [run for run in good if run.right]
    heads = {head[1].upper() for head in HEAD.finditer(text)}
    led = LED.match(text) if len(heads) < 2 and latest == text else None
    for how, letters in (
        ("explicit choice", chosen[-1].letters if chosen else ()),
        ("verdicts", _verdicts(text)),
        ("leading option", (led[1],) if led else ()),
        ("called right", right[-1].letters if right else ()),
        ("options", tuple(heads) if len(heads) > 1 else ()),
        ("leading letter", good[0].letters if good and _leads(latest, good[0]) else ()),
        ("lone letter", tuple(dict.fromkeys(letter for run in good for letter in run.letters))),
    ):
        if letters:
            return _one_of(letters, options, how)
    if found:
        left = set(options) - {letter for run in found for letter in run.letters}
        return (
            _one_of(tuple(left), options, "the only one left")
            if len(left) == 1 and len(options) > 2
            else (None, "only letters that are ruled out")
        )
    return None, "refused" if REFUSAL.search(text) else "no letter"


def _leads(text: str, run: Run) -> bool:
    """Whether a run starts the text and an end or a mark follows, not more of a sentence."""
    return run.start <= 1 and (
        run.end >= len(text) or not HAN.match(text[run.end]) or text[run.end - 1] in "项)]】"
    )


def _one_of(letters: Sequence[str], options: Sequence[str], how: str) -> tuple[str | None, str]:
    if len(letters) > 1:
        return None, "several letters"
    return (letters[0], how) if letters[0] in options else (None, "not an option")


def read_several(reply: str, options: Sequence[str] = ()) -> tuple[list[str] | None, str]:
    """(sorted letters, how they were read), or (None, why not). `options` say what "all of them" means (A
    to D where none are given)."""
    whole = clean(reply)
    text = whole if _verdicts(whole) else _latest(whole)
    every = tuple(options) or DEFAULT_OPTIONS
    but = ALL_BUT.search(text)
    for how, letters in (
        ("letters alone", letters_only(text)),
        (
            "all but",
            tuple(letter for letter in every if letter not in _expand(but[1]))
            if but and not re.search(r"不|错", but[0])
            else (),
        ),
        ("all options", every if _all(text) else ()),
        ("first line", _first_line(text)),
        ("listed", _listed(text)),
        ("verdicts", () if any(run.chosen for run in _good(runs(text))) else _verdicts(text)),
        ("sentence", _from_runs(text)),
    ):
        if letters:
            inside = sorted(set(letters) & set(options or EVERY_LETTER))
            if any({first, second} <= set(letters) for first, second in ALTERNATIVE.findall(text)):
                return None, "one or the other"
            return (inside, how) if len(inside) == len(set(letters)) else (None, "not an option")
    return None, "no letter"


def read_label(label: str) -> list[str]:
    """The sorted letters of a right answer as the data gives it: "AC", "B、D", "D. 以上都不是". Empty
    where it has none."""
    text = clean(label)
    found = letters_only(text) or _listed(text)
    if not found and (head := RUN.match(text)):
        found = _expand(head[0])
    return sorted(set(found or read_several(label)[0] or ()))


def _all(text: str) -> bool:
    """Whether a clause says that every option is chosen, and no letters say otherwise."""
    clauses = [clause.strip(" 【】") for clause in re.split(r"[,。;:!()\n]", text)]
    return any(ALL.fullmatch(clause) for clause in clauses if clause) and not any(
        set(run.letters) < set(DEFAULT_OPTIONS) for run in runs(text)
    )


def _listed(text: str) -> tuple[str, ...]:
    """Letters that head the parts of a list ("A. ...; C. ..."), where the text starts with one; parts that
    are called wrong are left out."""
    lead = LIST_LEAD.match(text)
    heads = list(HEAD.finditer(text))
    if len(heads) < 2 or heads[0].start() > (lead.end() if lead else 0) + 1:
        return ()
    ends = [head.start() for head in heads[1:]] + [len(text)]
    parts = [(head[1].upper(), text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    if any(CHOICE.search(part[: run.start]) for _, part in parts for run in runs(part) if run.chosen):
        return ()
    return (
        ()
        if _verdicts(text)
        else tuple(dict.fromkeys(letter for letter, part in parts if not WRONG_AFTER.match(part)))
    )


def _verdicts(text: str) -> tuple[str, ...]:
    """Letters called right where one option after another is judged, each in a stretch of its own; or the
    first one, which stands without a verdict, where all others are called wrong."""
    heads = list(SUBJECT.finditer(text))
    letters = [head[1] for head in heads]
    if len(letters) < 2 or len(set(letters)) < len(letters):
        return ()
    ends = [head.start() for head in heads[1:]] + [len(text)]
    stretches = [NO_ERROR.sub("正确", text[head.end() : end]) for head, end in zip(heads, ends, strict=True)]
    wrong = [bool(CALLED_WRONG.search(stretch)) for stretch in stretches]
    right = [
        not no and bool(CALLED_RIGHT.search(stretch)) for no, stretch in zip(wrong, stretches, strict=True)
    ]
    if all(wrong[1:]) and not (wrong[0] or right[0]):
        return (letters[0],)
    judged = all(no or yes for no, yes in zip(wrong, right, strict=True))
    return tuple(letter for letter, yes in zip(letters, right, strict=True) if yes) if judged else ()


def _from_runs(text: str) -> tuple[str, ...]:
    """Letters of prose: the last sentence with an explicit choice, else clauses that call letters right,
    else a leading or a single run."""
    found = runs(text)
    good = _good(found)
    chosen = [run for run in good if run.chosen]
    if chosen:
        same = [
            run for run in chosen if not SENTENCE.search(text[run.end : chosen[-1].start].replace(";", ","))
        ]
        return tuple(dict.fromkeys(letter for run in same for letter in run.letters))
    right = [run for run in good if run.right]
    if right:
        return tuple(dict.fromkeys(letter for run in right for letter in run.letters))
    if good and _leads(text, good[0]):
        return good[0].letters
    return (
        good[0].letters
        if len(good) == 1
        and (len(found) > 1 or not re.search(r"[A-Za-z]{2}", text[good[0].start : good[0].end]))
        else ()
    )
