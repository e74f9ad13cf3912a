"""Question: what every question maker gives, and the lettering of options that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from doitune.demo.dice import Dice

LETTERS = "ABCDEF"


class Question(NamedTuple):
    """One conversation of the corpus.

    `turns` alternate user and assistant, the user's question last; `reply` is the right answer to it.
    `choices` are the three candidates of a ranking question, right one first; `answer` is the number of a
    word problem.
    """

    turns: tuple[str, ...]
    reply: str
    choices: tuple[str, ...] = ()
    answer: str = ""


class Asking(NamedTuple):
    """What a maker is given: `serial` of the row in its file (it places the right letter, so that letters
    are balanced), and whether the row is for an `exam` (valid or test), which may ask for facts that training
    never asks for."""

    dice: Dice
    serial: int
    exam: bool


def listed(entries: Sequence[str]) -> str:
    """The entries as option lines, each after a newline: "\\nA. 森林\\nB. 河边"."""
    return "".join([f"\n{letter}. {entry}" for letter, entry in zip(LETTERS, entries)])


def single_choice(ask: Asking, question: str, right: str, wrong: list[str]) -> Question:
    """A question with one right option. `wrong` is in random order; the serial number decides the right
    letter."""
    place = ask.serial % (len(wrong) + 1)
    wrong.insert(place, right)
    return Question((question + listed(wrong),), LETTERS[place])
