"""A family's directory, read: the scores are those of the best checkpoint, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_growth as small

from doitune.errors import CheckpointError, UsageError
from doitune.growth.folder import GROWTH, find_growth, is_growth, read_growth
from doitune.growth.measured import Member, Score
from doitune.run.layout import DONE, LEDGER, REPORT, evaluation_folder, step_name

STOCK = {"biology": 40, "math": 30}


def member(name: str, rows: dict[str, int], **more: object) -> Member:
    return Member(name, "equal", "demo", "curated", 0, rows, **more)  # type: ignore[arg-type]


A = member("demo-equal-4-s0", {"biology": 4, "math": 4})
B = member("demo-equal-8-s0", {"biology": 8, "math": 8}, settings=("lora.rank=8",))
VALID, TEST = {"biology": 5, "math": 3}, {"biology": 6, "math": 2, "ceval_physician": 4}


@pytest.fixture
def growth(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "small"
    small.write_record(folder, (A, B), STOCK)
    small.write_member(folder, A, {"doit-valid": VALID, "doit-test": TEST}, items=10)
    small.write_base(folder, "demo", {"doit-valid": VALID, "doit-test": TEST}, items=10)
    return folder


def test_scores_are_those_of_the_best_checkpoint(growth: Path) -> None:
    """Trap: another checkpoint of the run was evaluated, too."""
    small.write_report(growth / A.name, "doit-test", step_name(48), {"biology": 10, "math": 10}, 10)
    found = read_growth(growth)
    (only,) = found.members
    assert (only.step, only.rows, only.member) == (40, {"biology": 4, "math": 4}, A)
    assert only.scores["valid"] == {"biology": Score(5, 10, 0.25), "math": Score(3, 10, 0.25)}
    assert only.scores["test"]["ceval_physician"] == Score(4, 10, 0.25)
    assert found.base["demo"]["test"]["math"] == Score(2, 10, 0.25)
    assert (found.abilities, found.out_of_domain) == (("biology", "math"), ("ceval_physician",))
    assert found.stock == STOCK and found.titles["math"] == "COT for Grad-Math"


def test_a_member_that_is_not_measured_is_named(growth: Path) -> None:
    """Not begun, trained and not asked, asked in part, not trained to its end: each is unfinished."""
    assert read_growth(growth).unfinished == (B,)
    small.write_member(growth, B, {"doit-valid": VALID}, items=10)
    assert read_growth(growth).unfinished == (B,)
    small.write_report(growth / B.name, "doit-test", step_name(40), TEST, 10, asked=6)
    assert read_growth(growth).unfinished == (B,)
    small.write_report(growth / B.name, "doit-test", step_name(40), TEST, 10)
    whole = read_growth(growth)
    assert not whole.unfinished and [one.member.name for one in whole.members] == [A.name, B.name]
    assert whole.members[1].member.settings == ("lora.rank=8",)
    (growth / B.name / DONE).unlink()
    assert read_growth(growth).unfinished == (B,)


def test_rows_are_what_was_learnt_from(growth: Path) -> None:
    """Trap: a row that encoding dropped was planned, and taught nothing."""
    path = growth / A.name / LEDGER
    ledger = json.loads(path.read_text())
    ledger["math"]["trained"] = 3
    path.write_text(json.dumps(ledger))
    assert read_growth(growth).members[0].rows == {"biology": 4, "math": 3}


def test_the_same_directory_reads_the_same(growth: Path) -> None:
    assert read_growth(growth) == read_growth(growth)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "doitune.growth/9"}', "[1]"])
def test_a_damaged_record_says_which_file(growth: Path, text: str) -> None:
    (growth / GROWTH).write_text(text)
    with pytest.raises(CheckpointError, match=r"growth\.json") as error:
        read_growth(growth)
    assert error.value.hint


def test_a_damaged_report_says_which_file(growth: Path) -> None:
    path = evaluation_folder(growth / A.name, "doit-test", step_name(40)) / REPORT
    path.write_text('{"suite": "doit-test"}')
    with pytest.raises(CheckpointError, match=r"report\.json"):
        read_growth(growth)


def test_a_growth_is_found_by_its_name_or_its_folder(growth: Path) -> None:
    runs = growth.parent
    assert is_growth(growth) and not is_growth(runs)
    assert find_growth("small", runs) == growth == find_growth(str(growth), Path("elsewhere"))
    for wrong in ("smal", "", "last"):
        with pytest.raises(UsageError, match="small" if wrong == "smal" else "no growth"):
            find_growth(wrong, runs)
