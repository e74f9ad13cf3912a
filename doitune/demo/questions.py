"""Question: what every question maker gives."""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """One conversation of the corpus.

    `turns` alternate user and assistant, the user's question last; `reply` is the right answer to it.
    `choices` are the three candidates of a ranking question, right one first; `answer` is a number asked for.
    """

    turns: tuple[str, ...]
    reply: str
    choices: tuple[str, ...] = ()
    answer: str = ""
