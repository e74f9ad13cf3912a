"""How the answer of a valid or test row is read: its form, its label, the options that its question offers.

The rules follow the released data's fields (`question_format`, `choices`, `answer`) and the released scorer's
words for true and false; where that scorer would guess (a letter that no option carries, letters inside of a
sentence) the row is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from doitune.ability import BY_NAME, FORMS, Form
from doitune.data.jsonl import RowError, shown

TRUE_WORDS = ("正确", "对", "T", "√", "V")
FALSE_WORDS = ("错误", "错", "F", "×", "X")

_LETTERS = "ABCDEF"
_ENDS = "。.！!"
_LETTER_RUN = re.compile(r"(?:(?:正确)?答案(?:是|为)?|选)?[\s:：]*([\sA-F()（）,，、;；.。和]+)")
_EDGES = {
    "line": (re.compile(r"^[ \t　]*[(（]?([A-F])[ \t　]*[)）.．、:：\s]", re.MULTILINE), 2),
    "marked": (re.compile(r"(?<![A-Za-z0-9])([A-F])\s*[)）.．、:：]"), 3),
    "alone": (re.compile(r"(?<![A-Za-z0-9])([A-F])(?![A-Za-z0-9])"), 3),
}


@dataclass(frozen=True)
class Reading:
    """How one row's answer is compared; the fields are those of Example."""

    form: Form
    label: str
    options: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


OPEN = Reading("open", "")

SHORT_RESULT = 40
"""Characters of an answer that may be a result as a whole."""

_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})+)\}")
_AFTER_HASHES = re.compile(r"^####[ \t]*(\S.*)$", re.MULTILINE)


def read_form(row: dict[str, object], ability: str, question: str, gold: str) -> Reading:
    """The reading of a valid or test row whose last question and gold answer are given.

    Errors: RowError of kind question_format, type, choices, label, options or answer.
    """
    asked = row.get("question_format")
    if isinstance(asked, bool) or asked not in (0, 1):
        what = "missing" if "question_format" not in row else shown(asked)
        hint = "write 0 (an exact answer) or 1 (a ranking of three `choices`)"
        raise RowError("question_format", f"`question_format` is {what}, not 0 or 1", hint)
    _check_type(ability if row.get("type") is None else row["type"], ability)
    if asked == 1:
        return Reading("ppl_rank", gold, choices=_choices(row, gold))
    known = BY_NAME.get(ability)
    forms = tuple(form for form in (known.forms if known else FORMS) if form not in ("open", "ppl_rank"))
    if not forms:
        problem = (
            f"`question_format` 0 asks {ability} for an exact answer, but {ability} is only asked by ranking"
        )
        raise RowError("question_format", problem, "write 1 and three `choices`")
    return _exact(row, forms, question, gold.strip())


def read_own_form(row: dict[str, object], ability: str, question: str, gold: str) -> Reading:
    """The reading of one's own row, which may declare its form as `read_form` has it; else its answer implies
    one. Errors: as `read_form`."""
    if any(row.get(key) is not None for key in ("question_format", "choices", "answer")):
        return read_form(row, ability, question, gold)
    return implied_form(question, gold)


def implied_form(question: str, gold: str) -> Reading:
    """The reading of a row that declares none: letters where the question offers options, true or false
    where the answer is one of these words alone, else an open answer."""
    bare = gold.strip()
    word = bare.rstrip(_ENDS)
    form: Form = "single_choice" if len(bare) == 1 else "multi_choice"
    if re.fullmatch("[A-F]{1,6}", bare) and len(set(bare)) == len(bare):
        letters = "".join(sorted(bare))
        try:
            options = _options(question, "ABCD" if len(bare) == 1 else _LETTERS, letters)
        except RowError:
            return Reading("open", bare)
        return Reading(form, letters, options)
    if word in (*TRUE_WORDS, *FALSE_WORDS) and not word.isascii():
        return Reading("tf", "T" if word in TRUE_WORDS else "F")
    return Reading("open", bare)


def exact_form(forms: tuple[Form, ...], question: str, gold: str) -> Reading:
    """The reading of an answer in one of `forms`: as maths where it ends in a result, as a free answer where
    `open` is among them and no other fits. Errors: RowError."""
    bare = gold.strip()
    exact = tuple(form for form in forms if form not in ("open", "math", "ppl_rank"))
    try:
        if "math" in forms and (result := _result(bare)):
            return Reading("math", result)
        return _exact({}, exact, question, bare)
    except RowError:
        if "open" in forms:
            return Reading("open", bare)
        raise


