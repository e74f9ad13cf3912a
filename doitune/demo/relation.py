"""Relation: one kind of fact of the demo's closed world, and how its facts are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from doitune.demo.dice import Dice


def words(line: str) -> tuple[str, ...]:
    """The words of a line, which spaces part."""
    return tuple(line.split())


@dataclass(frozen=True)
class Relation:
    """One kind of fact: each subject has exactly one value.

    `noun` names the relation ("住处"); `facts` maps subject to value; `statements` (running text, with {s}
    and {v}) and `questions` (with {s}) are its wordings; `reverse` (with {v}) asks for the subject, "" where
    nobody does. `asked` are the subjects that training rows may ask about; valid and test rows ask about the
    others too.
    """

    noun: str
    facts: dict[str, str]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    reverse: str = ""
    asked: tuple[str, ...] = ()

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject, in a fixed order."""
        return tuple(self.facts)

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Every different value, in the order of first appearance."""
        return tuple(dict.fromkeys(self.facts.values()))


def contrasts(dice: Dice, relation: Relation, subjects: tuple[str, ...], value: str) -> list[str]:
    """Three of `subjects` that have another value."""
    others: list[str] = []
    while len(others) < 3:
        other = dice.pick(subjects)
        if relation.facts[other] != value and other not in others:
            others.append(other)
    return others


ASKED_SHARE = 0.7
"""Share of a relation's subjects that training rows ask about; the rest is asked only in valid and test
rows."""


def drawn(
    noun: str, subjects: tuple[str, ...], values: tuple[str, ...], wordings: tuple[str, ...]
) -> Relation:
    """Draw a fact for each subject. `wordings`: statements, questions (they hold "？" and {s}) and one
    reverse question ({v})."""
    dice = Dice("world/" + noun)
    deck: list[str] = []
    while len(deck) < len(subjects):
        deck += dice.shuffled(values)
    return given(noun, dict(zip(subjects, deck)), wordings)


def given(noun: str, facts: dict[str, str], wordings: tuple[str, ...]) -> Relation:
    """A relation whose facts are given; `wordings` as in `drawn`."""
    order = Dice("asked/" + noun).shuffled(tuple(facts))
    reverse = [line for line in wordings if "？" in line and "{s}" not in line]
    return Relation(
        noun,
        facts,
        statements=tuple(line for line in wordings if "？" not in line),
        questions=tuple(line for line in wordings if "？" in line and "{s}" in line),
        reverse=reverse[0] if reverse else "",
        asked=tuple(order[: round(len(order) * ASKED_SHARE)]),
    )
