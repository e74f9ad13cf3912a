"""A budget becomes rows by rule: the paper's totals, nested picks that hang on nothing but seed and
content, loud shortfalls."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from doitune.ability import NAMES
from doitune.data.corpus import open_corpus
from doitune.data.example import Example, Message
from doitune.errors import DataError
from doitune.recipe.budget import Budget, Ledger, Line, Pick, Share, Shortfall, account, pick, share_out

FULL = dict(zip(NAMES, (1042, 1893, 4968, 1000, 1450, 4885, 1000, 12751, 11501, 1000), strict=True))
"""Full training rows by ability. Source: the paper's Table 1 less 100 valid and 100 test rows."""
SYNTHETIC = 40_960
CAPS = {"ethics": 64, "role_play": 64, "creative_writing": 1000}
RECONSTRUCT = Budget({**CAPS, "chinese": Share(1)}, 10_000, "drop")
MAXIMUM = Budget({**dict.fromkeys(NAMES, "all"), **CAPS})


def plan(budget: Budget, found: dict[str, int], on_shortfall: Shortfall = "stop") -> dict[str, int]:
    """How many rows of each ability the budget takes."""
    return {name: line.kept for name, line in account(budget, found, on_shortfall).lines.items()}


def rows(name: str, count: int, source: str = "curated/1000") -> list[Example]:
    """`count` different rows of one ability."""
    turns = [(Message("user", f"{name}问{n}"), Message("assistant", f"答{n}")) for n in range(count)]
    return [
        Example(f"{source}/{name}#{n}", name, said, "open", f"{source}/{name}_x.json:{n + 1}")
        for n, said in enumerate(turns)
    ]


def corpus(counts: dict[str, int], source: str = "curated/1000") -> dict[str, list[Example]]:
    """A corpus of that many rows."""
    return {name: rows(name, count, source) for name, count in counts.items()}


def ids(picked: Pick) -> list[str]:
    """The ids picked, in order."""
    return [example.id for example in picked.examples]


def test_reconstruct_follows_from_the_rule_not_from_constants() -> None:
    taken = plan(RECONSTRUCT, FULL)
    assert taken == dict(zip(NAMES, (1042, 1305, 1305, 1000, 1306, 1305, 64, 1305, 1305, 64), strict=True))
    assert sum(taken.values()) == 10_001
    assert sum(plan(RECONSTRUCT, {**FULL, "biology": 1041}).values()) == 10_000


@pytest.mark.parametrize(
    ("budget", "found", "total"),
    [
        *[
            (Budget({}, total), dict.fromkeys(NAMES, 1000), total)
            for total in (10, 40, 160, 640, 2560, 10_000)
        ],
        (MAXIMUM, FULL, 39_618),
        (Budget({**MAXIMUM.amounts, "synthetic": 2560}), {**FULL, "synthetic": SYNTHETIC}, 42_178),
        (Budget({**MAXIMUM.amounts, "synthetic": "all"}), {**FULL, "synthetic": SYNTHETIC}, 80_578),
        *[
            (Budget({"synthetic": total}), {"synthetic": SYNTHETIC}, total)
            for total in (10, 40, 160, 640, 2560, 10_000, 40_960)
        ],
    ],
)
def test_the_papers_settings_have_the_papers_totals(
    budget: Budget, found: dict[str, int], total: int
) -> None:
    taken = plan(budget, found)
    assert sum(taken.values()) == total
    assert all(taken[name] <= found[name] for name in taken)


def test_units_that_do_not_divide_are_spread_in_the_abilities_order_or_dropped() -> None:
    found = dict.fromkeys(NAMES, 50)
    assert list(plan(Budget({}, 163), found).values()) == [17, 17, 17, 16, 16, 16, 16, 16, 16, 16]
    assert sum(plan(Budget({}, 163, "drop"), found).values()) == 160
    assert plan(Budget({"math": 3}, 7), found)["biology"] == 1
    assert list(plan(Budget({}, 163), {**found, "biology": 16}).values()) == [
        16,
        17,
        17,
        17,
        16,
        16,
        16,
        16,
        16,
        16,
    ]


def test_own_abilities_share_when_named_after_the_ten() -> None:
    found = {**dict.fromkeys(NAMES, 9), "law": 9, "art": 9}
    taken = plan(Budget({"law": Share(), "art": Share(2)}, 24), found)
    assert list(taken) == [*NAMES, "art", "law"]
    assert taken["law"] == 2 and taken["art"] == 4
    assert plan(Budget({}, 20), found)["law"] == 0


