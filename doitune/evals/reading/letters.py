"""Reading chosen letters out of a reply: one letter, or a set of them.

Order of evidence: a reply (or its first line) of letters alone; an explicit choice ("答案是B", "故选 D",
"Answer: C"), the last that is not negated; verdicts on one option after another; letters that a clause calls
right; letters at the start; letters that stand alone. What a reply takes back ("B。不对，应为A") counts no
more. Letters of words ("DNA", "A股", "维生素C") are none. What counts as what is a table: `sayings`, `runs`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from doitune.evals.reading import sayings
from doitune.evals.reading.option_lists import SUBJECT, heads, listed, verdicts
from doitune.evals.reading.patterns import Rewrite, pattern
from doitune.evals.reading.plain import clean
from doitune.evals.reading.runs import (
    ALTERNATIVE,
    CLAUSE_HEAD,
    EVERY_LETTER,
    RUN,
    SENTENCE_GOES_ON,
    Run,
    good,
    leads,
    letters_of,
    letters_only,
    runs,
)

DEFAULT_OPTIONS = ("A", "B", "C", "D")

SURVEYED = 3
"""Letters that something is said about, each on its own, from which on the first of them is no choice."""

BACKS_TRIED = 5
"""Places where a reply takes something back that are looked behind, from the last one."""

LED = pattern(
    "a letter with the text of its option behind it, at the start",
    r"^[(\[]?([A-F])(?:[.、](?![A-F])|[)\]]+|[ \t]+(?=以上|上述))\s*(?=[^\s、,;.])",
    "D. 以上都不对",
    "D、C",
)
TICK_LAST = Rewrite(
    "a tick at the end of a line about a letter",
    r"(?m)^[^\w\n]*([A-F])(?:[)\]】]|[.、:])[^\n√✓✔✅☑×✗✘❌A-F]{1,60}[√✓✔✅☑]\ufe0f?[^\w\n]*$",
    r"\1 √",
    "(B) 4^2 = 16 ✓",
    "B √",
    "B ✓ 16",
)
CROSS_LAST = Rewrite(
    "a cross at the end of a line about a letter",
    r"(?m)^[^\w\n]*([A-F])(?:[)\]】]|[.、:])[^\n√✓✔✅☑×✗✘❌A-F]{1,60}[×✗✘❌✖]\ufe0f?[^\w\n]*$",
    r"\1 ×",
    "(A) 3^2 = 9 ✗",
    "A ×",
    "A ✗ 9",
)
TICK_FIRST = Rewrite(
    "a tick before a letter",
    r"(?m)^\W*?(?:[√✓✔✅☑]\ufe0f?|\[[xX√✓]\])\s*(?:选项)?([A-F])(?![A-Za-z])",
    r"\1 √ ",
    "- [x] A",
    "A √ ",
    "A √",
)
CROSS_FIRST = Rewrite(
    "a cross before a letter",
    r"(?m)^\W*?(?:[×✗✘❌✖✕╳☐]\ufe0f?|\[\s?\])\s*(?:选项)?([A-F])(?![A-Za-z])",
    r"\1 × ",
    "❌ B",
    "B × ",
    "B ×",
)
BETWEEN = r"项?(?:和|与|、|或|\s+and\s+|\s+or\s+)(?:选项)?"
FORMER = Rewrite(
    "the former",
    rf"(?<![A-Za-z])([A-F])({BETWEEN}[A-F](?![A-Za-z])[^\n]{{0,60}}?)(?:前者|the former)",
    r"\1\2: \1",
    "Between A and B, the former",
    "Between A and B, : A",
    "Between A and B",
)
LATTER = Rewrite(
    "the latter",
    rf"(?<![A-Za-z])([A-F]{BETWEEN})([A-F])((?![A-Za-z])[^\n]{{0,60}}?)(?:后者|the latter)",
    r"\1\2\3: \2",
    "A和B中后者对",
    "A和B中: B对",
    "A和B",
)
LETTER_APART = pattern(
    "a letter that stands apart", r"(?<![A-Za-z0-9])[B-D](?![A-Za-z0-9'])", "makes C the", "DNA"
)
SENTENCE = pattern("end of a sentence", r"[。!?\n]", "选A。", "选A;")


def read_single(reply: str, options: Sequence[str] = DEFAULT_OPTIONS) -> tuple[str | None, str]:
    """(letter, how it was read), or (None, why not). "no letter" means that the reply says nothing that
    could be a choice."""
    text = LATTER.apply(FORMER.apply(_signs_behind(clean(reply))))
    latest = _latest(text)
    alone = letters_only(text) or (letters_only(text.splitlines()[0]) if text else ())
    if alone and latest == text:
        return _one_of(alone, options, "letter alone")
    if len(text) == 1:
        return None, "not an option"
    but = sayings.ALL_BUT.regex.search(text)
    if but and sayings.ANY_WRONG.regex.search(but[0]) and len(letters_of(but[1])) == 1:
        return _one_of(letters_of(but[1]), options, "all but this one wrong")
    found = runs(latest)
    for how, letters in _evidence(text, latest, good(found)):
        if letters and not (len(letters) > 1 and _only_wrong(found, options)):
            return _one_of(letters, options, how)
    if wrong := _only_wrong(runs(latest), options):
        return wrong, "the only wrong one"
    if not found:
        return None, "refused" if sayings.REFUSAL.regex.search(text) else "no letter"
    left = set(options) - {letter for run in found for letter in run.letters}
    if len(left) == 1 and len(options) > 2:
        return left.pop(), "the only one left"
    return None, "only letters that are ruled out"


def _evidence(text: str, latest: str, found: Sequence[Run]) -> list[tuple[str, Sequence[str]]]:
    """(how, letters) for one letter, the strongest evidence first. `latest` is what of the text still
    counts, `found` its runs that are not negated."""
    chosen, right = [run for run in found if run.chosen], [run for run in found if run.right]
    if chosen and chosen[-1].conceded and _unread(latest):
        chosen = []
    blamed = [run for run in found if run.blamed]
    refused = sayings.GIVES_UP.regex.search(text)
    surveyed = len({head[1] for head in SUBJECT.regex.finditer(latest)}) >= SURVEYED
    headed = list(dict.fromkeys(heads(text)))
    led = LED.regex.match(text) if len(headed) < 2 and latest == text else None
    return [
        ("explicit choice", chosen[-1].letters if chosen else ()),
        ("the wrong one", blamed[-1].letters if blamed else ()),
        ("verdicts", verdicts(text, one=True)),
        ("leading option", (led[1],) if led else ()),
        ("called right", right[-1].letters if right else ()),
        ("said of it", found[-1].letters if found and _said_of(found[-1], latest) else ()),
        ("options", headed if found and len(headed) > 1 else ()),
        ("leading letter", _leading(found, latest) if found and not surveyed else ()),
        ("lone letter", () if refused or _unread(latest) else _not_denied(found, latest)),
    ]


def _said_of(run: Run, text: str) -> bool:
    """Whether something is said to be these letters: "what answers the question is D"."""
    return not run.blamed and bool(sayings.SAID_OF.regex.search(text[: run.start]))


def _leading(found: Sequence[Run], text: str) -> tuple[str, ...]:
    """The letters at the start, where an end or a mark follows or no other letters count."""
    first = found[0]
    alone = all(run.letters == first.letters for run in found)
    goes_on = SENTENCE_GOES_ON.regex.match(text, first.end)
    return first.letters if leads(text, first) and (not goes_on or (alone and not _unread(text))) else ()


def _unread(text: str) -> bool:
    """Whether a letter stands apart that was not read as an option: something may be said of it."""
    read = {letter for run in runs(text) for letter in run.letters}
    seen = {one for found in CLAUSE_HEAD.regex.findall(text) for one in found if one}
    seen |= set(LETTER_APART.regex.findall(text))
    return bool(seen - read) and len(seen | read) > 1


def _not_denied(found: Sequence[Run], text: str) -> tuple[str, ...]:
    """Their letters, without those that the text elsewhere rules out or concedes, where one is left."""
    denied = {letter for run in runs(text) if run.negated or run.conceded for letter in run.letters}
    left = tuple(letter for letter in _letters(found) if letter not in denied)
    return left if len(left) == 1 else _letters(found)


def _only_wrong(found: Sequence[Run], options: Sequence[str]) -> str | None:
    """The one option that is called wrong where all others are called right: the question asks for it."""
    right = {letter for run in found if run.right and not run.negated for letter in run.letters}
    wrong = {letter for run in found if run.negated for letter in run.letters}
    return (
        next(iter(wrong)) if len(wrong) == 1 and len(options) > 2 and right == set(options) - wrong else None
    )


def _one_of(letters: Sequence[str], options: Sequence[str], how: str) -> tuple[str | None, str]:
    if len(letters) > 1:
        return None, "several letters"
    return (letters[0], how) if letters[0] in options else (None, "not an option")


def read_several(reply: str, options: Sequence[str] = ()) -> tuple[list[str] | None, str]:
    """(sorted letters, how they were read), or (None, why not). `options` say what "all of them" means (A
    to D where none are given)."""
    whole = _signs_behind(clean(reply))
    text = whole if verdicts(whole) else _latest(whole)
    several_chosen = any(run.chosen and len(run.letters) > 1 for run in good(runs(text)))
    every = tuple(options) or DEFAULT_OPTIONS
    for how, letters in (
        ("letters alone", letters_only(text)),
        ("all but", _all_but(text, every)),
        ("all options", every if _all(text) else ()),
        ("first line", _first_line(text)),
        ("listed", () if several_chosen else listed(text)),
        ("verdicts", () if any(run.chosen for run in good(runs(text))) else verdicts(text)),
        ("sentence", _prose(text)),
    ):
        if letters:
            if any({first, second} <= set(letters) for first, second in ALTERNATIVE.regex.findall(text)):
                return None, "one or the other"
            if not set(letters) <= set(options or EVERY_LETTER):
                return None, "not an option"
            return sorted(set(letters)), how
    return None, "no letter"


def read_label(label: str) -> list[str]:
    """The sorted letters of a right answer as the data gives it: "AC", "B、D", "D. 以上都不是". Empty
    where it has none."""
    text = clean(label)
    found = letters_only(text) or listed(text)
    if not found and (head := RUN.regex.match(text)):
        found = letters_of(head[0])
    return sorted(set(found or read_several(label)[0] or ()))


def _signs_behind(text: str) -> str:
    """The text with the signs that stand before letters at the start of lines behind them."""
    for step in (TICK_LAST, CROSS_LAST, TICK_FIRST, CROSS_FIRST):
        text = step.apply(text)
    return text


def _latest(text: str) -> str:
    """What follows the last place where the reply takes back what it said, where that names letters; else
    the whole text."""
    for found in reversed(list(sayings.TAKEN_BACK.regex.finditer(text))[-BACKS_TRIED:]):
        rest = text[found.end() :]
        left = [run for run in runs(rest) if not run.negated]
        chosen = any(run.chosen and run.end <= found.start() for run in runs(text))
        if left and (len(left) == 1 or not chosen or any(run.chosen or run.right for run in left)):
            return rest
    return text


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


def _all_but(text: str, every: Sequence[str]) -> tuple[str, ...]:
    """The options but for those that the text excepts from what is right."""
    if others := sayings.ALL_OTHERS.regex.search(text):
        return tuple(
            letter
            for letter in every
            if letter not in letters_of(others["out"] or others["wrong"] or others["but"])
        )
    but = sayings.ALL_BUT.regex.search(text)
    if not but or sayings.ANY_WRONG.regex.search(but[0]):
        return ()
    return tuple(letter for letter in every if letter not in letters_of(but[1]))


def _all(text: str) -> bool:
    """Whether a clause says that every option is chosen, and no letters say otherwise."""
    clauses = [clause.strip(" 【】") for clause in re.split(r"[,。;:!()\n]", text)]
    return any(sayings.ALL.regex.match(clause) for clause in clauses if clause) and not any(
        set(run.letters) < set(DEFAULT_OPTIONS) for run in runs(text)
    )


def _prose(text: str) -> tuple[str, ...]:
    """Letters of prose: the last sentence with an explicit choice, else clauses that call letters right,
    else a leading or a single run."""
    found = runs(text)
    left = [run for run in good(found) if not run.blamed] or good(found)
    if chosen := [run for run in left if run.chosen]:
        last = chosen[-1].start
        return _letters([run for run in chosen if not SENTENCE.regex.search(text[run.end : last])])
    if right := [run for run in left if run.right]:
        return _letters(right)
    if left and leads(text, left[0]):
        return left[0].letters
    if left and sayings.SAID_OF.regex.search(text[: left[-1].start]):
        return left[-1].letters
    if len(left) != 1:
        return ()
    word = re.search("[A-Za-z]{2}", text[left[0].start : left[0].end])
    return left[0].letters if len(found) > 1 or not word else ()


def _letters(found: Sequence[Run]) -> tuple[str, ...]:
    """Their distinct letters in order."""
    return tuple(dict.fromkeys(letter for run in found for letter in run.letters))
