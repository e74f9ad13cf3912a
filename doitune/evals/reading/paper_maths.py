"""How the released scorer finds and compares mathematical answers, faults included. Source: behaviour of
DoIT evaluate/parse_utils.py and math_equivalence.py (a normaliser after Hendrycks' MATH), described in words
and written afresh; see `paper`."""

from __future__ import annotations

import re

BOXES = ("\\boxed", "\\fbox")
DOLLARS = re.compile(r"\$(.*)\$")
NUMBER = re.compile(r"\$?-?(?<!\d)\d+(?:\.\d+)?(?![\w\d])")
PLAIN = re.compile(r"[,-?\d]+")
"""The released class `[,-?\\d]`: a range from the comma to the question mark, so it holds `. / : ; < = >`
too."""
LATIN = re.compile(r"[a-zA-Z0-9]*")
ROOT = re.compile(r"sqrt\([^)]*\)")
OPENING = re.compile(r"[\[(]")
OPTION = re.compile(r"\\text\{\(([A-F])\)")


def final_answer(reply: str) -> str | None:
    """What the released parser takes for the answer: the last box that closes, else the last line between
    dollars, else what `_special` or `_loose` finds."""
    text = reply.rsplit("答案", 1)[-1].strip() if "答案" in reply else reply
    box = _last_box(text)
    if box is not None:
        left = "\\boxed{"
        return _tidied(_behind_equals(box[len(left) : -1])) if box.startswith(left) else None
    formulas = DOLLARS.findall(text)
    found = (_behind_equals(formulas[-1]) if formulas else None) or _special(text) or _loose(text)
    return None if found is None else _tidied(found)


def _tidied(found: str) -> str:
    """The last touches: 或 becomes a comma, dollar signs go."""
    return found.replace("或", ", ").replace("$", "")


def _behind_equals(text: str) -> str:
    """What stands behind the last equals sign, spaces before it off; without the sign, spaces stay."""
    return text.rsplit("=", 1)[-1].lstrip(" ") if "=" in text else text


def _last_box(text: str) -> str | None:
    r"""The last \boxed with what its braces hold, else the last \fbox (which is never opened); None where
    its braces do not close."""
    start = next((place for place in (text.rfind(box) for box in BOXES) if place >= 0), None)
    if start is None:
        return None
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if text[at] == "}" and depth == 0:
            return text[start : at + 1]
    return None


def _special(text: str) -> str | None:
    """A fraction a/b, a text of digits and signs alone, the last root, the last bracket."""
    text = text.strip()
    if text.count("/") == 1:
        return text if all(LATIN.fullmatch(side) for side in text.split("/")) else None
    text = text.replace("，", ",")
    if PLAIN.fullmatch(text):
        return text
    text = text.replace(" ", "")
    roots = ROOT.findall(text[: text.rfind(")") + 1])
    return str(roots[-1]) if roots else _last_bracket(text)


def _last_bracket(text: str) -> str | None:
    """The last [...] or (...) on one line, each read from its opening to the next closing of its kind."""
    found, at = None, 0
    ends = {"[": 0, "(": 0}
    while opening := OPENING.search(text, at):
        start, kind = opening.start(), opening[0]
        if 0 <= ends[kind] <= start:
            ends[kind] = text.find("])"[kind == "("], start)
        end = ends[kind]
        whole = end > 0 and "\n" not in text[start:end]
        found, at = (text[start : end + 1], end + 1) if whole else (found, start + 1)
    return found


def _loose(text: str) -> str | None:
    """What stands behind the last equals sign, else the last number that no letter or Chinese character
    follows."""
    if "=" in text:
        return _behind_equals(text).rstrip(".").split("\\n")[0]
    numbers = NUMBER.findall(text)
    return str(numbers[-1]).strip("$") if numbers else None


def equal(answer: str | None, label: str | None) -> bool:
    """Equal after normalising; where either side makes the normaliser fail, as every plain number does,
    equal as they stand."""
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
    return str(OPTION.findall(text)[-1]) if OPTION.match(text) else text


def _without_unit(text: str) -> str:
    r"""Without what follows "\text{ ", which may stand once."""
    parts = text.split("\\text{ ")
    if len(parts) > 2:
        raise AssertionError("two units")
    return parts[0]


def _braced_roots(text: str) -> str:
    r"""\sqrt2 -> \sqrt{2}. IndexError where nothing follows."""
    head, *tails = text.split("\\sqrt")
    return head + "".join(
        "\\sqrt" + (tail if tail[0] == "{" else "{" + tail[0] + "}" + tail[1:]) for tail in tails
    )


def _whole_fractions(text: str) -> str:
    r"""\frac12 -> \frac{1}{2}; the text as it is where a \frac has one character. IndexError where nothing
    follows."""
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
    r"""3/4 -> \frac{3}{4} for whole numbers in their shortest spelling, -3/4 -> -\frac{3}{4} in any.
    IndexError where nothing stands before /."""
    if text.count("/") != 1:
        return text
    upper, lower = text.split("/")
    sign = "-" if upper[0] == "-" else ""
    try:
        numbers = int(upper.removeprefix("-")), int(lower)
        short = f"{numbers[0]}/{numbers[1]}"
    except ValueError:
        return text
    return f"{sign}\\frac{{{numbers[0]}}}{{{numbers[1]}}}" if sign or short == text else text


def _sign_in_front(text: str) -> str:
    r"""\frac{-1}{2} -> -\frac{1}{2}, anywhere in the text."""
    return re.sub(r"\\frac\{-(\d+)\}\{(\d+)\}", r"-\\frac{\1}{\2}", text)
