"""Replies that go through the options one after another: "A. ...; C. ..." or "A√ B× C√ D×"."""

from __future__ import annotations

import re

from doitune.evals.reading import sayings
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
    r"(?:^|(?<=[\s,。;:!?×√)…✗✘❌✓✔✅看对错确误]))[(\[]?(?:选项)?[ \t]?([A-F])[)\]]?(?:选?项)?"
    r"(?=[ \t]*[:.、,(?×√✗✘❌✓✔✅\u4e00-\u9fff…])(?![、,和与及或 \t]*(?:选项)?[A-F](?![A-Za-z]))",
    "选项B是",
    "A和B是",
)


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


def verdicts(text: str) -> tuple[str, ...]:
    """Letters called right where one option after another is judged, each in a stretch of its own; or the
    first one, which stands without a verdict, where all others are called wrong."""
    found = list(SUBJECT.regex.finditer(text))
    letters = [head[1] for head in found]
    if len(letters) < 2 or len(set(letters)) < len(letters):
        return ()
    if any(not set(run.letters) <= set(letters) for run in runs(text)):
        return ()
    stretches = [sayings.NO_ERROR.regex.sub("正确", stretch) for stretch in _stretches(text, found)]
    stretches = [head[0] if (head := sayings.ONLY_A_VERDICT.regex.match(one)) else one for one in stretches]
    wrong = [bool(sayings.CALLED_WRONG.regex.search(stretch)) for stretch in stretches]
    right = [
        not no and bool(sayings.CALLED_RIGHT.regex.search(stretch))
        for no, stretch in zip(wrong, stretches, strict=True)
    ]
    if all(wrong[1:]) and not (wrong[0] or right[0]):
        return (letters[0],)
    if not all(no or yes for no, yes in zip(wrong, right, strict=True)):
        return ()
    return tuple(letter for letter, yes in zip(letters, right, strict=True) if yes)


def _stretches(text: str, found: list[re.Match[str]]) -> list[str]:
    """What stands behind each match, up to the next."""
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [text[match.end() : end] for match, end in zip(found, ends, strict=True)]
