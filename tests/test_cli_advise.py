"""`doitune advise` and `doitune grow show` as a user types them, on a family on disk that needed no model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from growth_worlds import ITEMS, NAMES, STOCK, World, designs, growth
from small_growth import SUITES, write_member

from doitune.__main__ import main
from doitune.growth.folder import GROWTH, PLAN, Record
from doitune.growth.measured import Growth
from doitune.recipe.resolve import freeze, resolve

CHANGED = ["train.max_steps=40", "train.learning_rate=0.001"]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def typed(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["doitune", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return Said(int(ended.value.code or 0), shown.out, shown.err)

    return typed


def write(folder: Path, measured: Growth, plan: str = "recipe: demo") -> None:
    """A family as `doitune grow` leaves it."""
    folder.mkdir(parents=True)
    members = tuple(one.member for one in measured.members)
    bases = {"demo": freeze(resolve("demo", overrides=CHANGED))}
    record = Record(folder.name, NAMES, {}, measured.stock, SUITES, members, bases=bases)
    (folder / GROWTH).write_text(json.dumps(record.to_json()), encoding="utf-8")
    (folder / PLAN).write_text(f"{plan}\ndesigns: {{equal: [16]}}\n", encoding="utf-8")
    for one in measured.members:
        right = {name: round(score.right) for name, score in one.scores["test"].items()}
        write_member(folder, one.member, dict.fromkeys(SUITES, right), ITEMS)


def uneven() -> Growth:
    runs = list(designs(np.random.default_rng(5), leave_one_out=False))
    return growth(World(5), runs, 5)


def test_the_recipe_is_the_familys_own_with_the_advised_rows(run: Run, tmp_path: Path) -> None:
    """Short where the plan's recipe is still what it was, whole where it is not; the same rows in both."""
    write(tmp_path / "runs" / "uneven", uneven())
    said = run("advise", "uneven", "--total", "1280")
    first = " ".join(said.out.split())
    assert said.code == 0, said.err
    assert "points over equal shares" in said.out and "doitune grow confirm runs/uneven" in said.out
    text = Path("advised.yaml").read_text(encoding="utf-8")
    assert "extends: demo" in text and "# half of its gain" in text.replace("\n    # ", " ").replace(
        "; ", "# "
    )
    recipe = resolve("advised.yaml").recipe
    rows = recipe.data.budget.abilities
    assert sum(rows.values()) == 1280 and len(set(rows.values())) > 5  # type: ignore[arg-type]
    assert recipe.data.budget.share_equally is None
    wanted = resolve("demo", overrides=CHANGED).recipe
    assert (recipe.train, recipe.model, recipe.lora) == (wanted.train, wanted.model, wanted.lora)

    again = run("advise", "uneven", "--total", "1280")
    assert again.code == 2 and "--force" in again.err
    (tmp_path / "runs" / "uneven" / PLAN).write_text("recipe: gone.yaml\ndesigns: {equal: [16]}\n")
    said = run("advise", "uneven", "--total", "1280", "--force", "--json")
    document = json.loads(said.out)
    assert document["schema"] == "doitune.advice/1" and document["verdict"] == "advised"
    assert {one["name"]: one["rows"] for one in document["shares"] if one["rows"]} == rows
    assert "extends" not in Path("advised.yaml").read_text(encoding="utf-8")
    assert resolve("advised.yaml").recipe == recipe

    losing = {
        one["name"]
        for one in document["shares"]
        if one["equal_score"]["value"] - one["score"]["value"] >= 0.02
    }
    costs = first.partition("It costs ")[2].partition(" Other goals: --worst")[0]
    assert losing and {name for name in rows if name in costs} == losing, "what the advice takes away is said"


def test_no_reason_writes_equal_shares_and_thin_writes_nothing(run: Run, tmp_path: Path) -> None:
    same = World(1, needs=(150, 150), flat=0)
    runs = list(designs(np.random.default_rng(1), leave_one_out=False))
    write(tmp_path / "runs" / "even", growth(same, runs, 1))
    said = run("advise", "even", "--total", "1280")
    assert said.code == 0 and "no reason to leave them" in said.out
    assert set(resolve("advised.yaml").recipe.data.budget.abilities.values()) == {128}

    few = uneven()
    few = replace(few, members=few.members[:2])
    write(tmp_path / "runs" / "few", few)
    said = run("advise", "few", "--total", "1280", "--out", "few.yaml")
    assert said.code == 65 and "too thin to advise" in said.err
    assert "3 different budgets" in said.err and said.err.count("error:") == 1
    assert not Path("few.yaml").exists()
    said = run("advise", "few", "--total", str(10 * STOCK + 1))
    assert said.code == 65 or "there already" in said.err


def test_what_a_growth_says_is_a_table(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "runs" / "uneven", uneven())
    said = run("grow", "show", "uneven")
    assert said.code == 0, said.err
    assert "points a doubling" in said.out and "responsive" in said.out
    assert "next: doitune advise runs/uneven --total ROWS" in said.out
    document = json.loads(run("grow", "show", "uneven", "--json").out)
    assert document["schema"] == "doitune.conclusions/1"
    assert [one["name"] for one in document["curves"]] == list(NAMES)
    assert run("grow", "show", "unheard").code == 2

    path = tmp_path / "runs" / "uneven" / GROWTH
    path.write_text(json.dumps({**json.loads(path.read_text()), "confirms": "first"}))
    said = run("grow", "show", "uneven")
    assert "doitune report first" in said.out and "next: doitune advise" not in said.out
