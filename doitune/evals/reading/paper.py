"""Protocol `paper`: replies read as the released scorer reads them, faults included, so that its numbers can
be reproduced.

Source: behaviour of DoIT evaluate/parse_utils.py, scorer.py, utils.py and of cmmlu/mp_utils.py, written
afresh from its description and tested case by case. Known faults are kept on purpose: "A." is not read as A,
every capital of the last line counts, 不正确 is true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from doitune.evals.reading import paper_maths
from doitune.evals.task import Item, Verdict

LETTERS = "ABCD"
NO_LETTER = "E"
"""What the released reader answers where it finds nothing."""

TRUE_MARK = re.compile(r"正确|对|T|√|V")
FALSE_MARK = re.compile(r"错误|错|F|×|X")
FIRST_HAN = re.compile(r"[\u4e00-\u9fff]+.*?[^\w\s]*")
LAST_LINE_LETTER = re.compile(r"[A-F]")


def judge(
    form: str, reply: object, label: object, *, scores: Mapping[str, float] | None, mode: str | None
) -> Verdict:
    """The released verdict. `mode` left out: "both" where there are a text and scores, else what there is."""
    text = None if reply is None else str(reply)
    if form == "ppl_rank":
        return _ranking(reply)
    if form == "single_choice":
        mode = mode or ("text" if scores is None else "logits" if text is None else "both")
        letter = _single(text or "", scores or {}, mode)
        return Verdict(letter, letter == label)
    if form == "tf":
        value = _true_false(text or "", mode or ("text" if scores is None else "both"))
        return Verdict(value, value == _label_value(str(label)))
    if form == "math_equiv":
        return Verdict(
            paper_maths.normalised(text), paper_maths.equal(text, None if label is None else str(label))
        )
    readers = {"multi_choice": _several, "cloze": _cloze, "math": _math, "cmmlu_extract": _benchmark_letter}
    return readers[form](text or "", str(label))


def _single(text: str, scores: Mapping[str, float], mode: str) -> str:
    """both: a reply of one character is the answer (E if it is no option), any other is left to the
    scores. text: the first capital."""
    bare = text.strip()
    if mode == "text":
        found = re.search(f"[{LETTERS}]", bare)
        return found[0] if found else NO_LETTER
    if mode == "both" and len(bare) == 1:
        return bare if bare in LETTERS else NO_LETTER
    return max(LETTERS, key=lambda letter: scores.get(letter, -math.inf))


def last_line_letters(text: str) -> list[str]:
    """Every capital A-F of the last line that is not empty, sorted."""
    lines = [line for line in text.split("\n") if line.strip()]
    return sorted(set(LAST_LINE_LETTER.findall(lines[-1]))) if lines else []


def _several(text: str, label: str) -> Verdict:
    letters = last_line_letters(text)
    return Verdict(list(letters), letters == last_line_letters(label))


def _true_false(text: str, mode: str) -> str:
    """Marks of one kind decide, whatever the mode. Else: E in text mode; in the others no score is ever
    added up, so the answer is true."""
    says_true, says_false = bool(TRUE_MARK.search(text)), bool(FALSE_MARK.search(text))
    if says_true != says_false:
        return "T" if says_true else "F"
    return NO_LETTER if mode == "text" else "T"


def _label_value(label: str) -> str:
    """A label is read as a reply is."""
    return _true_false(label, "text")


def _cloze(text: str, label: str) -> Verdict:
    """The first run of Chinese characters and what punctuation follows, against the label as it stands."""
    found = FIRST_HAN.search(text)
    answer = found[0].strip() if found else text.strip()
    return Verdict(answer, answer == label)


def _math(text: str, label: str) -> Verdict:
    answer = paper_maths.final_answer(text)
    return Verdict(answer, paper_maths.equal(answer, label))


def _ranking(reply: object) -> Verdict:
    """Right where the first perplexity equals the least as Python's `min` finds it: ties are right, a NaN
    is right nowhere."""
    values = (
        [float(value) for value in reply]
        if isinstance(reply, Sequence) and not isinstance(reply, str)
        else []
    )
    return Verdict(None, bool(values) and values[0] == min(values))


CERTAIN = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"答案(?:选项)?[是为]：? ?([ABCD])",
        r"答案[是为]选项 ?([ABCD])",
        r"故?选择?：? ?([ABCD])",
        r"([ABCD]) ?选?项[是为]?正确",
        r"正确的?选项[是为] ?([ABCD])",
        r"答案(?:应该)?[是为]([ABCD])",
        r"选项 ?([ABCD]) ?[是为]?正确",
        r"选择答案 ?([ABCD])",
        r"答案?：?([ABCD])",
        r"([ABCD])(?:选?项)?是?符合题意",
        r"答案选项：? ?([ABCD])",
    )
)
SOON_AFTER = re.compile(r"答案(?:选项)?为[^\n]*?([ABCD])")
WEAK = re.compile(r"[^不]是：? ?([ABCD])", re.MULTILINE)
ONLY = re.compile(r"[^ABCD]*([ABCD])[^ABCD]*")


def _benchmark_letter(text: str, label: str) -> Verdict:
    """The released reader of CMMLU replies. It fails with an IndexError on an empty reply, and guesses
    where it finds nothing."""
    if not text:
        return Verdict(None, False, "IndexError")
    letter = text[0] if text[0] in LETTERS else _phrase_letter(text)
    if letter is None:
        return Verdict(None, False, "the released reader guesses at random here")
    return Verdict(letter, letter == label)


def _phrase_letter(text: str) -> str | None:
    """By certain phrases, then the letter nearest before 当选 or 正确, then 是X, then a letter that is the
    only one."""
    for pattern in CERTAIN:
        if found := pattern.search(text):
            return found[1]
    lines = [line[: max(line.rfind(letter) for letter in LETTERS) + 1] for line in text.split("\n")]
    if found := next(filter(None, map(SOON_AFTER.search, lines)), None):
        return found[1]
    for word in ("当选", "正确"):
        for line in text.split("\n"):
            first = re.search(r"[ABCD]", line)
            at = line.find(word, first.end()) if first else -1
            if first and at >= 0:
                return [letter for letter in line[first.start() : at] if letter in LETTERS][-1]
    found = WEAK.search(text) or ONLY.fullmatch(text)
    return found[1] if found else None


def paper_chance(item: Item) -> float:
    """What the released scorer expects of guessing: 0.33 for three options, and for k right letters 1 /
    C(4, k), as if k were known."""
    if item.form == "single_choice":
        return 0.33 if len(item.options) == 3 else 0.25
    if item.form == "multi_choice":
        ways = math.comb(4, len(last_line_letters(item.label)))
        return 1 / ways if ways else 0.0
    return item.chance


def keeps(label: object) -> bool:
    """Whether the released AGIEval loader keeps an item: its label, a text or a list, has exactly one
    part."""
    return isinstance(label, str | list | tuple) and len(label) == 1


def released_average(scores: Mapping[str, float]) -> float:
    """The released `average`: it divides by the scores and the expected scores together, so it is half of
    the mean."""
    return sum(scores.values()) / (2 * len(scores))
