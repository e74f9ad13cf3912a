"""Members held against each other: seeds do not make questions more, settings are chosen on valid and judged on
test, and advice differs from equal shares by its budget alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_growth as small

from doitune.console.growth import show_growth
from doitune.errors import DataError, RecipeError, UsageError
from doitune.evals.compare import Side, compare
from doitune.evals.report import Outcome
from doitune.growth import contrast as contrasts
from doitune.growth.contrast import contrast, sweep
from doitune.growth.family.confirm import confirming
from doitune.growth.family.expand import recipe_of
from doitune.growth.folder import GROWTH, Record, read_growth, read_record
from doitune.growth.measured import Member
from doitune.recipe.resolve import diff, freeze, resolve
from doitune.system.disk import write_json

SETS = ("biology", "math")


def side(right: dict[str, int], items: int = 40) -> Side:
    """The first `right` of each set's questions are answered."""
    outcomes = {
        f"{name}#{number}": Outcome(f"{name}#{number}", name, float(number < right[name]), 0.25)
        for name in SETS
        for number in range(items)
    }
    return Side("x", "doit-test", 0, outcomes, dict.fromkeys(outcomes, "d"), SETS, SETS)


def member(kind: str, seed: int, **more: object) -> Member:
    return Member(f"demo-{kind}-s{seed}", "equal", "demo", "curated", seed, {"math": 4}, **more)  # type: ignore[arg-type]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Side]:
    """What each member answered, by its name."""
    found: dict[str, Side] = {}
    monkeypatch.setattr(contrasts, "_side", lambda growth, one, suite: found[one.name])
    return found


def test_three_seeds_of_the_same_answers_are_no_surer_than_one(answers: dict[str, Side]) -> None:
    """Trap: 80 questions counted as 240, so that every difference of a question is three independent ones."""
    for seed in (0, 1, 2):
        answers[f"demo-a-s{seed}"] = side({"biology": 10, "math": 10})
        answers[f"demo-b-s{seed}"] = side({"biology": 16, "math": 13})
    one = contrast(Path(), [member("a", 0)], [member("b", 0)])
    three = contrast(Path(), [member("a", n) for n in range(3)], [member("b", n) for n in range(3)])
    assert one.together.mean.difference == pytest.approx(9 / 80)
    assert three.together.mean.difference == pytest.approx(9 / 80) and three.seeds == (0, 1, 2)
    assert three.together.mean.mcnemar_p == pytest.approx(one.together.mean.mcnemar_p, rel=1e-6)
    plain = compare(side({"biology": 10, "math": 10}), side({"biology": 16, "math": 13})).mean
    assert one.together.mean.mcnemar_p == plain.mcnemar_p
    width = [found.together.mean.high - found.together.mean.low for found in (one, three)]
    assert width[1] > 0.9 * width[0]
    assert three.better == 3 and len(three.each) == 3


def test_each_seed_shows_its_own_difference(answers: dict[str, Side]) -> None:
    answers |= {
        "demo-a-s0": side({"biology": 10, "math": 10}),
        "demo-b-s0": side({"biology": 20, "math": 10}),
        "demo-a-s1": side({"biology": 20, "math": 10}),
        "demo-b-s1": side({"biology": 14, "math": 10}),
    }
    found = contrast(Path(), [member("a", 1), member("a", 0)], [member("b", 0), member("b", 1)])
    assert [round(80 * one.difference) for one in found.each] == [10, -6] and found.better == 1
    with pytest.raises(UsageError, match="no seed"):
        contrast(Path(), [member("a", 3)], [member("b", 4)])


