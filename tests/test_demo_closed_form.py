"""The demo's closed forms: they say what rows drawn from the corpus really tell, and spread over the abilities."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from doitune.ability import chance as of_form
from doitune.data.corpus import open_corpus
from doitune.demo import corpus
from doitune.demo.closed_form import attainable_gain, chance, complexity, gained, partners, transference
from doitune.demo.world import CREATURES, LESSONS

CREATURE = re.compile("|".join(CREATURES))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], list[str]]]:
    """By ability, the creatures of the rows that a budget draws from, and those of its questions."""
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    corpus.write_corpus(folder)
    return {
        name: (
            _creatures(folder / f"curated/1000/{name}_1000.json"),
            _creatures(folder / f"curated/test/{name}_test.json"),
        )
        for name in LESSONS
    }


def _creatures(path: Path) -> list[str]:
    """The creature that each row asks about."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [CREATURE.findall(" ".join(turn["content"] for turn in row["messages"][-4:-1]))[0] for row in rows]


@pytest.mark.parametrize("rows, others", [(16, 0), (128, 0), (256, 256), (0, 128)])
def test_the_share_gained_is_the_share_of_questions_whose_rule_was_told(
    asked: dict[str, tuple[list[str], list[str]]], rows: int, others: int
) -> None:
    """Rows drawn at random from the corpus, two hundred times: the rules that they tell cover as many
    questions as the closed form says."""
    for name, (pool, questions) in asked.items():
        rest = [asked[other][0] for other in LESSONS if other != name]
        told = 0
        for trial in range(200):
            draw = random.Random(f"{name}/{trial}")
            known = set(draw.sample(pool, rows))
            for other in rest if others else ():
                known.update(draw.sample(other, others))
            told += sum(one in known for one in questions)
        assert told / (200 * len(questions)) == pytest.approx(gained(name, rows, others), abs=0.02), name


def test_the_traits_spread_and_are_not_each_other() -> None:
    """Trap: where the abilities that need many rows are those that get nothing from others, no measurement
    could tell which of the two it saw."""
    hard = sorted(LESSONS, key=complexity)
    assert hard[0] == "ethics" and hard[-1] == "reasoning"
    steps = [complexity(after) - complexity(before) for before, after in zip(hard, hard[1:])]
    assert min(steps) > 0.2 and complexity(hard[-1]) > 8
    helped = sorted(map(transference, LESSONS))
    assert helped[:2] == [0, 0] and helped[2] > 0.05 and helped[-1] > 0.75
    ranks = [sorted(LESSONS, key=transference).index(name) for name in hard]
    mean = sum(ranks) / 10
    covariance = sum((place - 4.5) * (rank - mean) for place, rank in enumerate(ranks))
    assert abs(covariance / 82.5) < 0.4


def test_transference_comes_from_partners_alone() -> None:
    named = [name for pair in partners() for name in pair]
    assert len(set(named)) == len(named) == 8
    assert {name for name in LESSONS if transference(name) > 0} == set(named)
    assert all(gained(name, 0) == 0 and gained(name, 1000) == pytest.approx(1) for name in LESSONS)


def test_chance_is_what_the_evaluation_counts() -> None:
    """Item by item, of the hundred questions."""
    judged = open_corpus("demo").read("curated/test")
    for name in LESSONS:
        guessed = [of_form(row.form, len(row.choices or row.options)) for row in judged[name]]
        assert sum(guessed) / len(guessed) == pytest.approx(chance(name), abs=0.01), name
        assert attainable_gain(name) == 1 - chance(name)