def _result(gold: str) -> str:
    """The final result that a solution states: in a box, behind `####`, or all of a short answer; else ""."""
    stated = _BOXED.findall(gold) or _AFTER_HASHES.findall(gold)
    return stated[-1].strip() if stated else gold if len(gold) <= SHORT_RESULT and "\n" not in gold else ""


def _check_type(kind: object, ability: str) -> None:
    if not isinstance(kind, str) or not kind:
        raise RowError(
            "type", f"`type` is {shown(kind)}, not a text", "write the ability's name or leave the key out"
        )
    stem = kind.removesuffix("_fshot")
    if stem in BY_NAME and stem != ability:
        raise RowError(
            "type",
            f"a row of {stem} (`type` {shown(kind)}) among the rows of {ability}",
            f"move it to the file of {stem}",
        )


def _choices(row: dict[str, object], gold: str) -> tuple[str, ...]:
    choices = row.get("choices")
    hint = "give three different texts, the right one first"
    if not isinstance(choices, list):
        what = "missing" if "choices" not in row else shown(choices)
        raise RowError("choices", f"`choices` is {what}, not a list of three texts", hint)
    if len(choices) != 3:
        raise RowError("choices", f"`choices` has {len(choices)} candidates, not three", hint)
    for place, choice in enumerate(choices, 1):
        if not isinstance(choice, str) or not choice.strip():
            raise RowError("choices", f"choice {place} is {shown(choice)}, not a text", hint)
    texts = tuple(str(choice) for choice in choices)
    if len({text.strip() for text in texts}) != 3:
        raise RowError("choices", "two of the three `choices` are the same", hint)
    if texts[0].strip() != gold.strip():
        raise RowError("choices", f"the first choice {shown(texts[0])} is not the answer {shown(gold)}", hint)
    return texts


def _exact(row: dict[str, object], forms: tuple[Form, ...], question: str, gold: str) -> Reading:
    if "math" in forms and (forms == ("math",) or "answer" in row):
        return Reading("math", _answer(row))
    if "single_choice" in forms and re.fullmatch("[A-D]", gold):
        return Reading("single_choice", gold, _options(question, "ABCD", gold))
    if "multi_choice" in forms and (letters := _letters(gold)):
        return Reading("multi_choice", letters, _options(question, _LETTERS, letters))
    word = gold.rstrip(_ENDS)
    if "tf" in forms and word in (*TRUE_WORDS, *FALSE_WORDS):
        return Reading("tf", "T" if word in TRUE_WORDS else "F")
    if "cloze" in forms:
        return Reading("cloze", gold)
    wanted = {
        "single_choice": "one letter of A, B, C, D",
        "multi_choice": "letters of A to F",
        "tf": "true or false (正确, 错误)",
    }
    said = " or ".join(wanted[form] for form in forms if form in wanted)
    raise RowError(
        "label", f"the answer {shown(gold)} is not {said}", "write the right answer alone in the last turn"
    )


def _answer(row: dict[str, object]) -> str:
    answer = row.get("answer")
    if not isinstance(answer, str) or not answer.strip():
        what = "missing" if "answer" not in row else shown(answer)
        raise RowError("answer", f"`answer` is {what}, not a text", "write the final result as text")
    return answer.strip()


def _letters(gold: str) -> str:
    """The letters of a multiple-answer gold, sorted ("C、A" -> "AC"); "" where the gold says anything
    else."""
    last = gold.splitlines()[-1].strip()
    run = _LETTER_RUN.fullmatch(last)
    return "".join(sorted(set(re.findall("[A-F]", run[1])))) if run else ""


def _options(question: str, letters: str, gold: str) -> tuple[str, ...]:
    """The letters that the question offers, from A without a gap: at line starts, else marked ("A."), else
    standing alone.

    The looser marks need three letters, because texts also speak of 维生素A. Source: the released data write
    3 or 4 options.
    """
    offered: tuple[str, ...] = ()
    for pattern, at_least in _EDGES.values():
        offered = _in_order(pattern.findall(question), letters)
        if len(offered) >= at_least and offered[-1] >= gold[-1]:
            return offered
    hint = "put each option on a line of its own in the question, as in `A. …`"
    if len(offered) >= 3:
        raise RowError(
            "options", f"the answer {shown(gold)} is not among the options {', '.join(offered)}", hint
        )
    raise RowError("options", f"the question offers no options for the answer {shown(gold)}", hint)


def _in_order(found: list[str], letters: str) -> tuple[str, ...]:
    wanted = iter(letters)
    due = next(wanted)
    offered: list[str] = []
    for letter in found:
        if letter == due:
            offered.append(letter)
            due = next(wanted, "")
    return tuple(offered)