def test_settings_are_chosen_on_valid_and_judged_on_test(
    answers: dict[str, Side], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trap: the one that is best on test is called the best."""
    own, bold, wild = (), ("lora.rank=8",), ("lora.rank=64",)
    valid = {own: 4, bold: 6, wild: 5}
    test = {own: 10, bold: 12, wild: 38}
    members = tuple(
        Member(f"demo-{place}-s0", "settings", "demo", "curated", 0, {"math": 4}, 0, settings)
        for place, settings in enumerate((own, bold, wild))
    )
    small.write_record(tmp_path / "runs", members, dict.fromkeys(SETS, 40))
    for one in members:
        scores = {"doit-valid": dict.fromkeys(SETS, valid[one.settings]), "doit-test": dict.fromkeys(SETS, 5)}
        small.write_member(tmp_path / "runs", one, scores, items=10)
        answers[one.name] = side(dict.fromkeys(SETS, test[one.settings]))
    found = sweep(tmp_path / "runs", read_growth(tmp_path / "runs"))
    assert [(one.settings, one.best) for one in found] == [(bold, True), (wild, False)]
    assert found[0].own_valid == pytest.approx(0.4) and found[0].valid == pytest.approx(0.6)
    assert found[1].contrast.together.mean.verdict == "better"
    plain = [one.contrast.together.mean.mcnemar_p for one in found]
    assert [one.holm_p for one in found] == pytest.approx([plain[0], 2 * plain[1]])
    show_growth(read_growth(tmp_path / "runs"), (), found, tmp_path / "runs")
    said = capsys.readouterr().out
    assert "measured: 3 settings" in said and "next: write it into your recipe" in said
    assert "--set lora.rank=8" in said
    assert "equal rows" not in said and "advise" not in said, "there is no curve to rest an advice on"


@pytest.fixture
def measured(tmp_path: Path, tiny_recipe: Path) -> Path:
    """A family that was measured with seeds 0 and 4."""
    folder = tmp_path / "runs" / "pilot"
    small.write_record(folder, (member("a", 0), member("a", 4)), {"biology": 40, "math": 9})
    text = freeze(resolve(str(tiny_recipe), overrides=["train.max_steps=7"]))
    record = read_record(folder)
    whole = Record(**{**vars(record), "bases": {"demo": text}})
    write_json(folder / GROWTH, whole.to_json())
    return folder


def advice(tmp_path: Path, budget: str) -> str:
    path = tmp_path / "advised.yaml"
    path.write_text(f"extends: own\ntrain: {{epochs: 9}}\ndata: {{budget: {budget}}}\n", encoding="utf-8")
    return str(path)


def test_both_arms_differ_by_their_budget_alone(measured: Path, tmp_path: Path) -> None:
    """Trap: advice that is tried with other seeds, steps or rows in all than equal shares are."""
    found = confirming(measured, advice(tmp_path, "{biology: 30, math: 2}"), name="c", seeds=3)
    assert [one.seed for one in found.members] == [5, 5, 6, 6, 7, 7], "none is one of the measured"
    for place in range(0, 6, 2):
        equal, advised = found.members[place : place + 2]
        assert (equal.design, advised.design) == ("recipe", "advised")
        assert equal.rows == {"biology": 23, "math": 9}, "math has no more than 9 rows"
        assert advised.rows == {"biology": 30, "math": 2}
        a, b = (recipe_of(found.recipes[one.name], one.name).recipe for one in (equal, advised))
        assert {one.field for one in diff(a, b)} == {"data.budget.biology", "data.budget.math"}
        assert (b.train.max_steps, b.train.epochs) == (7, 2), "as the measured family trains"
        assert b.train.seed == b.data.seed == equal.seed and b.data.select == "nested"


@pytest.mark.parametrize("budget", ["{biology: 30, synthetic: 8}", "{history: 4}", "{biology: 41}"])
def test_advice_for_other_rows_is_refused(measured: Path, tmp_path: Path, budget: str) -> None:
    with pytest.raises((RecipeError, DataError), match=r"history|biology|budget"):
        confirming(measured, advice(tmp_path, budget), name="c", seeds=1)
    with pytest.raises(UsageError, match="no runs of 7b"):
        confirming(measured, advice(tmp_path, "{biology: 4}"), name="c", seeds=1, model="7b")
