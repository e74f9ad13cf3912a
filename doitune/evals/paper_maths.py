"""How the released scorer finds and compares mathematical answers, faults included. Source: behaviour of DoIT evaluate/parse_utils.py and
math_equivalence.py (a normaliser after Hendrycks' MATH), described in words and written anew; see `paper`."""

from __future__ import annotations

import re

BOXES = ("\\boxed", "\\fbox")
DOLLARS = re.compile(r"\$(.*)\$")
NUMBER = re.compile(r"\$?-?\d+(?:\.\d+)?(?![\w\d])")
PLAIN = re.compile(r"[,-?\d]+")
"""The released class `[,-?\\d]`: a range from the comma to the question mark, so it holds `. / : ; < = >` too."""
ROOT = re.compile(r"sqrt\(.*?\)")
BRACKET = re.compile(r"\[.*?\]|\(.*?\)")


def final_answer(reply: str) -> str | None:
    """What the released parser takes for the answer."""
    text = reply.rsplit("答案", 1)[-1].strip()
    if any(box in text for box in BOXES):
        found = _boxed(text)
        return None if found is None else _tidied(_behind_equals(found))
    formulas = DOLLARS.findall(text)
    found = _behind_equals(formulas[-1]) if formulas else _special(text)
    if found is None:
        found = _loose(text)
    return None if found is None else _tidied(found)


def _tidied(found: str) -> str:
    """The last touches: 或 becomes a comma, dollar signs go."""
    return found.replace("或", ", ").replace("$", "")


def _behind_equals(text: str) -> str:
    return text.rsplit("=", 1)[-1].strip()


def _boxed(text: str) -> str | None:
    r"""The content of the last \boxed; an \fbox is found but never opened."""
    start = text.rfind(BOXES[0])
    if start < 0:
        return None
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if text[at] == "}" and depth == 0:
            whole = text[start : at + 1]
            return whole[len("\\boxed{") : -1] if whole.startswith("\\boxed{") else None
    return None


def _special(text: str) -> str | None:
    """A fraction a/b, a text of digits and signs alone, the last root, the last bracket."""
    if text.count("/") == 1:
        upper, lower = text.split("/")
        return text if upper.isalnum() and lower.isalnum() else None
    text = text.replace("，", ",")
    if PLAIN.fullmatch(text):
        return text
    text = text.replace(" ", "")
    for pattern in (ROOT, BRACKET):
        found = pattern.findall(text)
        if found:
            return str(found[-1])
    return None


def _loose(text: str) -> str | None:
    """What stands behind the last equals sign, else the last number that no letter or Chinese character follows."""
    if "=" in text:
        return _behind_equals(text).rstrip(".").split("\\n")[0]
    numbers = NUMBER.findall(text)
    return str(numbers[-1]) if numbers else None


def equal(answer: str | None, label: str | None) -> bool:
    """Equal after normalising; where either side makes the normaliser fail, as every plain number does, equal as they stand."""
    if answer is None and label is None:
        return True
    if answer is None or label is None:
        return False
    try:
        return _strip(answer) == _strip(label)
    except (TypeError, AssertionError, IndexError):
        return answer == label


def normalised(text: str | None) -> str | None:
    """What the normaliser makes of a text, or "!" and the error that it raises and swallows."""
    if text is None:
        return None
    try:
        return _strip(text)
    except (TypeError, AssertionError, IndexError) as error:
        return f"!{type(error).__name__}"


def _strip(text: str) -> str:
    """The released normal form. Raises what the released code raises."""
    for old, new in (
        ("\n", ""),
        ("\\!", ""),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
    ):
        text = text.replace(old, new)
    text = _without_unit(text).replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    text = "0" + text if text[0] == "." else text
    sides = text.split("=")
    text = sides[1] if len(sides) == 2 and len(sides[0]) <= 2 else text
    text = _whole_fractions(_braced_roots(text).replace(" ", ""))
    text = "\\frac{1}{2}" if text == "0.5" else _sign_in_front(_slash(text))
    if PLAIN.fullmatch(text):
        raise TypeError("the released code makes a set of the digits here and matches a pattern against it")
    letter = re.match(r"\\text\{\((\w)\)\}", text)
    return letter[1] if letter else text


def _without_unit(text: str) -> str:
    r"""Without what follows "\text{ ", which may stand once."""
    parts = text.split("\\text{ ")
    if len(parts) > 2:
        raise AssertionError("two units")
    return parts[0]


def _braced_roots(text: str) -> str:
    r"""\sqrt2 -> \sqrt{2}. IndexError where nothing follows."""
    head, *tails = text.split("\\sqrt")
    return head + "".join("\\sqrt" + (tail if tail[0] == "{" else "{" + tail[0] + "}" + tail[1:]) for tail in tails)


def _whole_fractions(text: str) -> str:
    r"""\frac12 -> \frac{1}{2}; the text as it is where a \frac has one character. IndexError where nothing follows."""
    head, *tails = text.split("\\frac")
    done = head
    for tail in tails:
        if tail[0] == "{":
            done += "\\frac" + tail
            continue
        if len(tail) < 2:
            return text
        lower = tail[1:] if tail[1] == "{" else "{" + tail[1] + "}" + tail[2:]
        done += "\\frac{" + tail[0] + "}" + lower
    return done


def _slash(text: str) -> str:
    r"""3/4 -> \frac{3}{4} for whole numbers in their shortest spelling; a sign of the upper one goes in front."""
    found = re.fullmatch(r"(-?)(0|[1-9]\d*)/(-?(?:0|[1-9]\d*))", text)
    return f"{found[1]}\\frac{{{found[2]}}}{{{found[3]}}}" if found else text


def _sign_in_front(text: str) -> str:
    r"""\frac{-a}{b} -> -\frac{a}{b}."""
    return re.sub(r"^\\frac\{-([^{}]*)\}\{([^{}]*)\}$", r"-\\frac{\1}{\2}", text)