@given(
    st.lists(st.integers(1, 300), min_size=10, max_size=10),
    st.integers(0, 4000),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 30), max_size=9),
    st.sampled_from(["spread", "drop"]),
)
def test_a_budget_is_met_to_the_row_or_refused(
    counts: list[int], total: int, fixed: dict[str, int], leftover
) -> None:
    found = dict(zip(NAMES, counts, strict=True))
    budget = Budget(dict(fixed), total, leftover)
    sharers = [name for name in NAMES if name not in fixed]
    room = sum(found[name] for name in sharers)
    left = total - sum(fixed.values())
    possible = 0 <= left <= room and all(fixed[name] <= found[name] for name in fixed)
    try:
        taken = plan(budget, found)
    except DataError as error:
        assert not possible, error
        return
    assert possible
    missing = total - sum(taken.values())
    assert missing == 0 if leftover == "spread" else 0 <= missing < len(sharers)
    top = max(taken[name] for name in sharers)
    assert all(taken[name] >= min(found[name], top - 1) for name in sharers), (
        "an equal share, or all there is"
    )
    assert all(taken[name] == amount for name, amount in fixed.items())


@example({"a": 25, "b": 25, "c": 25, "d": 27}, 102)  # a part of a row is left at each ability but the last
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 50), min_size=1), st.integers(0, 400))
def test_a_share_is_never_more_than_there_is_and_the_sum_is_all_that_can_be(
    found: dict[str, int], total: int
) -> None:
    shares, unmet = share_out(total, found)
    assert all(0 <= shares[name] <= found[name] for name in found)
    assert sum(shares.values()) == total - unmet == min(total, sum(found.values()))


def test_a_shortfall_names_every_ability_with_its_numbers() -> None:
    with pytest.raises(DataError) as caught:
        plan(Budget({"math": 11, "code": 5, "ethics": "all"}), {"math": 10, "code": 4, "ethics": 0})
    assert [str(problem) for problem in caught.value.problems] == [
        "data.budget.code: asked for 5 rows, found 4",
        "data.budget.math: asked for 11 rows, found 10",
        "data.budget.ethics: asked for all rows, found 0",
    ]
    assert caught.value.hint == "lower `code`, add rows, or write on_shortfall: take_all"


def test_take_all_takes_what_there_is_and_the_ledger_says_what_was_asked() -> None:
    picked = pick(
        corpus({"math": 10, "code": 4}), Budget({"math": 11, "code": 2}), seed=0, on_shortfall="take_all"
    )
    assert picked.ledger.lines == {"code": Line(2, 4, 2), "math": Line(11, 10, 10)}
    assert picked.ledger.total() == Line(13, 14, 12)
    assert len(picked.examples) == 12


def test_an_ability_without_rows_is_a_shortfall_even_where_the_others_could_take_its_share() -> None:
    found = {**dict.fromkeys(NAMES, 100), "math": 0}
    with pytest.raises(DataError, match=r"^data\.budget\.math: asked for 16 rows, found 0$"):
        plan(Budget({}, 160), found)
    assert sum(plan(Budget({}, 160), found, "take_all").values()) == 160


