"""Replies that go through the options one after another: "A. ...; C. ..." or "A√ B× C√ D×"."""

from __future__ import annotations

import re

from doitune.evals.reading import option_verdicts, sayings
from doitune.evals.reading.patterns import Rewrite, pattern
from doitune.evals.reading.runs import runs

HEAD = pattern(
    "a letter that heads the text of its option",
    r"(?:^|(?<=[\s:;,。、)和与]))[(\[]?([A-Fa-f])(?:[)\].、:(]|(?<=[A-F])[ \t])\s*(?=[\u4e00-\u9fff“\"《])",
    "C. 诚实",
    "C, D",
    re.MULTILINE,
)
LIST_LEAD = Rewrite(
    "what leads to a list",
    r"^\s*(?:(?:正确|最终)?(?:答案|选择|选)(?:是|为)?\s*:?\s*)?(?:[-*•·]\s*)?",
    "",
    "答案: - A. 尊重",
    "A. 尊重",
    "本题A. 尊重",
)
SUBJECT = pattern(
    "a letter that something is said about",
    r"(?:^|(?<=[\s,。;:!?×√)】…✗✘❌✓✔✅看对错确误]))[(\[]?(?:选项)?[ \t]?"
    r"([A-F](?:[、,和与及][ \t]?[A-F]){0,4})[)\]]?(?:选?项)?"
    r"(?=[ \t]*[:.、,(?×√✗✘❌✓✔✅→\u4e00-\u9fff…—-])(?![、,和与及或 \t]*(?:选项)?[A-F](?![A-Za-z]))",
    "A和B是",
    "AB是",
)


TEXT_END = pattern("end of an option's text", r":|——?|–|→|\s-\s|,|”", "光合作用:正确", "光合作用正确")
MANY = 3
"""Options of which something is said, from which on one without a verdict may be left aside."""


def heads(text: str) -> list[str]:
    """The letters that head the text of an option, in order."""
    return [head[1].upper() for head in HEAD.regex.finditer(text)]


def listed(text: str) -> tuple[str, ...]:
    """Letters that head the parts of a list ("A. ...; C. ..."), where the text starts with one; parts that
    are called wrong are left out."""
    found = list(HEAD.regex.finditer(text))
    lead = len(text) - len(LIST_LEAD.apply(text))
    if len(found) < 2 or found[0].start() > lead + 1:
        return ()
    parts = _stretches(text, found)
    if any(run.chosen for part in parts for run in runs(part)) or verdicts(text):
        return ()
    return tuple(
        dict.fromkeys(
            head[1].upper()
            for head, part in zip(found, parts, strict=True)
            if not sayings.WRONG_AFTER.regex.search(part)
        )
    )


def verdicts(text: str, *, one: bool = False) -> tuple[str, ...]:
    """Letters called right where one option after another is judged, each in a stretch of its own; or the
    first one, which stands without a verdict, where all others are called wrong. With `one`, where only one
    is asked for, others may stand without a verdict."""
    found = list(SUBJECT.regex.finditer(text))
    letters = [re.sub("[^A-F]", "", head[1]) for head in found]
    every = "".join(letters)
    if len(found) < 2 or len(set(every)) < len(every):
        return ()
    if any(not set(run.letters) <= set(every) for run in runs(text)):
        return ()
    stretches = [sayings.NO_ERROR.regex.sub("正确", stretch) for stretch in _stretches(text, found)]
    stretches = [_verdict_in(stretch) for stretch in stretches]
    conceded = {letter for run in runs(text) if run.conceded for letter in run.letters}
    wrong = [
        bool(option_verdicts.CALLED_WRONG.regex.search(stretch)) or set(head) <= conceded
        for head, stretch in zip(letters, stretches, strict=True)
    ]
    right = [
        not no and bool(option_verdicts.CALLED_RIGHT.regex.search(stretch))
        for no, stretch in zip(wrong, stretches, strict=True)
    ]
    if all(wrong[1:]) and not (wrong[0] or right[0]):
        return tuple(letters[0])
    chosen = tuple("".join(letter for letter, yes in zip(letters, right, strict=True) if yes))
    if all(no or yes for no, yes in zip(wrong, right, strict=True)):
        return chosen
    unjudged = [letter for letter, no, yes in zip(letters, wrong, right, strict=True) if not (no or yes)]
    if not one or len(every) < MANY or not any(wrong):
        return ()
    return chosen if len(chosen) == 1 else tuple(*unjudged) if not chosen and len(unjudged) == 1 else ()


def _verdict_in(stretch: str) -> str:
    """The part of what is said about an option that is its verdict: one that stands alone at its head, or
    behind the option's own text and a colon or a dash; else all of it."""
    if head := option_verdicts.ONLY_A_VERDICT.regex.match(stretch):
        return head[0]
    for place in TEXT_END.regex.finditer(stretch):
        if option_verdicts.STARTS_WITH_VERDICT.regex.match(stretch, place.end()):
            return stretch[place.end() :]
    return stretch


def _stretches(text: str, found: list[re.Match[str]]) -> list[str]:
    """What stands behind each match, up to the next."""
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [text[match.end() : end] for match, end in zip(found, ends, strict=True)]
