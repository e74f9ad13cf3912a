"""Each regular expression that reads a reply has a name, an example that it finds and a trap that it does not."""

from __future__ import annotations

import importlib
import pkgutil
import re
from dataclasses import replace

import pytest

from doitune.evals.reading import __path__ as folder
from doitune.evals.reading.patterns import Pattern, Rewrite

MODULES = {
    name: importlib.import_module(f"doitune.evals.reading.{name}")
    for _, name, _ in pkgutil.iter_modules(folder)
}
ALL = {
    f"{module.__name__.rpartition('.')[2]}.{name}": value
    for module in MODULES.values()
    for name, value in vars(module).items()
    if isinstance(value, Pattern)
}
PHRASES = [
    pytest.param(pattern, phrase, id=f"{name}: {phrase.name}")
    for name, pattern in ALL.items()
    for phrase in pattern.phrases
]
REWRITES = {
    rewrite.name: rewrite
    for module in MODULES.values()
    for value in vars(module).values()
    for rewrite in (value if isinstance(value, tuple) else (value,))
    if isinstance(rewrite, Rewrite)
}


def test_the_tables_are_found():
    assert len(PHRASES) > 150 and len(REWRITES) > 20


@pytest.mark.parametrize("pattern, phrase", PHRASES)
def test_a_phrase_is_found_by_its_own_expression_and_its_trap_by_none(pattern, phrase):
    """The example by this phrase alone, so that no other hides that it is broken, and not as well by the
    others, so that no row is idle; the trap not by the whole pattern."""
    assert pattern.alone(phrase).search(phrase.found), f"{phrase.found!r} is not found"
    assert not pattern.regex.search(phrase.missed), f"{phrase.missed!r} is found"
    found = pattern.regex.search(phrase.found)
    others = tuple(one for one in pattern.phrases if one is not phrase)
    by_others = others and replace(pattern, phrases=others).regex.search(phrase.found)
    assert not by_others or by_others[0] != found[0], "the other phrases find as much"


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_does_what_its_row_says(name):
    rewrite = REWRITES[name]
    assert rewrite.apply(rewrite.before) == rewrite.after != rewrite.before
    assert rewrite.apply(rewrite.unchanged) == rewrite.unchanged


def test_no_reader_of_replies_hides_an_expression_from_the_tables():
    """Compiled by itself, it would have no example. Exempt: what compares mathematics (its pairs are in
    test_equality), Chinese numerals, and the released reader (its cases are golden)."""
    exempt = {
        "patterns",
        "tokens",
        "expression",
        "units",
        "shapes",
        "equality",
        "numerals",
        "paper",
        "paper_maths",
    }
    bare = {
        f"{module}.{name}"
        for module in MODULES.keys() - exempt
        for name, value in vars(MODULES[module]).items()
        if isinstance(value, re.Pattern)
    }
    assert exempt <= MODULES.keys()
    assert bare == {"true_false.VERDICT"}, "a pattern of both tables"