def test_a_total_that_nobody_can_fill_is_a_shortfall_of_equal_parts() -> None:
    with pytest.raises(DataError, match="asked for 2,000 rows, found 1,000"):
        plan(Budget({}, 20_000), dict.fromkeys(NAMES, 1000))
    assert sum(plan(Budget({}, 20_000), dict.fromkeys(NAMES, 1000), "take_all").values()) == 10_000


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        (Budget({"math": 20}, 10), "the fixed numbers ask for 20 rows, more than share_equally 10"),
        (
            Budget(dict.fromkeys(NAMES, 1), 12),
            "2 of the 12 rows of share_equally are left and no ability shares them",
        ),
        (Budget({"math": Share(1)}), "share_equally names no total"),
    ],
)
def test_a_budget_that_contradicts_itself_is_refused(budget: Budget, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        plan(budget, dict.fromkeys(NAMES, 100))


def test_picks_are_nested_by_id() -> None:
    examples = corpus(dict.fromkeys(NAMES, 300))
    smaller: set[str] = set()
    for total in (10, 40, 160, 640, 2560):
        larger = set(ids(pick(examples, Budget({}, total), seed=0)))
        assert len(larger) == total
        assert smaller < larger
        smaller = larger
    assert set(ids(pick(examples, Budget({}, 160), seed=1))) != set(
        ids(pick(examples, Budget({}, 160), seed=0))
    )


@given(st.randoms(use_true_random=False), st.integers(0, 5))
def test_picks_do_not_hang_on_the_order_of_rows_or_abilities(dice: random.Random, seed: int) -> None:
    examples = corpus({"math": 40, "code": 30, "ethics": 9})
    examples["math"] += [replace(row, id=f"{row.id}again") for row in examples["math"][:9]]
    budget = Budget({"math": 17, "code": 17, "ethics": 7})
    expected = ids(pick(examples, budget, seed=seed))
    shuffled = {
        name: dice.sample(examples[name], len(examples[name])) for name in dice.sample(list(examples), 3)
    }
    assert ids(pick(shuffled, budget, seed=seed)) == expected


def test_an_absent_ability_changes_nothing_for_the_others() -> None:
    examples = corpus({"math": 40, "code": 30})
    both, alone = (
        pick(rows, budget, seed=3)
        for rows, budget in [
            (examples, Budget({"math": 9, "code": 9})),
            ({"math": examples["math"]}, Budget({"math": 9})),
        ]
    )
    assert ids(both)[9:] == ids(alone)


def test_the_same_ids_from_files_with_other_row_order_and_line_ends(tmp_path: Path) -> None:
    lines = [
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"问{n}"},
                    {"role": "assistant", "content": f"答\n{n}"},
                ]
            }
        )
        for n in range(50)
    ]
    picked = []
    for name, text in (("a", "\n".join(lines)), ("b", "\r\n".join(reversed(lines)) + "\r\n")):
        folder = tmp_path / name / "curated" / "1000"
        folder.mkdir(parents=True)
        (folder / "math_1000.json").write_bytes(text.encode())
        picked.append(
            ids(pick(open_corpus(str(tmp_path / name)).read("curated/1000"), Budget({"math": 20}), seed=0))
        )
    assert len(picked[0]) == 20
    assert picked[0] == picked[1]


def released(
    source: dict[str, list[Example]], amounts: dict[str, int], first_rows: bool, generator: random.Random
) -> list[str]:
    """What the released procedure takes, written here from its description: files sorted by name, one
    generator."""
    taken: list[str] = []
    for name in sorted(amounts):
        chosen = (
            source[name][: amounts[name]] if first_rows else generator.sample(source[name], amounts[name])
        )
        taken += [example.id for example in chosen]
    return taken


@pytest.mark.parametrize("total", [10, 40, 160, 640, 2560, 10_000])
def test_paper_selection_of_curated_is_the_released_one(total: int) -> None:
    examples = corpus(dict.fromkeys(NAMES, 1000))
    expected = released(examples, dict.fromkeys(NAMES, total // 10), False, random.Random(0))
    assert sorted(ids(pick(examples, Budget({}, total), seed=0, select="paper"))) == sorted(expected)


@pytest.mark.parametrize(
    ("budget", "synthetic"), [(RECONSTRUCT, 0), (MAXIMUM, 0), (MAXIMUM, 2560), (MAXIMUM, SYNTHETIC)]
)
def test_paper_selection_of_full_takes_first_rows_and_mixes_draw_as_synthetic_alone(
    budget: Budget, synthetic: int
) -> None:
    examples, general = (
        corpus(FULL, "curated/full"),
        {"synthetic": rows("synthetic", SYNTHETIC, "synthetic/40960")},
    )
    expected = released(examples, plan(budget, FULL), True, random.Random(0))
    if synthetic:
        expected += released(general, {"synthetic": synthetic}, False, random.Random(0))
        budget = Budget({**budget.amounts, "synthetic": synthetic})
        examples = {**general, **examples}
    assert sorted(ids(pick(examples, budget, seed=0, select="paper"))) == sorted(expected)


@pytest.mark.parametrize("total", [10, 2560, SYNTHETIC])
def test_paper_selection_of_synthetic_is_the_released_one(total: int) -> None:
    general = {"synthetic": rows("synthetic", SYNTHETIC, "synthetic/40960")}
    expected = released(general, {"synthetic": total}, False, random.Random(0))
    assert ids(pick(general, Budget({"synthetic": total}), seed=0, select="paper")) == expected


def test_a_ledger_survives_its_file() -> None:
    ledger = Ledger({"math": Line(16, 100, 16), "code": Line(16, 20, 16)}).with_trained(
        {"math": 15, "code": 16}, {"math": 1}
    )
    assert ledger.lines["math"] == Line(16, 100, 16, 1, 15)
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger
    assert Ledger({}).total() == Line(0, 0, 0)
