"""From a reply to a verdict: `judge`, pure and without a model.

Two protocols. `fixed` reads what a careful person would read; `paper` does as the released scorer did, faults
included (see `paper`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from doitune.errors import UsageError
from doitune.evals.reading import endings, maths, paper
from doitune.evals.reading.blanks import same_blank
from doitune.evals.reading.equality import equal
from doitune.evals.reading.letters import DEFAULT_OPTIONS, read_label, read_several, read_single
from doitune.evals.reading.plain import GAP, without_courtesy, without_thoughts
from doitune.evals.reading.texts import chrf, rouge_l
from doitune.evals.reading.true_false import read_true_false
from doitune.evals.task import TIE, Item, Reply, Verdict

Protocol = Literal["fixed", "paper"]
JUDGED = (
    *("single_choice", "multi_choice", "tf", "cloze", "math", "math_equiv", "cmmlu_extract", "ppl_rank"),
    "open",
)
"""The forms that `judge` knows: the forms of questions, the released equality test alone, and the released
reader of CMMLU replies."""

READ_HEAD, READ_TAIL = 2_000, 6_000
"""Characters of a reply that `fixed` reads at either end: answers stand there, and reading takes time."""

Scores = Mapping[str, float] | Sequence[float]


def judge(
    form: str,
    reply: object,
    label: object,
    *,
    protocol: str,
    option_scores: Scores | None = None,
    options: Sequence[str] | None = None,
    mode: str | None = None,
) -> Verdict:
    """Read `reply`, compare it with `label`, and say how.

    `reply`: text; None where only `option_scores` came back; for ppl_rank the candidates' mean losses
    (`label` is the right one's place). `option_scores`: scores by letter or in the order of
    `options`; they decide where the text names no option. `mode` ("text", "logits", "both") is the released
    reader's, for `paper` alone; left out, it follows from what is given. Errors: UsageError.
    """
    if form not in JUDGED:
        raise UsageError(f"no form of answer {form!r}", f"forms: {', '.join(JUDGED)}")
    if form == "open":  # the released code has no such question
        return _open(without_thoughts(str(reply or "")), str(label))
    if protocol == "paper":
        return paper.judge(form, reply, label, scores=_by_letter(option_scores, options), mode=mode)
    if protocol != "fixed":
        raise UsageError(f"no protocol {protocol!r}", "protocols: fixed, paper")
    if form == "ppl_rank":
        return _ranking(reply if reply is not None else option_scores, label)
    text = None if reply is None else _readable(without_thoughts(str(reply)))
    if text is not None and form != "math_equiv":
        text = without_courtesy(text)
    if form in ("single_choice", "cmmlu_extract"):
        return _single(
            text, str(label), _by_letter(option_scores, options), tuple(options or DEFAULT_OPTIONS)
        )
    if form == "math_equiv":
        return Verdict(text, equal(text, None if label is None else str(label)))
    readers = {"multi_choice": _several, "tf": _true_false, "cloze": _cloze, "math": _math}
    return readers[form](text or "", _readable(str(label)), tuple(options or ()))


def judge_reply(item: Item, reply: Reply, protocol: str) -> Verdict:
    """The verdict on what came back for `item` under one protocol; a question that was too long to ask is
    wrong.

    `paper` reads the scores of the bare letters where the released code does.
    """
    if reply.too_long:
        return Verdict(None, False, "too long")
    if item.form == "ppl_rank":
        return judge("ppl_rank", [one.mean for one in reply.candidates], 0, protocol=protocol)
    found = reply.released_scores if protocol == "paper" and reply.released_scores else reply.option_scores
    scores = dict(zip(item.options, found, strict=False)) if found else None
    return judge(
        item.form,
        reply.text,
        item.label,
        protocol=protocol,
        option_scores=scores,
        options=item.options or None,
    )


def _readable(text: str) -> str:
    """The reply, without the middle of one that runs on and on, and without long gaps."""
    text = GAP.regex.sub(lambda found: found[0][:3], text)
    return text if len(text) <= READ_HEAD + READ_TAIL else f"{text[:READ_HEAD]}\n{text[-READ_TAIL:]}"


def _by_letter(scores: Scores | None, options: Sequence[str] | None) -> dict[str, float] | None:
    """Scores by letter, in the order of the options."""
    if scores is None:
        return None
    if isinstance(scores, Mapping):
        return {str(letter): float(score) for letter, score in scores.items()}
    return {letter: float(score) for letter, score in zip(options or DEFAULT_OPTIONS, scores, strict=False)}


def _single(
    text: str | None, label: str, scores: Mapping[str, float] | None, options: tuple[str, ...]
) -> Verdict:
    """The text's letter; where the text names none at all, the option with the best score."""
    letters = read_label(label)
    wanted = letters[0] if len(letters) == 1 else None
    if text is not None:
        letter, how = read_single(text, options)
        if letter is not None:
            return Verdict(letter, letter == wanted, how)
        if how != "no letter" or not scores:
            return Verdict(None, False, how)
    return _best(scores or {}, wanted, options)


def _best(scores: Mapping[str, float], wanted: str | None, options: tuple[str, ...]) -> Verdict:
    """The best of the options by score; equals at the top share the point."""
    known = {letter: score for letter, score in scores.items() if letter in options and not math.isnan(score)}
    if not known:
        return Verdict(None, False, "no option scores")
    top = [letter for letter, score in known.items() if score == max(known.values())]
    if len(top) == 1:
        return Verdict(top[0], top[0] == wanted, "by option scores")
    return Verdict(None, 1 / len(top) if wanted in top else False, f"{TIE}{', '.join(top)} by option scores")


def _open(text: str, label: str) -> Verdict:
    """How much a free answer says of the row's own: the credit is chrF."""
    said, wanted = text.strip(), label.strip()
    if said == wanted:
        return Verdict(said, 1.0, "the same text")
    return Verdict(said or None, chrf(said, wanted), f"ROUGE-L {100 * rouge_l(said, wanted):.0f} %")


def _several(text: str, label: str, options: tuple[str, ...]) -> Verdict:
    """Exactly the label's letters; an empty reply is never right."""
    found, how = read_several(text, options)
    return Verdict(found, bool(found) and found == read_label(label), how)


def _true_false(text: str, label: str, options: tuple[str, ...]) -> Verdict:
    wanted, _ = read_true_false(label)
    found, how = read_true_false(text)
    return Verdict(found, found is not None and found == wanted, how)


def _cloze(text: str, label: str, options: tuple[str, ...]) -> Verdict:
    found, right = same_blank(text, label)
    return Verdict(found, right)


def _math(text: str, label: str, options: tuple[str, ...]) -> Verdict:
    """The final answer against the label; a reply that is the label, letter for letter, is right however
    it is read."""
    if text.strip() and text.strip() == label.strip():
        return Verdict(text.strip(), True)
    found = maths.final_answer(text) or maths.wording(text) or None
    if found is None or (endings.is_equation(text, found) and "=" not in label):
        return Verdict(found, False)
    return Verdict(found, any(equal(one, label) for one in (found, *endings.also(text, found))))


def _number(value: object) -> float:
    """NaN where it is none."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _ranking(losses: object, label: object) -> Verdict:
    """The candidate with the least loss a token; equals share the point; a candidate without a finite loss
    is never the least."""
    values = (
        list(map(_number, losses)) if isinstance(losses, Sequence) and not isinstance(losses, str) else []
    )
    finite = {place: value for place, value in enumerate(values) if math.isfinite(value)}
    if not finite:
        return Verdict(None, False, "no finite loss")
    best = [place for place, value in finite.items() if value == min(finite.values())]
    right = str(label).strip() in map(str, best)
    note = f"{TIE}{len(best)}" if len(best) > 1 else ""
    return Verdict(
        str(best[0]) if len(best) == 1 else None,
        (1 / len(best) if len(best) > 1 else True) if right else False,
        note,
    )
